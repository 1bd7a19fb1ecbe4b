"""What a network starts from: weights that were learned on something else, put where they fit (`model.init` of a recipe).

| file | into | the recipe must say |
|---|---|---|
| name of a bundled model, or an `.onnx` of ours | the network it was exported from, other classes allowed | |
| `.safetensors` | the network that wrote it, other classes allowed; a timm or torchvision backbone inside one of ours | |
| an authors' checkpoint | what `mien.models.checkpoints.load_author_state(partial=True)` lists | |
| EfficientNet-Lite0, ImageNet (`efficientnet_lite0.npz`) | `timm:tf_efficientnet_lite0` | |
| MobileNetV2, ImageNet (`mobilenet_v2.npz`) | `timm:mobilenetv2_100` | |
| MobileNetV1 of VGGFace2 (`faceres.npz`) | `timm:mobilenetv1_100` | `options = {pad_type = "same"}` |
| SFace of OpenCV's model zoo (`sface_trunk.npz`) | `mien-base` | `options = {trunk = "sface"}` |

The four `.npz` files were learned on images of a value range of their own. The first layer is changed so that it does the
same on the values that the recipe feeds. One thing cannot be carried over: the zeros around an image stand for another shade
in another value range. Best are `normalize = "half"` for Lite0 (logits change by 0.001 in 7; with `"imagenet"` by 0.25, with
`"unit"` by 0.7) and for SFace, and `"imagenet"` for the other two (no change, and features by 0.0005 in 2.6).

`faceres.npz` and exported networks come with their BatchNorm folded away: no mean or variance of any layer is known. A
network in training would then normalize by the statistics of its first batch, and compute something else than what was learned.
`settle` measures them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx.numpy_helper import to_array
from torch import Tensor, nn

from .. import cards, models
from ..cards import Input, bundled_file
from ..errors import WeightsError, did_you_mean
from ..models.checkpoints import LoadReport, read_checkpoint
from ..models.checkpoints.loading import PRETRAINING


def exported_state(model: nn.Module, path: str | Path) -> dict[str, Tensor]:
    """Return the entries of a network's state dict that follow from an ONNX file of it.

    BatchNorm gets mean 0, variance 1, and the bias of the convolution it was folded into; `starts.settle` gives it the
    statistics that training needs.

    Args:
        model: the network that was exported, or one with other classes.
        path: the ONNX file.

    Raises:
        WeightsError: the file is no ONNX network, or has none of this network's layers.
    """
    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf raises classes of its own
        raise WeightsError(f"{path} cannot be read as an ONNX network: {error}; check the file") from error
    constants = {entry.name: to_array(entry) for entry in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and all(name in constants for name in node.input):
            constants[node.output[0]] = _dequantized(*(constants[name] for name in node.input))
        elif node.op_type in ("Cast", "Identity") and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    layers = dict(model.named_modules())
    norms = _norms(layers)
    found: dict[str, Tensor] = {}
    for node in graph.node:
        name = _layer(node.name, layers)
        if node.op_type not in ("Conv", "Gemm") or name is None or node.input[1] not in constants:
            continue
        found[f"{name}.weight"] = _tensor(constants[node.input[1]])
        offset = _tensor(constants[node.input[2]]) if len(node.input) > 2 else torch.zeros(len(found[f"{name}.weight"]))
        if getattr(layers[name], "bias", None) is not None:
            found[f"{name}.bias"] = offset
        elif norm := norms.get(name):
            found[f"{norm}.weight"] = torch.full_like(offset, (1 + layers[norm].eps) ** 0.5)  # pyrefly: ignore
            found[f"{norm}.bias"] = offset
            found[f"{norm}.running_mean"], found[f"{norm}.running_var"] = torch.zeros_like(offset), torch.ones_like(offset)
    if not found:
        raise WeightsError(
            f"{path} has no layer of {type(model).__name__}; start from a file that was exported from that network"
        )
    return found


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _dequantized(value: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """Return the float values of an array in 8 or 32 bits, scaled as a whole or along its first axis."""
    along = (-1, *(1,) * (value.ndim - 1)) if scale.ndim else ()
    return (value.astype(np.float32) - zero.astype(np.float32).reshape(along)) * scale.reshape(along)


def _layer(node: str, layers: Mapping[str, nn.Module]) -> str | None:
    """Return the layer whose operation a node is: `/model/blocks/blocks.0/conv1/Conv` → `blocks.0.conv1`."""
    parts = node.strip("/").split("/")[:-1]
    short: list[str] = []
    for part in parts:
        if short and part.startswith(f"{short[-1]}."):
            short[-1] = part
        else:
            short.append(part)
    return next((name for first in range(len(short)) if (name := ".".join(short[first:])) in layers), None)


def _norms(layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """Return the BatchNorm that follows each convolution in the order of registration."""
    names = list(layers)
    pairs = itertools.pairwise(names)
    return {a: b for a, b in pairs if isinstance(layers[a], nn.Conv2d) and isinstance(layers[b], nn.BatchNorm2d)}


IMAGENET = Input(size=(224, 224), scale=1 / 255, offset=(-0.485, -0.456, -0.406), std=(0.229, 0.224, 0.225))
COUNTER = ".num_batches_tracked"


@dataclass(frozen=True, slots=True)
class StartReport(LoadReport):
    """What became of a file of weights; see `LoadReport`.

    Attributes:
        layout: whose names the file was read by.
    """

    layout: str = ""

    def summary(self) -> str:
        """Return one line: counts, the first names of each kind, and the layout."""
        return f"{LoadReport.summary(self)}; read by {self.layout}"


@dataclass(frozen=True, slots=True)
class Known:
    """A file of weights whose value range and first layer are known."""

    mark: str
    """Entry by which the file is recognized."""
    feed: Input
    """What the network was fed, RGB."""
    stem: str
    """First convolution, after `convert`."""
    mean: str
    """Running mean of the BatchNorm that follows it."""
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    """From the file's entries to a state dict."""
    folded: bool = False
    """Whether BatchNorm's statistics are lost."""


def load_start(
    model: nn.Module, name: str, path: str | Path, *, feed: Input | None = None, images: Callable[[], Tensor] | None = None
) -> StartReport:
    """Set the weights of a network from a file that was learned on something else.

    These readings are tried, and the one that places most entries is taken: the network's own names, the names of a timm or
    torchvision network inside it, its authors' names, and the order of the entries if every kind and shape agrees (an order
    that `.safetensors` files do not keep). Layers of other classes keep their random weights. A network of one input channel
    gets the sum of the first layer over red, green and blue.

    Args:
        model: the network, from `mien.models.build`.
        name: its name there.
        path: the file, or the name of a bundled model.
        feed: the values that the network will be fed, as its card will say; None: RGB by ImageNet's mean and deviation. It only
            matters for the `.npz` files of the module's table; whoever starts from others feeds what they were fed.
        images: gives (N, C, H, W) training images as they are fed, a hundred or more; only `faceres.npz` and
            exported networks need them.

    Raises:
        WeightsError: the file cannot be read, does not fit, or lacks what only `images` can tell. The network is as it was.

    Example:
        >>> network = models.build("timm:tf_efficientnet_lite0", num_classes=7)                       # doctest: +SKIP
        >>> load_start(network, "timm:tf_efficientnet_lite0", "efficientnet_lite0.npz").summary()     # doctest: +SKIP
        '294 tensors loaded, 2 of another shape (model.classifier.weight is 1000×1280 there and 7×1280 here, …'
    """
    path = _file(path)
    exported = path.suffix == ".onnx"
    state = exported_state(model, path) if exported else read_checkpoint(path).state
    known = next((entry for entry in KNOWN.values() if entry.mark in state), None)
    folded = exported or (known is not None and known.folded)
    if folded and images is None:
        raise WeightsError(f"{path} lacks the statistics of BatchNorm; give training images to measure them on")
    if known:
        state = _refed(known.convert(state), known, feed or IMAGENET)
    ours = model.state_dict()
    layout, found = max(_readings(model, name, state), key=lambda reading: _fitting(ours, reading[1]))
    found = {key: _one_channel(tensor, ours.get(key)) for key, tensor in found.items()}
    fits = [key for key, tensor in found.items() if key in ours and tensor.shape == ours[key].shape]
    report = StartReport(
        loaded=tuple(fits),
        unused=tuple(key for key in found if key not in ours),
        missing=tuple(key for key in ours if key not in found and not key.endswith(COUNTER)),
        shape_mismatch=tuple(
            (key, tuple(tensor.shape), tuple(ours[key].shape))
            for key, tensor in found.items()
            if key in ours and tensor.shape != ours[key].shape
        ),
        layout=layout,
    )
    last = _last_layer(found)
    dead = models.dead_prefixes(model)
    homeless = [key for key in report.unused if not key.startswith((PRETRAINING, *dead)) and key.rpartition(".")[0] != last]
    misfits = [key for key, theirs, here in report.shape_mismatch if theirs[1:] != here[1:] or len(here) > 2]
    if not fits or homeless or misfits:
        raise WeightsError(f"{path} does not fit the model {name!r}: {report.summary()}; take another file")
    with torch.no_grad():
        for key in fits:
            ours[key].copy_(found[key])
    if folded and images is not None:
        settle(model, images())
    return report


def _file(start: str | Path) -> Path:
    """Return the file that a start names; a bundled classifier ships as one."""
    classifiers = [name for name, card in cards.bundled().items() if card.kind == "classifier"]
    if str(start) in classifiers:
        return bundled_file(f"{start}.onnx")
    if not Path(start).exists():
        hint = did_you_mean(str(start), classifiers, f"; bundled networks to start from: {', '.join(classifiers)}")
        raise WeightsError(f"there is no checkpoint {start}{hint}")
    return Path(start)


@torch.no_grad()
def settle(model: nn.Module, images: Tensor) -> None:
    """Give every BatchNorm the mean and variance that its input has on some images, and undo them in its weight and bias.

    The images are (N, C, H, W). In evaluation the network computes what it did; in training, where a batch has about these
    statistics, it now does too.
    """
    seen: dict[nn.Module, Tensor] = {}
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(lambda part, given: seen.__setitem__(part, given[0])) for norm in norms]
    before = {part: part.training for part in model.modules()}
    try:
        model.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in before.items():
            part.training = training
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None
        mean, variance = seen[norm].mean((0, 2, 3)), seen[norm].var((0, 2, 3))
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias.add_(scale * (mean - norm.running_mean))
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def _readings(model: nn.Module, name: str, state: Mapping[str, Tensor]) -> list[tuple[str, dict[str, Tensor]]]:
    """Return every way to understand a file's names, as (what it is, state dict under our names)."""
    found = [("its own names", dict(state))]
    found += [
        (f"the names of its part {part!r}", {f"{part}.{key}": tensor for key, tensor in state.items()})
        for part, _ in model.named_children()
    ]
    found.append(("its authors' names", models.author_mapping(name)(state)))
    if ordered := _in_order(model.state_dict(), state):
        found.append(("the order of its entries", ordered))
    headless = {key: tensor for key, tensor in state.items() if key.rpartition(".")[0] != _last_layer(state)}
    for part, module in model.named_children():
        if ordered := _in_order(module.state_dict(), headless):
            named = {f"{part}.{key}": tensor for key, tensor in ordered.items()}
            found.append((f"the order of its entries, in its part {part!r}", named))
    return found


def _fitting(ours: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return how good a reading is: entries that fit, and, where that is equal, fewer that are lost without a known reason."""
    fitting = sum(key in ours and tensor.shape == ours[key].shape for key, tensor in state.items())
    return fitting, -sum(key not in ours and not key.startswith(PRETRAINING) for key in state)


def _in_order(ours: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return `state` under our names, entry by entry, or None if a kind differs, or a shape between the outer layers."""
    here = [key for key in ours if not key.endswith(COUNTER)]
    there = [key for key in state if not key.endswith(COUNTER)]
    if len(here) != len(there):
        return None
    last, first = _last_layer(ours), here[0]
    for key, theirs in zip(here, there, strict=True):
        same = ours[key].shape == state[theirs].shape or key == first or key.rpartition(".")[0] == last
        if not same or key.rpartition(".")[2] != theirs.rpartition(".")[2]:
            return None
    return {key: state[theirs] for key, theirs in zip(here, there, strict=True)}


def _last_layer(state: Mapping[str, Tensor]) -> str:
    """Return the name of the last linear layer."""
    return next((key.rpartition(".")[0] for key in reversed(list(state)) if state[key].ndim == 2), "")


def _one_channel(tensor: Tensor, here: Tensor | None) -> Tensor:
    """Return the kernel for gray images of a kernel for color, where our network has one input channel."""
    gray = here is not None and here.ndim == tensor.ndim == 4 and here.shape[1] == 1 and tensor.shape[1] == 3
    return tensor.sum(1, keepdim=True) if gray else tensor


def _refed(state: dict[str, Tensor], known: Known, feed: Input) -> dict[str, Tensor]:
    """Return the state of a network that makes of the values of `feed` what the known one makes of its own."""
    scale, shift = _between(feed, known.feed)
    kernel = state[known.stem].float()
    moved = (kernel * shift[:, None, None]).sum((1, 2, 3))
    return state | {known.stem: kernel * scale[:, None, None], known.mean: state[known.mean].float() - moved}


def _between(ours: Input, theirs: Input) -> tuple[Tensor, Tensor]:
    """Return a and b of their value = a × our value + b, for each of red, green and blue."""

    def three(values: tuple[float, ...]) -> np.ndarray:
        return np.broadcast_to(np.asarray(values or (1.0,), np.float64), 3)

    pixel_scale = three(ours.std) / ours.scale  # pixel = (our value × std − offset) / scale
    pixel_shift = -three(ours.offset) / ours.scale
    scale = pixel_scale * theirs.scale / three(theirs.std)
    shift = (pixel_shift * theirs.scale + three(theirs.offset)) / three(theirs.std)
    return torch.from_numpy(scale).float(), torch.from_numpy(shift).float()


def _face_network(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the folded MobileNetV1 as timm's `mobilenetv1_100`: kernels turned, red first, BatchNorm without statistics."""
    found: dict[str, Tensor] = {}

    def layer(kernel: Tensor, name: str, offset: Tensor, norm: str, factor: Tensor | None = None) -> None:
        found[f"{name}.weight"] = kernel.float()
        one = torch.ones(len(offset))
        found[f"{norm}.weight"] = (one if factor is None else factor.float()) * (1 + 1e-5) ** 0.5  # timm's eps
        found[f"{norm}.bias"] = offset.float()
        found[f"{norm}.running_mean"], found[f"{norm}.running_var"] = torch.zeros(len(offset)), one

    stem = state["conv1/convolution/merged_input"].permute(3, 2, 0, 1).flip(1)
    layer(stem, "conv_stem", state["conv1_bn/batchnorm_1/sub"], "bn1")
    blocks = [f"blocks.{stage}.{block}" for stage, depth in enumerate((1, 2, 2, 6, 2)) for block in range(depth)]
    for number, block in enumerate(blocks, 1):
        wide, point = f"conv_dw_{number}", f"conv_pw_{number}"
        kernel = state[f"{wide}/depthwise_kernel"].permute(2, 3, 0, 1)
        norm = f"{wide}_bn/batchnorm_1"
        layer(kernel, f"{block}.conv_dw", state[f"{norm}/sub"], f"{block}.bn1", state[f"{norm}/mul"])
        kernel = state[f"{point}/convolution/merged_input"].permute(3, 2, 0, 1)
        layer(kernel, f"{block}.conv_pw", state[f"{point}_bn/batchnorm_1/sub"], f"{block}.bn2")
    return found


def _sface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the trunk under the names of `mien.models.sface.SFace`."""
    blocks = [name for index in range(2, 15) for name in (f"conv_{index}_dw", f"conv_{index}")]
    parts = {
        "conv.weight": "_conv2d_weight",
        "norm.weight": "_batchnorm_gamma",
        "norm.bias": "_batchnorm_beta",
        "norm.running_mean": "_batchnorm_moving_mean",
        "norm.running_var": "_batchnorm_moving_var",
        "act.weight": "_relu_gamma",
    }
    return {
        f"{unit}.{ours}": state[f"{name}{theirs}"].float() if "conv" in ours else state[f"{name}{theirs}"].float().flatten()
        for unit, name in enumerate(["conv_1", *blocks])
        for ours, theirs in parts.items()
    }


KNOWN: dict[str, Known] = {
    "efficientnet-lite0": Known(
        "_conv_stem.weight",
        Input(size=(224, 224), scale=1 / 128, offset=(-127 / 128,)),
        "_conv_stem.weight",
        "_bn0.running_mean",
    ),
    "mobilenet-v2": Known("features.18.0.weight", IMAGENET, "features.0.0.weight", "features.0.1.running_mean"),
    "mobilenet-v1-faces": Known(
        "conv1/convolution/merged_input",
        Input(size=(224, 224), scale=1.0, offset=(-123.68, -116.779, -103.939)),
        "conv_stem.weight",
        "bn1.running_mean",
        _face_network,
        folded=True,
    ),
    "sface": Known(
        "conv_14_dw_conv2d_weight",
        Input(size=(112, 112), scale=1 / 128, offset=(-127.5 / 128,)),
        "0.conv.weight",
        "0.norm.running_mean",
        _sface,
    ),
}
