"""State dicts: those of authors into our modules, with a report of the entries that fit, and into files."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from ... import models
from ...errors import WeightsError
from ...io.files import atomic_write

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
