"""Initial weights from other networks (`model.init` of a recipe).

| `kind` | file | network |
|---|---|---|
| `mien` | a bundled model by name, or `.onnx` or `.safetensors` written by mien | the same architecture; any classes |
| `author` | a checkpoint of the authors | see `mien.models.checkpoints.load_author_state(partial=True)` |
| `backbone` | a timm or torchvision state dict | a network that contains this backbone under the same names |
| `ordered` | a state dict with other names | a network, or backbone of it, with the same layers in the same order |
| `efficientnet-lite0` | EfficientNet-Lite0 of ImageNet (`efficientnet_lite0.npz`) | `timm:tf_efficientnet_lite0` |
| `mobilenet-v2` | MobileNetV2 of ImageNet (`mobilenet_v2.npz`) | `timm:mobilenetv2_100` |
| `faceres` | MobileNetV1 of VGGFace2 (`faceres.npz`) | `timm:mobilenetv1_100` with `options = {pad_type = "same"}` |
| `sface` | SFace of OpenCV's model zoo (`sface_trunk.npz`) | a network that contains `mien.models.sface.SFace` |
| `trunk` | `mien-base`, or another network of mien on SFace's trunk | the same |

The four `.npz` files were trained with different value ranges. The first layer is adapted to the value range of the recipe,
except for zero padding, which is another shade in another range. Best are `normalize = "half"` for SFace and Lite0
(logits change by 0.001 of 7; with `"imagenet"` by 0.25, with `"unit"` by 0.7) and `"imagenet"` for the other two (logits
unchanged, features change by 0.0005 of 2.6).

In `faceres.npz` and exported networks BatchNorm is folded into the convolutions, so running means and variances are unknown. In
training, the network would be normalized by batch statistics and compute different outputs. `measure_statistics` restores them.
"""

import contextlib
import dataclasses
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
from ..cards import Card, Input, bundled_file
from ..errors import WeightsError, did_you_mean
from ..faces.preprocessing import between
from ..models import sface
from ..models.checkpoints import LoadReport, read_checkpoint
from ..models.checkpoints.loading import IMAGENET, PRETRAINING, assign, comparison
from ..models.torch_runtime import PREFIX as HEADS
from . import recipes
from .config import InitConfig


def exported_state(model: nn.Module, path: str | Path) -> dict[str, Tensor]:
    """Return the entries of a network's state dict that an ONNX export of it contains; other classes are allowed.

    BatchNorm gets mean 0, variance 1, and the bias of the convolution that it was folded into; see `measure_statistics`. Raises
    WeightsError: invalid ONNX file, or none of the network's layers found.
    """
    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf has its own exception classes.
        raise WeightsError(f"{path} is not a valid ONNX file: {error}", path=path) from error
    constants = {entry.name: to_array(entry) for entry in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and all(name in constants for name in node.input):
            value, scale, zero = (constants[name].astype(np.float32) for name in node.input)
            along = (-1, *(1,) * (value.ndim - 1)) if scale.ndim else ()  # one scale, or one for each entry of the first axis
            constants[node.output[0]] = (value - zero.reshape(along)) * scale.reshape(along)
        elif node.op_type in ("Cast", "Identity") and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    layers = dict(model.named_modules())
    # For each convolution the BatchNorm that is registered after it.
    norms = {
        a: b
        for a, b in itertools.pairwise(layers)
        if isinstance(layers[a], nn.Conv2d) and isinstance(layers[b], nn.BatchNorm2d)
    }
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
    for key, value in constants.items():  # PReLU is exported as two products; see `mien.exporting.precision`
        if key.endswith("/slope") and (name := _layer(key.removesuffix("/slope"), layers)) is not None:
            found[f"{name}.weight"] = _tensor(value).flatten()
    if not found:
        raise WeightsError(f"{path} has no layer of {type(model).__name__}; use an export of that network", path=path)
    return found


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _layer(node: str, layers: Mapping[str, nn.Module]) -> str | None:
    """Return the layer that an ONNX node belongs to: `/model/blocks/blocks.0/conv1/Conv` → `blocks.0.conv1`."""
    parts = node.strip("/").split("/")[:-1]
    short: list[str] = []
    for part in parts:
        if short and part.startswith(f"{short[-1]}."):
            short[-1] = part
        else:
            short.append(part)
    return next((name for first in range(len(short)) if (name := ".".join(short[first:])) in layers), None)


COUNTER = ".num_batches_tracked"
STEM = "0.conv.weight"  # first entry of SFace's trunk
SLOPE = ".act.weight"  # end of the names of its PReLU slopes


@dataclass(frozen=True, slots=True)
class Known:
    """Properties of a known weights file."""

    feed: Input  # input format, RGB
    stem: str  # first convolution, after `convert`
    mean: str  # running mean of the BatchNorm after it
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict  # file entries → state dict
    folded: bool = False  # whether BatchNorm statistics are missing


def load_initial_weights(
    model: nn.Module, name: str, init: InitConfig, *, feed: Input | None = None, images: Callable[[], Tensor] | None = None
) -> LoadReport:
    """Set the weights of a network from a file that was trained on other data; layers with other classes stay random.

    A network with one input channel gets the sum of the first layer over red, green and blue. `model` is from
    `mien.models.build`, by this `name`; `init` is described in the table of this module. `feed` is the input format of the
    network, as in its card, for `.npz` files; None: RGB with ImageNet normalization. `images` returns (N, C, H, W) preprocessed
    training images, a hundred or more; needed for `faceres` and `.onnx`. Raises WeightsError: the file is unreadable, does not
    fit, or `images` is missing; the network is not changed.
    """
    path = _file(init.file)
    exported = path.suffix == ".onnx"
    donor = model
    if init.kind == "trunk":
        card = cards.bundled().get(init.file)
        donor = bundled_network(card) if card else models.build("mien-base", trunk=sface.NAME)
    state = exported_state(donor, path) if exported else read_checkpoint(path).state
    if init.kind == "trunk":
        state = {**_fixed_slopes(donor), **state}
    known, converted = KNOWN.get(init.kind), {}
    if known:
        with contextlib.suppress(KeyError):
            converted = known.convert(state)
    if known and known.stem not in converted:
        raise WeightsError(f"{path} is not {init.kind}; choose another kind in model.init", path=path, value=init.kind)
    folded = exported or (known is not None and known.folded)
    if folded and images is None:
        raise WeightsError(f"{path} has no BatchNorm statistics; pass training images to measure them", path=path)
    if known:
        # The first layer is adapted to the value range of the recipe.
        scale, shift = torch.from_numpy(between(feed or IMAGENET, known.feed)).float()
        kernel = converted[known.stem].float()
        moved = (kernel * shift[:, None, None]).sum((1, 2, 3))
        mean = converted[known.mean].float() - moved
        state = converted | {known.stem: kernel * scale[:, None, None], known.mean: mean}
    ours = model.state_dict()
    found = max(_candidates(model, name, state, init.kind), key=lambda candidate: _fit(ours, candidate))
    for key, tensor in found.items():  # A convolution of RGB images in the file can be one of gray images in our network.
        if key in ours and tensor.ndim == ours[key].ndim == 4 and tensor.shape[1] == 3 and ours[key].shape[1] == 1:
            found[key] = tensor.sum(1, keepdim=True)
    report = comparison(ours, found)
    report = dataclasses.replace(report, missing=tuple(key for key in report.missing if not key.endswith(COUNTER)))
    last, dead = _last_layer(found), models.dead_prefixes(model)
    # Slopes of PReLU are dropped where the network has LeakyReLU.
    skipped = [key for key in report.unused if key.startswith((PRETRAINING, HEADS, *dead)) or key.endswith(SLOPE)]
    unplaced = [key for key in report.unused if key not in skipped and key.rpartition(".")[0] != last]
    misfits = [key for key, theirs, here in report.shape_mismatch if theirs[1:] != here[1:] or len(here) > 2]
    # A layer with PReLU needs its slopes.
    misfits += [key for key in report.missing if key.endswith(SLOPE) and key.replace(SLOPE, ".conv.weight") in report.loaded]
    if not report.loaded or unplaced or misfits:
        problem = f"{path} ({init.kind}) does not fit the model {name!r}: {report.summary()}"
        raise WeightsError(f"{problem}; choose another file or kind", path=path, value=init.kind)
    assign(model, {key: found[key] for key in report.loaded})
    if folded and images is not None:
        measure_statistics(model, images())
    return report


def bundled_network(card: Card) -> nn.Module:
    """Return the network of a bundled classifier, with random weights."""
    recipe = recipes.read(recipes.find(card.training["recipe"]))
    return models.build(card.name, **recipe["model"].get("options", {}))


def _fixed_slopes(network: nn.Module) -> dict[str, Tensor]:
    """Return the slopes of LeakyReLU and ReLU in SFace's trunk as entries of PReLU."""
    units = {name: unit for name, unit in network.named_modules() if isinstance(unit, sface.Unit)}
    return {
        f"{name}{SLOPE}": torch.full((unit.conv.out_channels,), getattr(unit.act, "negative_slope", 0.0))
        for name, unit in units.items()
        if not isinstance(unit.act, nn.PReLU)
    }


def _file(file: str) -> Path:
    """Return the path of a file, or of a bundled classifier; raises WeightsError if there is none."""
    classifiers = [name for name, card in cards.bundled().items() if card.kind == "classifier"]
    if file in classifiers:
        return bundled_file(f"{file}.onnx")
    if not Path(file).exists():
        hint = did_you_mean(file, classifiers, f"; bundled models: {', '.join(classifiers)}")
        raise WeightsError(f"initial weights {file} not found{hint}", path=file, expected=tuple(classifiers))
    return Path(file)


@torch.no_grad()
def measure_statistics(model: nn.Module, images: Tensor) -> None:
    """Set the running statistics of every BatchNorm to those of images (N, C, H, W), and compensate in its weight and bias.

    Layers that the images do not reach stay as they are. In evaluation mode the outputs do not change; in training mode, where
    batches have similar statistics, they now agree.
    """
    seen: dict[nn.BatchNorm2d, Tensor] = {}
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
    for norm, given in seen.items():
        assert norm.running_mean is not None and norm.running_var is not None
        mean, variance = given.mean((0, 2, 3)), given.var((0, 2, 3))
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias.add_(scale * (mean - norm.running_mean))
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def _candidates(model: nn.Module, name: str, state: Mapping[str, Tensor], kind: str) -> list[dict[str, Tensor]]:
    """Return the state dicts under our names that a kind of file allows; they differ in the part of the network."""
    if kind == "mien":
        return [dict(state)]
    if kind == "author":
        return [models.author_mapping(name)(state)]
    if kind in ("sface", "trunk"):
        first = "." if kind == "trunk" else ""  # There, the trunk is a part of a network.
        prefix = next((key.removesuffix(STEM) for key in state if key.endswith(f"{first}{STEM}")), None)
        if prefix is None:
            return [{}]
        found = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        trunks = [trunk for trunk, module in model.named_modules() if isinstance(module, sface.SFace)]
        return [{f"{trunk}.{key}": tensor for trunk in trunks for key, tensor in found.items()}]
    parts = dict(model.named_children())
    named = [{f"{part}.{key}": tensor for key, tensor in state.items()} for part in parts]
    if kind in ("backbone", "faceres"):
        return named
    last = _last_layer(state)
    headless = {key: tensor for key, tensor in state.items() if key.rpartition(".")[0] != last}
    bare = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith(HEADS)}
    ordered = [_in_order(bare, state)]
    for part, module in parts.items():
        inner = _in_order(module.state_dict(), headless)
        ordered.append(inner and {f"{part}.{key}": tensor for key, tensor in inner.items()})
    return [each for each in ordered if each] or [{}]


def _fit(ours: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return a sort key: the number of fitting entries, then minus the number of unexpected ones."""
    fitting = sum(key in ours and tensor.shape == ours[key].shape for key, tensor in state.items())
    return fitting, -sum(key not in ours and not key.startswith(PRETRAINING) for key in state)


def _in_order(ours: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return `state` under our names, entry by entry; None if kinds or inner shapes differ."""
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


def _face_network(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the folded MobileNetV1 as timm's `mobilenetv1_100`: kernels transposed to RGB, BatchNorm without statistics."""
    found: dict[str, Tensor] = {}

    def layer(kernel: Tensor, name: str, offset: Tensor, norm: str, factor: Tensor | None = None) -> None:
        found[f"{name}.weight"] = kernel.float()
        one = torch.ones(len(offset))
        scale = (1 + 1e-5) ** 0.5  # Cancels the eps of timm's BatchNorm.
        found[f"{norm}.weight"] = (one if factor is None else factor.float()) * scale
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
    """Return the entries under the names of `mien.models.sface.SFace`."""
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
        Input(size=(224, 224), scale=1 / 128, offset=(-127 / 128,)), "_conv_stem.weight", "_bn0.running_mean"
    ),
    "mobilenet-v2": Known(IMAGENET, "features.0.0.weight", "features.0.1.running_mean"),
    "faceres": Known(
        Input(size=(224, 224), scale=1.0, offset=(-123.68, -116.779, -103.939)),
        "conv_stem.weight",
        "bn1.running_mean",
        _face_network,
        folded=True,
    ),
    "sface": Known(Input(size=(112, 112), scale=1 / 128, offset=(-127.5 / 128,)), STEM, "0.norm.running_mean", _sface),
}
