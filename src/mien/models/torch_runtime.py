"""Run a `.safetensors` file by its card: the same outputs as the exported network, without exporting.

The card names the architecture (`network`), the role of each output (`outputs`: role → output field of the network), and the
temperature. Fields come out as what their role means: probabilities of classes, of action units, or the values as they are.

Any network can have further linear heads on its `feature` (`add_heads`): for a second set of labels, or the labels of another
dataset. A head is an `nn.Linear` under `extra_heads`, computed by a hook after the network; its scores are a further field of
the output. Names and values of everything else stay the same.
"""

import os
from collections import namedtuple
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .. import models
from ..cards import Card
from ..errors import ConfigError, MienError, WeightsError
from ..faces.preprocessing import IMAGE, Preprocess
from ..runtime.devices import Device, choice
from ..runtime.open_model import Batch

# Role → what makes its meaning of a field. Every other role names scores of classes and becomes probabilities.
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "valence_arousal": lambda values: values.clamp(-1, 1),
    "action_units": torch.sigmoid,
    "feature": lambda values: values,
}

# Environment variable: architectures outside the package, `module:function` between commas, that cards may name.
PLUGINS = "MIEN_PLUGINS"

FEATURE = "feature"  # field that is always given where the network has it: the vector that its last layer reads


class TorchRuntime:
    """A network of `mien.models` as a function from a batch to its named outputs. Safe to call from several threads.

    It runs on the device that is chosen where it is opened (see `mien.runtime.devices`), with `threads` threads inside one
    call; 0 leaves torch's own number. `compile` runs it through `torch.compile`: the first calls take a minute, and again when
    the number of faces changes; those after them are faster. Worth it for many images. Needs a C++ compiler on a CPU.

    Raises ConfigError, WeightsError or UnknownName if the device is not there, or card and file do not describe a network.
    """

    def __init__(self, card: Card, threads: int = 1, *, compile: bool = False) -> None:  # noqa: A002
        self.card, self.threads = card, threads
        place = torch_device(choice())
        self.device = named(place)
        self.network = open_network(card).to(place)
        # The network itself stays plain: gradients and tracing hook its modules.
        self._answer: Callable[..., Any] = torch.compile(self.network) if compile else self.network
        self._place = place
        # The authors' multi-task DDAMFN has nine expression columns for eight labels; the last one is never labeled.
        self._unlabeled = card.network.get("options", {}).get("num_classes", 0) > len(card.labels)
        output = self._output_type()
        self.fields = tuple(output._fields)
        self.outputs = [*self.fields, *(name for name, value in vars(output).items() if isinstance(value, property))]

    def _output_type(self) -> Any:
        """Return the NamedTuple that the network returns: as annotated, or that of its output for a blank image."""
        annotated = get_type_hints(type(self.network).forward).get("return")
        if hasattr(annotated, "_fields"):
            return output_type(self.network, annotated)  # pyrefly: ignore
        input_ = Preprocess.of(self.card).input
        blank = torch.zeros(1, 1 if input_.color == "gray" else 3, *input_.size, device=self._place)
        with torch.inference_mode():
            output = self.network(blank)
        if not hasattr(output, "_fields"):
            kind = type(output).__name__
            raise WeightsError(f"the output of {self.card.name} must be a NamedTuple, got {kind}", value=kind)
        return type(output)

    def __call__(self, batch: Batch, /) -> dict[str, np.ndarray]:
        """Return the outputs that the card names, and the feature, by name for a float32 batch."""
        before = torch.get_num_threads()
        if self.threads:
            torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():
                output = run_network(self._answer, self.tensors(batch))
            return {name: value.float().cpu().numpy() for name, value in self.meanings(output).items()}
        finally:
            torch.set_num_threads(before)

    def tensors(self, batch: Batch) -> dict[str, Tensor]:
        """Return a batch as the network takes it: name → tensor on its device; a lone array is the image of the face."""
        images = batch if isinstance(batch, Mapping) else {IMAGE: batch}
        return {name: torch.from_numpy(value).to(self._place) for name, value in images.items()}

    def meanings(self, output: Any) -> dict[str, Tensor]:
        """Return field → value in the unit of its role; WeightsError if the network does not give a field of the card."""
        roles = {FEATURE: FEATURE} if FEATURE in self.fields else {}
        # The scores come last: where another role names the same field, it is calibrated too.
        roles |= {role: name for role, name in self.card.outputs.items() if role != "scores"}
        roles["scores"] = self.card.outputs["scores"]
        found = {}
        for role, name in roles.items():
            value = getattr(output, name)
            if value is None:
                lack = f"{self.card.name} does not give {name!r}, which its card names for {role}"
                raise WeightsError(f"{lack}; correct the outputs on the card")
            value = value.float()
            if role == "scores" and self._unlabeled:
                value = value[:, : len(self.card.labels)]
                value = value if name in self.fields else value / value.sum(1, keepdim=True)
            if name not in self.fields:
                found[name] = value
            elif role in ACTIVATIONS:
                found[name] = ACTIVATIONS[role](value)
            else:
                found[name] = (value / (self.card.calibration.temperature if role == "scores" else 1)).softmax(1)
        return found


def run_network(network: Callable[..., Any], images: Mapping[str, Tensor]) -> Any:
    """Return the output of a network for images (N, C, H, W); the face is its first argument, regions are passed by name."""
    return network(images[IMAGE], **{name: image for name, image in images.items() if name != IMAGE})


def multiply_accumulates(network: nn.Module, images: Mapping[str, Tensor]) -> tuple[int, Any]:
    """Return the multiply-accumulates of a network for these images, and its output."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = network(**images) if len(images) > 1 else network(*images.values())
    return counter.get_total_flops() // 2, output


def open_network(card: Card) -> nn.Module:
    """Return the network of a card with its weights, in evaluation mode.

    Raises WeightsError: the card or the file does not fit, or the architecture is code outside the package that the user has
    not named in `MIEN_PLUGINS`; UnknownName: unknown architecture.
    """
    name, options = card.network.get("architecture"), card.network.get("options", {})
    if not name:
        raise WeightsError(f"the card of {card.name} lacks network.architecture, so {card.file} cannot be run; write it there")
    trusted = name in os.environ.get(PLUGINS, "").split(",")
    if ":" in name and not name.startswith("timm:") and not trusted:
        refusal = f"the card of {card.name} names the architecture {name!r}, which is code outside mien"
        advice = f"If you trust that code, set the environment variable {PLUGINS}={name}"
        raise WeightsError(f"{refusal}; a card alone must not run it. {advice}")
    # A card must not make the network fetch or open other files.
    options = {key: value for key, value in options.items() if "pretrained" not in key and "checkpoint" not in key}
    try:
        state = safetensors.torch.load_file(card.weights)
    except safetensors.SafetensorError as error:
        problem = f"{card.weights} is corrupt or not a safetensors file: {error}"
        raise WeightsError(f"{problem}; download or export it again") from error
    try:
        network = models.build(name, plugins=trusted, **options)
        if card.heads:
            sizes = {head: len(classes) for head, classes in card.heads.items()}
            add_heads(network, sizes, state[f"{PREFIX}{next(iter(sizes))}.weight"].shape[1])
        network.load_state_dict(state, strict=True)
    except MienError:
        raise
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        problem = f"{card.file} does not fit {name!r} with the options and heads of its card"
        raise WeightsError(f"{problem}: {' '.join(str(error).split())[:300]}; correct them there") from error
    return network.float().eval()


PREFIX = "extra_heads."  # start of the names of the parameters of further heads


class Heads(nn.ModuleDict):
    """Linear heads by name."""

    def forward(self, feature: Tensor) -> list[Tensor]:
        """Return the scores (N, classes) of each head for features (N, D)."""
        return [head(feature) for head in self.values()]


def add_heads(network: nn.Module, sizes: Mapping[str, int], width: int) -> None:
    """Add linear heads to a network, in place: name → number of classes; `width` is the length of its `feature`."""
    network.add_module(PREFIX[:-1], Heads({name: nn.Linear(width, size) for name, size in sizes.items()}))
    network.register_forward_hook(_with_heads)


def feature_width(output: Any, names: Mapping[str, Any]) -> int:
    """Return the length of the feature in an output; ConfigError: there is none, or a head has the name of an output."""
    feature = getattr(output, "feature", None)
    if feature is None:
        raise ConfigError("model.heads: the network has no output 'feature'", value="feature", expected=output._fields)
    for name in names:
        if hasattr(output, name):
            raise ConfigError(f"model.heads: the network already has an output {name!r}; choose another name", value=name)
    return feature.shape[1]


def output_type(network: nn.Module, kind: type) -> type:
    """Return the type of the output of a network whose own `forward` returns a NamedTuple of type `kind`."""
    heads = getattr(network, PREFIX[:-1], None)
    return kind if heads is None else _extended(kind, tuple(heads))


@cache
def _extended(kind: type, names: tuple[str, ...]) -> type:
    fields = namedtuple(kind.__name__, (*kind._fields, *names))  # pyrefly: ignore
    return type(kind.__name__, (fields,), {name: value for name, value in vars(kind).items() if isinstance(value, property)})


def _with_heads(network: nn.Module, inputs: Any, output: Any) -> Any:
    heads: Any = network.extra_heads
    return _extended(type(output), tuple(heads))(*output, *heads(output.feature))


CUDA = "a build of torch for CUDA with its driver (torch.cuda.is_available() must be True)"
MPS = "macOS on Apple's processors (torch.backends.mps.is_available() must be True)"


def torch_device(device: Device) -> torch.device:
    """Return torch's device; for `auto` the best one: CUDA, then MPS, then the CPU. Raises ConfigError if it is unavailable."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    kind = ("cuda" if cuda else "mps" if mps else "cpu") if device.kind == "auto" else device.kind
    if (kind == "cuda" and not cuda) or (kind == "mps" and not mps):
        needed = CUDA if kind == "cuda" else MPS
        missing = f"torch {torch.__version__} does not find it here. It needs {needed}"
        raise ConfigError(f"device {str(device)!r}: {missing}; or take the device cpu")
    if kind != "cuda":
        return torch.device(kind)
    if device.index >= (count := torch.cuda.device_count()):
        raise ConfigError(f"device {str(device)!r}: torch finds GPUs up to cuda:{count - 1}")
    return torch.device(kind, device.index)


def named(device: torch.device) -> Device:
    """Return our name of a device of torch."""
    return Device(device.type, device.index or 0)
