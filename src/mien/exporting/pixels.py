"""Preparation of images inside the graph: uint8 images of any size in, what the card says the network is fed out.

The same numbers as `mien.faces.preprocessing` gives: Pillow's and OpenCV's bilinear resizing are sums of pixels with rounded
weights, which float64 holds exactly. Images of other proportions than the card's may differ by one gray level here and there,
since newer versions of Pillow then choose which axis comes first.
"""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from ..cards import Card, Input
from ..faces.preprocessing import IMAGE, Preprocess
from .tracing import trace

PILLOW_BITS, CV2_BITS = 22, 11
"""Binary digits that the weights of both have."""
LUMA = (19595, 38470, 7471)
"""ITU-R 601 in 16 bits, as `mien.faces.preprocessing.gray` has it."""


class Pixels(nn.Module):
    """RGB images (N, H, W, 3) uint8 of one size → what a network is fed.

    Args:
        input: the network's own input contract.
        size: height and width that the images are brought to.
    """

    offset: Tensor
    std: Tensor

    def __init__(self, input: Input, size: tuple[int, int]) -> None:  # noqa: A002 - the card's own word
        super().__init__()
        self.input, self.size = input, size
        for name, values in (("offset", input.offset), ("std", input.std or (1.0,))):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("luma", torch.tensor(LUMA, dtype=torch.float64).view(1, 3, 1, 1))
        self.register_buffer("one", torch.ones(1, dtype=torch.float64))  # the tracer makes float32 of what has no axis

    def forward(self, images_NHWC: Tensor) -> Tensor:
        """Return (N, C, h, w) float32, or (N, h, w, C) where the card has that layout."""
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
    """Resize (N, C, H, W) whole numbers as Pillow's BILINEAR does: antialiased, columns first, rounded after each pass."""
    across = _rounded(pixels @ _pillow_weights(width, new_width, axis=0))
    return _rounded(_pillow_weights(height, new_height, axis=1) @ across)


def _rounded(sums: Tensor) -> Tensor:
    return (sums / 2**PILLOW_BITS + 0.5).floor().clamp(0, 255)


def _pillow_weights(old: Tensor, new: int, *, axis: int) -> Tensor:
    """(old, new) or (new, old): share of each pixel in each new one, in units of 2⁻²²; `axis` is that of the old ones.

    They are made the way they are used, for onnxruntime 1.20 cannot multiply transposed float64 matrices.
    """
    scale = old / new
    center = ((torch.arange(new, dtype=torch.float64) + 0.5) * scale).unsqueeze(axis)
    place = (_counted(old) + 0.5).unsqueeze(1 - axis)
    weight = (1 - (place - center).abs() / scale.clamp(min=1)).clamp(min=0)
    return (weight / weight.sum(axis, keepdim=True) * 2**PILLOW_BITS + 0.5).floor()


def cv2_bilinear(pixels: Tensor, height: Tensor, width: Tensor, new_height: int, new_width: int) -> Tensor:
    """Resize (N, C, H, W) whole numbers as OpenCV's INTER_LINEAR does; see `mien.faces.preprocessing.resize_cv2`."""
    left, right, share = _cv2_axis(width, new_width, axis=0, edge=True)
    across = pixels @ (left * (2**CV2_BITS - share) + right * share)
    across = (across / 16).floor()
    upper, lower, share = _cv2_axis(height, new_height, axis=1, edge=False)
    above, below = (2**CV2_BITS - share) * (upper @ across), share * (lower @ across)
    total = (above / 0x10000).floor() + (below / 0x10000).floor()
    return ((total + 2) / 4).floor().clamp(0, 255)


def _cv2_axis(old: Tensor, new: int, *, axis: int, edge: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(new, old) ones at the lower and at the upper source index, and (new, 1) weights of the upper one in units of 2⁻¹¹.

    With `axis` 0, that of the old ones, all three the other way round.
    """
    position = ((torch.arange(new, dtype=torch.float64) + 0.5) * (old / new) - 0.5).float()
    lower = position.floor()
    share = ((position - lower) * 2**CV2_BITS).round().double()
    last = (old - 1).float()
    if edge:  # the fraction of columns beyond the edge is dropped, that of rows is not
        share = torch.where((lower < 0) | (lower >= last), torch.zeros_like(share), share)
    place = _counted(old).float().unsqueeze(1 - axis)
    first, second = (torch.minimum(each.clamp(min=0), last).unsqueeze(axis) for each in (lower, lower + 1))
    return (place == first).double(), (place == second).double(), share.unsqueeze(axis)


def _counted(number: Tensor) -> Tensor:
    """0, 1 … as float64; `torch.arange` itself would fix the number when it is traced."""
    return torch.arange(number.long()[0], dtype=torch.float64)  # pyrefly: ignore


def prepend(model: onnx.ModelProto, card: Card) -> onnx.ModelProto:
    """Return the graph with the preparation of its images before it; the inputs keep their names.

    Args:
        model: reads what `card.input` says, for each image of a face.
        card: of that network.
    """
    assert card.input is not None
    preprocess, changed = Preprocess.of(card), onnx.ModelProto()
    changed.CopyFrom(model)
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    sizes = {IMAGE: preprocess.size, **{name: (side, side) for name, side in preprocess.regions.items()}}
    own_names = [value.name for value in model.graph.input]
    for own, (name, size) in zip(own_names, sizes.items(), strict=True):
        example = {"pixels": torch.zeros(1, 32, 32, 3, dtype=torch.uint8)}
        axes = {1: f"{name} height", 2: f"{name} width"}
        before = trace(Pixels(card.input, size), example, ["values"], dynamic=axes, opset=opset)
        before = onnx.compose.add_prefix(before, f"{name}/")
        _join(changed, before, own, name)
    onnx.checker.check_model(changed)
    return changed


def _join(model: onnx.ModelProto, before: onnx.ModelProto, own: str, name: str) -> None:
    """Feed the input `own` of a model by the graph `before`, whose own input is then called `name`."""
    values = before.graph.output[0].name
    for node in model.graph.node:
        node.input[:] = [values if each == own else each for each in node.input]
    read = before.graph.input[0].name
    for node in before.graph.node:
        node.input[:] = [name if each == read else each for each in node.input]
    nodes = [*before.graph.node, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(before.graph.initializer)
    inputs = [each for each in model.graph.input if each.name != own]
    before.graph.input[0].name = name
    del model.graph.input[:]
    model.graph.input.extend([*inputs, before.graph.input[0]])
