"""State dicts of authors in our modules, with a report of the entries that fit; conversion of checkpoints."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from ... import cards, models
from ...errors import ConfigError, WeightsError
from ...faces.alignment import TEMPLATES
from ...io.files import atomic_write
from ...labels import LABEL_SETS, label_set
from ...registry import lookup
from ..info import described
from .reading import Checkpoint, read_checkpoint

PRETRAINING = "pretraining."
"""`models.author_mapping` puts before these words what served another task: the last layers of a network that only starts this
one."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of a checkpoint: our names of the entries that were loaded, and the file's names of the unused ones.

    Entries that are `missing` in the file, by our names, keep their values, as those of `shape_mismatch`, (our name, the file's
    shape, our shape), do.
    """

    loaded: tuple[str, ...]
    unused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    shape_mismatch: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()

    def summary(self) -> str:
        """Return one line: counts, and the first names of each kind."""
        other = [f"{name} is {_shape(theirs)} there and {_shape(ours)} here" for name, theirs, ours in self.shape_mismatch]
        parts = [f"{len(self.loaded)} tensors loaded"]
        for what, names in (("unused", self.unused), ("missing", self.missing), ("of another shape", other)):
            if names:
                parts.append(f"{len(names)} {what} ({_first(names)})")
        return ", ".join(parts)


def load_author_state(
    model: nn.Module, name: str, state: Mapping[str, Tensor], *, strict: bool = True, partial: bool = False
) -> LoadReport:
    """Set the parameters and buffers of a network from a state dict under its authors' names.

    With `partial` the file contains initial weights from another network:

    | file | network | loaded entries |
    |---|---|---|
    | ResNet-18 of MS-Celeb-1M | `dan`, `global-cbam` | the backbone |
    | MFN of MS-Celeb-1M | `ddamfn`, `ddamfn-mtl` | the backbone |
    | ResNet-50 of VGGFace2 | `dda-resnet50`, `resnet50` | stem and stages; attention keeps its values |
    | DDAMFN of AffectNet-8 | `ddamfn-mtl` | all but the layers of the tasks |

    The name is that of the network in `mien.models`, which selects the authors' names of its parts. `strict` refuses a file
    that does not fit exactly: counters of BatchNorm, which old files lack, may be missing, and what the network omits with
    `slim=True` may be unused; with `partial`, entries may be missing, the last layers may be of other classes, but all other
    entries of the file must match. Raises WeightsError: no entry of the file fits, or `strict` and an entry does not; the
    network is then as it was.
    """
    ours = model.state_dict()
    renamed = models.author_mapping(name)(state)
    origin = {id(tensor): theirs for theirs, tensor in state.items()}
    dead = models.dead_prefixes(model)
    # Entries that may be missing come last, so that a message begins with those that matter.
    expected = (*dead, PRETRAINING)
    unplaced = sorted((key for key in renamed if key not in ours), key=lambda key: key.startswith(expected))
    report = dataclasses.replace(comparison(ours, renamed), unused=tuple(origin.get(id(renamed[key]), key) for key in unplaced))
    if not report.loaded:
        found = f"its entries are {_first(tuple(state))}"
        raise WeightsError(f"no entry of the file fits the model {name!r}: {found}; name another")
    wrong = any(not key.startswith(expected) for key in unplaced)
    if not partial:
        wrong |= bool(report.shape_mismatch) or any(not key.endswith(".num_batches_tracked") for key in report.missing)
    if strict and wrong:
        raise WeightsError(f"the file does not fit the model {name!r}: {report.summary()}; check the model and its options")
    assign(model, {key: renamed[key] for key in report.loaded})
    return report


def comparison(ours: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> LoadReport:
    """Return which entries of a state dict `found` fit a network with the state dict `ours`."""
    common = [(key, tuple(found[key].shape), tuple(ours[key].shape)) for key in found if key in ours]
    return LoadReport(
        loaded=tuple(key for key, theirs, own in common if theirs == own),
        unused=tuple(key for key in found if key not in ours),
        missing=tuple(key for key in ours if key not in found),
        shape_mismatch=tuple(each for each in common if each[1] != each[2]),
    )


@torch.no_grad()
def assign(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set entries of the state dict of a network."""
    ours = network.state_dict()
    for key, tensor in tensors.items():
        ours[key].copy_(tensor)


def save_state(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors atomically; tied weights, which the format does not know, each as their own. WeightsError: that fails."""
    with atomic_write(path, error=WeightsError) as part:
        try:
            save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}, part)
        except SafetensorError as error:  # the error of the system as an error of the package
            raise OSError(error) from error


def _first(names: Sequence[str], count: int = 4) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _shape(size: Sequence[int]) -> str:
    return "×".join(map(str, size)) or "a single number"


AS_IS = "as-is"  # in place of a model's name: only the container changes

IMAGENET, UNIT = (cards.Input(size=(224, 224), **cards.VALUE_RANGES[name]) for name in ("imagenet", "unit"))

LABEL_CROPS: Mapping[str, str] = {"fer2013": "fer2013", "ferplus": "fer2013"}
"""Label set → crop template of its dataset; the aligned images of the other datasets are nearest to `DEFAULT_CROP`."""
DEFAULT_CROP = "arcface112"

# Role → output field of the multi-task network besides the scores.
ROLES: Mapping[str, str] = {"valence_arousal": "valence_arousal", "action_units": "action_logits"}

CV2_RESIZED = ("fer2013", "pooled6")  # datasets whose authors resized images with OpenCV, without antialiasing


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What `import_checkpoint` wrote from a checkpoint: the `.safetensors` file of weights, and the report of its entries.

    There is no card for initial weights of a part of a network, and neither card nor report if only the container changed.
    """

    weights: Path
    card: Path | None
    checkpoint: Checkpoint
    load: LoadReport | None


def import_checkpoint(
    model: str,
    file: str | Path,
    out: str | Path,
    *,
    labels: str | None = None,
    strict: bool = True,
    partial: bool = False,
    options: Mapping[str, Any] | None = None,
    crop: str | None = None,
) -> ImportReport:
    """Read a checkpoint, check that it fits, and write it as `.safetensors` with its card (`.toml`) beside it.

    The model is a name of `mien.models`; or `"as-is"` to keep the file's own names, for networks that start from a timm or
    torchvision backbone. `labels` is the label set in whose order the classes are; it may be omitted where the authors of the
    network used one order only. `strict` and `partial` are those of `load_author_state`; with `partial` the entries that fit
    are written under our names, without a card, because they are not a classifier. The options of the network add to those read
    from the file (classes, heads). `crop` is the template in `mien.faces.alignment.TEMPLATES` for cropping faces from photos;
    None: that of the authors, or of the dataset with these labels.

    Raises WeightsError: the file cannot be read or does not fit, or the new one cannot be written; ConfigError: the classes'
    order is not known, or `out` has another ending; UnknownName: unknown model or label set.
    """
    file, out = Path(file), Path(out)
    if crop:
        lookup(crop, TEMPLATES, "alignment template", plugins=False)
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out} must end in .safetensors", path=out)
    if model != AS_IS:
        models.info(model)  # names are checked before a large file is read
    checkpoint = read_checkpoint(file)
    if model == AS_IS:
        save_state(checkpoint.state, out)
        return ImportReport(out, None, checkpoint, None)
    renamed = models.author_mapping(model)(checkpoint.state)
    found = {**_options_of(model, renamed), **(options or {})}
    if partial:
        network = models.build(model, **found)
        report = load_author_state(network, model, checkpoint.state, strict=strict, partial=True)
        ours = network.state_dict()
        save_state({name: ours[name] for name in report.loaded}, out)
        return ImportReport(out, None, checkpoint, report)
    if "num_classes" not in found:
        found["num_classes"] = _classes(model, renamed, found)
    classes, origin = _labels(model, labels, found["num_classes"])
    network = models.build(model, **found)
    report = load_author_state(network, model, checkpoint.state, strict=strict)
    save_state(network.state_dict(), out)
    if crop is None:
        crop = described().get(model, {}).get("crop", LABEL_CROPS.get(origin, DEFAULT_CROP))
    about = models.info(model)
    sides = {each.name: each.size for each in about.inputs}
    side = about.inputs[0].size
    # DDA's and its baselines' images of FER2013 were not normalized, although the weights they start from expect it.
    feed = UNIT if origin == "fer2013" and model.removeprefix("dda-").startswith("resnet") else IMAGENET
    resize = "cv2-bilinear" if origin in CV2_RESIZED else "pil-bilinear"
    figures = {k: v for k, v in checkpoint.metadata.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    card = cards.Card(
        name=out.stem,
        kind="classifier",
        summary=about.summary,
        file=out.name,
        sha256=cards.sha256(out),
        license="NOASSERTION",
        license_note=f"{about.license}. Ask the authors before you pass the weights on.",
        origin=f"{file.name} ({checkpoint.container})",
        origin_sha256=cards.sha256(file),
        labels=classes,
        outputs={"scores": "logits", **(ROLES if model == "ddamfn-mtl" else {})},
        input=dataclasses.replace(feed, size=(side, side), resize=resize),
        crop=cards.Crop(template=crop) if crop else None,
        network={"architecture": model, "options": found},
        training={"paper": about.paper, "repository": about.repository, "file_says": figures, "import": report.summary()},
        reading={"inputs": sides} if len(sides) > 1 else {},
    )
    path = out.with_suffix(".toml")
    cards.write(card, path)
    cards.read(path)
    return ImportReport(out, path, checkpoint, report)


def _options_of(model: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the options that the entries of a file give away: number of heads, form of the multi-task net."""
    found: dict[str, Any] = {}
    if model in ("dan", "ddamfn", "ddamfn-mtl"):
        heads = {match[1] for name in state if (match := re.match(r"heads\.(\d+)\.", name))}
        found |= {"num_heads": len(heads)} if heads else {}
    if model == "ddamfn-mtl" and "classifier.expression.weight" in state:
        nine = len(state["classifier.expression.weight"]) == 9
        found["form"] = "code" if nine else "default" if "classifier.dense.0.weight" in state else "paper"
    return found


def _classes(model: str, state: Mapping[str, Tensor], options: Mapping[str, Any]) -> int:
    """Return the number of classes of a file: the length of the entries that depend on `num_classes`."""
    with torch.device("meta"):
        seven, eight = (models.build(model, **options, num_classes=count).state_dict() for count in (7, 8))
    growing = [name for name in seven if seven[name].shape != eight[name].shape]
    lengths = {len(state[name]) for name in growing if name in state and state[name].ndim}
    if len(lengths) != 1:
        found = f"contradictory ({sorted(lengths)})" if lengths else "missing"
        entries = f"its entries are {', '.join(list(state)[:6])} …"
        raise WeightsError(f"the number of classes of {model!r} is {found} in the file; {entries}; name another model")
    return lengths.pop()


def _labels(model: str, name: str | None, count: int) -> tuple[tuple[str, ...], str]:
    """Return the classes of the columns in order, and the label set they are of."""
    if name is None:
        usual = described().get(model, {}).get("label_sets", ())
        known = [each for each in usual if len(label_set(each)) in (count, count - (model == "ddamfn-mtl"))]
        if not known:
            fitting = ", ".join(each for each, classes in LABEL_SETS.items() if len(classes) == count) or "none that is known"
            raise ConfigError(f"the file has {count} classes in an unknown order; name the label set: {fitting}")
        (name,) = known
    classes = label_set(name)
    if model == "ddamfn-mtl" and len(classes) == count - 1:
        classes = (*classes, "never labeled")  # the ninth column of the published form
    if len(classes) != count:
        raise ConfigError(f"label set {name!r} has {len(classes)} classes, the file {count}; name another")
    return classes, name
