"""Trace a torch network as an ONNX graph whose outputs are named by their roles on the card.

The tracing exporter is used, since networks have no branches: `dynamo=True` takes ten times longer and needs opset 18, and the
quantizer and OpenVINO know the patterns of the tracer.
"""

import dataclasses
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import onnx
import torch
from timm.layers import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, nn
from torch.nn import functional

from ..cards import Card
from ..errors import ExportError
from ..faces.preprocessing import IMAGE, Preprocess
from ..models.torch_runtime import FEATURE, TorchRuntime

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
        x = functional.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return functional.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


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
