"""Conversion of an authors' checkpoint into a `.safetensors` file with its card."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import cards, models
from ...cards import sha256
from ...errors import ConfigError, WeightsError
from ...faces.alignment import TEMPLATES
from ...labels import LABEL_SETS, label_set
from ...registry import lookup
from ..info import described
from .checkpoints import Checkpoint, read_checkpoint
from .loading import LoadReport, load_author_state, save_state

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
        sha256=sha256(out),
        license="NOASSERTION",
        license_note=f"{about.license}. Ask the authors before you pass the weights on.",
        origin=f"{file.name} ({checkpoint.container})",
        origin_sha256=sha256(file),
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
