"""A torch network, or an ensemble, as an ONNX graph whose outputs are named by their roles on the card.

Networks are traced, since they have no branches: `dynamo=True` takes ten times longer and needs opset 18, and the quantizer and
OpenVINO know the patterns of the tracer. An ensemble is the graphs of its members, and the pooling of their scores as in
`mien.runtime.pooling`.

`prepend` adds preprocessing, from uint8 images of any size to the input of the network. Its results equal those of
`mien.faces.preprocessing`: the bilinear resizing of Pillow and OpenCV sums pixels with rounded weights, which float64
represents exactly. For images of another aspect ratio, single pixels may differ by one gray level, since newer versions of
Pillow choose which axis comes first.
"""

import copy
import dataclasses
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from timm.layers import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, nn

from ..cards import FOUND, Card, Input
from ..errors import ExportError
from ..faces.preprocessing import IMAGE, Preprocess
from ..models.torch_runtime import FEATURE, TorchRuntime
from ..runtime.pooling import RULES, SMALLEST, columns

OPSET = 17


class _Deployed(nn.Module):
    """A network that returns a tuple of calibrated probabilities and of the values of its other roles."""

    def __init__(self, runtime: TorchRuntime, inputs: Sequence[str], fields: Sequence[str]) -> None:
        super().__init__()
        self.network, self.runtime, self.inputs, self.fields = runtime.network, runtime, inputs, fields

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        output = self.network(images[0], **dict(zip(self.inputs[1:], images[1:], strict=True)))
        found = self.runtime.meanings(output)
        return tuple(found[field] for field in self.fields)


class _FixedSame(Conv2dSame):
    """timm's convolution with TensorFlow's padding, with its size as constants."""

    def forward(self, x: Tensor) -> Tensor:
        sides = zip(x.shape[-2:], self.kernel_size, self.stride, self.dilation, strict=True)
        high, wide = (int(get_same_padding(int(side), *sizes)) for side, *sizes in sides)
        x = nn.functional.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return nn.functional.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


@contextmanager
def _constant_padding(module: nn.Module) -> Iterator[None]:
    """Trace TensorFlow's padding as constants: onnxruntime does not fuse computed padding with the convolution."""
    computed = [part for part in module.modules() if type(part) is Conv2dSame]
    try:
        for part in computed:
            part.__class__ = _FixedSame
        yield
    finally:
        for part in computed:
            part.__class__ = Conv2dSame


def trace_network(runtime: TorchRuntime) -> tuple[Card, onnx.ModelProto]:
    """Return the network as ONNX for any batch size, and its card with the outputs of the graph.

    There is one output for each field of the network that the card names, and the feature. Where several roles name one field,
    the first of them, `scores` before all, names the output.
    """
    card, preprocess = runtime.card, Preprocess.of(runtime.card)
    roles = {"scores": card.outputs["scores"]} | dict(card.outputs)
    if FEATURE in runtime.fields:
        roles.setdefault(FEATURE, FEATURE)
    names = {field: role for role, field in reversed(roles.items())}
    outputs = {role: field for role, field in roles.items() if names[field] == role}
    examples = {name: torch.zeros(2, preprocess.channels, *size) for name, size in sizes_of(preprocess).items()}
    if preprocess.input.layout == "NHWC":
        examples = {name: example.permute(0, 2, 3, 1) for name, example in examples.items()}
    network = _Deployed(runtime, list(examples), list(outputs.values())).eval()
    model = trace(network, examples, list(outputs))
    return dataclasses.replace(card, outputs={role: names[field] for role, field in roles.items()}), model


def sizes_of(preprocess: Preprocess) -> dict[str, tuple[int, int]]:
    """Return input → (height, width), the face first."""
    return {IMAGE: preprocess.size, **{name: (side, side) for name, side in preprocess.regions.items()}}


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the ONNX operator set of a model."""
    return next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))


def trace(
    module: nn.Module,
    examples: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    dynamic: Mapping[int, str] | None = None,
    opset: int = OPSET,
) -> onnx.ModelProto:
    """Return a module in evaluation mode as ONNX; raises ExportError if ONNX lacks an operation of it.

    `examples` maps each input to a tensor of its shape and type; `dynamic` names axes of the inputs besides the batch.
    """
    axes: dict[str, dict[int, str]] = {name: {0: "batch", **(dynamic or {})} for name in examples}
    axes |= {name: {0: "batch"} for name in outputs}
    with warnings.catch_warnings(), torch.inference_mode(), nullcontext() if dynamic else _constant_padding(module):
        written = io.BytesIO()
        warnings.simplefilter("ignore")  # The tracer warns about shape checks in Python and about its deprecation.
        try:
            torch.onnx.export(
                module,
                tuple(examples.values()),
                written,  # pyrefly: ignore
                input_names=list(examples),
                output_names=list(outputs),
                dynamic_axes=axes,
                opset_version=opset,
                dynamo=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error).strip().partition("\n")[0].partition(" Please ")[0]
            raise ExportError(f"torch cannot export the network to ONNX: {reason} Replace that part of the network") from error
        return onnx.load_from_string(written.getvalue())


class _Builder:
    """Adds nodes and constants to a graph; each method returns the name of its result."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self._count = 0

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        self._count += 1
        output = name or f"pool/{self._count}"
        self.graph.node.append(helper.make_node(kind, inputs, [output], f"{output}/{kind}", **attributes))
        return output

    def constant(self, value: object, kind: type = np.float32) -> str:
        self._count += 1
        name = f"pool/constant{self._count}"
        self.graph.initializer.append(numpy_helper.from_array(np.array(value, kind), name))
        return name

    def total(self, terms: Sequence[str]) -> str:
        return self.node("Sum", *terms) if len(terms) > 1 else terms[0]


def fused_graph(card: Card, members: Sequence[tuple[Card, onnx.ModelProto, dict[str, str]]]) -> tuple[Card, onnx.ModelProto]:
    """Return graph and card of an ensemble of (card with the outputs of the graph, graph, image → input of the ensemble)."""
    opset = max(opset_of(model) for _, model, _ in members)
    graph = helper.make_graph([], card.name, [], [])
    given: list[str] = []
    for place, (_, model, names) in enumerate(members):
        if opset_of(model) != opset:
            model = onnx.version_converter.convert_version(model, opset)
        own = [value.name for value in model.graph.input]
        order = own if set(own) == set(names) else list(names)
        part = onnx.compose.add_prefix(model, f"{place}:").graph
        renamed = {f"{place}:{name}": names[image] for name, image in zip(own, order, strict=True)}
        for node in part.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
        for value in part.input:
            value.name = renamed[value.name]
            if value.name not in given:
                given.append(value.name)
                graph.input.append(value)
        graph.node.extend(part.node)
        graph.initializer.extend(part.initializer)
    build = _Builder(graph)
    shares, total = _shares(build, card)
    for role, name in card.outputs.items():
        if role == "scores":
            _scores(build, card, [owner for owner, *_ in members], shares, total, name)
        else:
            values = [f"{place}:{owner.outputs[role]}" for place, (owner, *_) in enumerate(members)]
            mean = build.total([build.node("Mul", *pair) for pair in zip(values, shares, strict=True)])
            build.node("Div", mean, total, name=name)
        width = len(card.labels) if role == "scores" else None
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=members[0][1].ir_version)
    onnx.checker.check_model(model)
    return card, model


def _shares(build: _Builder, card: Card) -> tuple[list[str], str]:
    """Return the weight of each member, constant or (N, 1), and their sum, which is the same for faces without landmarks."""
    regional = [bool(each.regions) for each in card.members]
    weights = [build.constant([[each.weight]]) for each in card.members]
    total = build.constant([[sum(each.weight for each in card.members)]])
    if any(regional):
        build.graph.input.append(helper.make_tensor_value_info(FOUND, TensorProto.FLOAT, ["batch"]))
    if not any(regional) or all(regional):
        return weights, total
    known = build.node("Cast", build.node("Greater", FOUND, build.constant(0.5)), to=TensorProto.FLOAT)
    known = build.node("Unsqueeze", known, build.constant([1], np.int64))
    left = [build.node("Mul", each, known) if reads else each for each, reads in zip(weights, regional, strict=True)]
    scale = build.node("Div", total, build.total(left))
    return [build.node("Mul", each, scale) for each in left], total


def _scores(build: _Builder, card: Card, owners: Sequence[Card], shares: Sequence[str], total: str, name: str) -> None:
    smallest, terms = build.constant(SMALLEST), []
    logits = card.network.get("rule", RULES[0]) == "logits"
    for place, (each, owner) in enumerate(zip(card.members, owners, strict=True)):
        scores, chosen = f"{place}:{owner.outputs[each.output]}", columns(card.labels, each.labels)
        if chosen != list(range(len(each.labels))):
            scores = build.node("Gather", scores, build.constant(chosen, np.int64), axis=1)
        if len(chosen) < len(each.labels):
            scores = build.node("Div", scores, build.node("ReduceSum", scores, build.constant([1], np.int64), keepdims=1))
        scores = build.node("Log", build.node("Max", scores, smallest)) if logits else scores
        terms.append(build.node("Mul", scores, shares[place]))
    pooled = build.total(terms)
    if not logits:
        pooled = build.node("Log", build.node("Max", build.node("Div", pooled, total), smallest))
    scaled = build.node("Div", pooled, build.constant(card.calibration.temperature))
    build.node("Softmax", scaled, name=name, axis=1)


PILLOW_BITS, CV2_BITS = 22, 11  # fractional bits of the weights of both
LUMA = (19595, 38470, 7471)  # ITU-R 601 weights in 16 bits, as in `mien.faces.preprocessing.gray`


class Pixels(nn.Module):
    """RGB images (N, H, W, 3) uint8 → network input of `size`, (height, width), by the input contract of a card."""

    offset: Tensor
    std: Tensor

    def __init__(self, input: Input, size: tuple[int, int]) -> None:  # noqa: A002
        super().__init__()
        self.input, self.size = input, size
        for name, values in (("offset", input.offset), ("std", input.std or (1.0,))):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("luma", torch.tensor(LUMA, dtype=torch.float64).view(1, 3, 1, 1))
        self.register_buffer("one", torch.ones(1, dtype=torch.float64))  # The tracer turns scalars into float32.

    def forward(self, images_NHWC: Tensor) -> Tensor:
        """Return float32 (N, C, h, w), or (N, h, w, C) if the card has that layout."""
        pixels = images_NHWC.permute(0, 3, 1, 2).double()
        height, width = (images_NHWC.shape[axis] * self.one for axis in (1, 2))
        resize = pillow_bilinear if self.input.resize == "pil-bilinear" else cv2_bilinear
        pixels = resize(pixels, height, width, *self.size)
        if self.input.color == "gray":
            pixels = ((pixels * self.luma).sum(1, keepdim=True) + 0x8000).div(0x10000).floor()
        elif self.input.color == "bgr":
            pixels = pixels[:, [2, 1, 0]]
        values = pixels.float() * self.input.scale + self.offset
        if self.input.std:
            values = values / self.std
        return values if self.input.layout == "NCHW" else values.permute(0, 2, 3, 1)


def pillow_bilinear(pixels: Tensor, height: Tensor, width: Tensor, new_height: int, new_width: int) -> Tensor:
    """Resize (N, C, H, W) integers as Pillow's BILINEAR: antialiased, columns first, rounded after each pass."""
    across = _rounded(pixels @ _pillow_weights(width, new_width, axis=0))
    return _rounded(_pillow_weights(height, new_height, axis=1) @ across)


def _rounded(sums: Tensor) -> Tensor:
    return (sums / 2**PILLOW_BITS + 0.5).floor().clamp(0, 255)


def _pillow_weights(old: Tensor, new: int, *, axis: int) -> Tensor:
    """Return (old, new) or (new, old) weights in 2⁻²²; onnxruntime 1.20 cannot multiply transposed float64 matrices."""
    scale = old / new
    center = ((torch.arange(new, dtype=torch.float64) + 0.5) * scale).unsqueeze(axis)
    place = (_counted(old) + 0.5).unsqueeze(1 - axis)
    weight = (1 - (place - center).abs() / scale.clamp(min=1)).clamp(min=0)
    return (weight / weight.sum(axis, keepdim=True) * 2**PILLOW_BITS + 0.5).floor()


def cv2_bilinear(pixels: Tensor, height: Tensor, width: Tensor, new_height: int, new_width: int) -> Tensor:
    """Resize (N, C, H, W) integers as OpenCV's INTER_LINEAR; see `mien.faces.preprocessing.resize_cv2`."""
    left, right, share = _cv2_axis(width, new_width, axis=0, edge=True)
    across = pixels @ (left * (2**CV2_BITS - share) + right * share)
    across = (across / 16).floor()
    upper, lower, share = _cv2_axis(height, new_height, axis=1, edge=False)
    above, below = (2**CV2_BITS - share) * (upper @ across), share * (lower @ across)
    total = (above / 0x10000).floor() + (below / 0x10000).floor()
    return ((total + 2) / 4).floor().clamp(0, 255)


def _cv2_axis(old: Tensor, new: int, *, axis: int, edge: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return (new, old) one-hot lower and upper indices, (new, 1) weights of the upper in 2⁻¹¹; transposed for axis 0."""
    position = ((torch.arange(new, dtype=torch.float64) + 0.5) * (old / new) - 0.5).float()
    lower = position.floor()
    share = ((position - lower) * 2**CV2_BITS).round().double()
    last = (old - 1).float()
    if edge:  # OpenCV drops the fraction beyond the edge for columns, but not for rows.
        share = torch.where((lower < 0) | (lower >= last), torch.zeros_like(share), share)
    place = _counted(old).float().unsqueeze(1 - axis)
    first, second = (torch.minimum(each.clamp(min=0), last).unsqueeze(axis) for each in (lower, lower + 1))
    return (place == first).double(), (place == second).double(), share.unsqueeze(axis)


def _counted(number: Tensor) -> Tensor:
    """Return 0, 1 … as float64; `torch.arange` of a Python number would be traced as a constant."""
    return torch.arange(number.long()[0], dtype=torch.float64)  # pyrefly: ignore


def prepend(model: onnx.ModelProto, card: Card) -> onnx.ModelProto:
    """Return the graph with the preprocessing of the card before each of its inputs, whose names stay."""
    assert card.input is not None
    changed = copy.deepcopy(model)
    own_names = [value.name for value in model.graph.input]
    for own, (name, size) in zip(own_names, sizes_of(Preprocess.of(card)).items(), strict=True):
        example = {"pixels": torch.zeros(1, 32, 32, 3, dtype=torch.uint8)}
        axes = {1: f"{name} height", 2: f"{name} width"}
        before = trace(Pixels(card.input, size), example, ["values"], dynamic=axes, opset=opset_of(model))
        _join(changed, onnx.compose.add_prefix(before, f"{name}/").graph, own, name)
    onnx.checker.check_model(changed)
    return changed


def _join(model: onnx.ModelProto, before: onnx.GraphProto, own: str, name: str) -> None:
    """Connect the graph `before` to the input `own` of a model; the input of the result is called `name`."""
    graph, pixels = model.graph, before.input[0].name
    for nodes, old, new in ((graph.node, own, before.output[0].name), (before.node, pixels, name)):
        for node in nodes:
            node.input[:] = [new if each == old else each for each in node.input]
    before.input[0].name = name
    inputs = [*(each for each in graph.input if each.name != own), before.input[0]]
    nodes = [*before.node, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    graph.initializer.extend(before.initializer)
