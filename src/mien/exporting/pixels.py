"""Preprocessing inside the graph: from uint8 images of any size to the input of the network.

Results equal those of `mien.faces.preprocessing`: the bilinear resizing of Pillow and OpenCV sums pixels with rounded weights,
which float64 represents exactly. For images of another aspect ratio, single pixels may differ by one gray level, since newer
versions of Pillow choose which axis comes first.
"""

import onnx
import torch
from torch import Tensor, nn

from ..cards import Card, Input
from ..faces.preprocessing import Preprocess
from .graphs import opset_of, sizes_of, trace

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
    """Return (old, new) or (new, old) weights of old pixels in new ones, in units of 2⁻²²; `axis` is that of the old ones.

    Both orientations are computed directly, because onnxruntime 1.20 cannot multiply transposed float64 matrices.
    """
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
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
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
