"""From a torch network with its card to an ONNX graph whose outputs mean what the card says.

torch's exporter of graphs (`dynamo=True`) takes ten times longer and writes opset 18 or newer; the one that traces is enough
for networks without branches, and the quantizer and OpenVINO know its patterns.
"""

from __future__ import annotations

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


class Deployed(nn.Module):
    """A network that answers what its card promises, as a tuple: probabilities, calibrated, and values of the other roles.

    Args:
        runtime: the network with its card; what its fields mean is decided there.
        inputs: names of the images that it reads, the face first.
        fields: fields of its answer, in the order of the outputs.
    """

    def __init__(self, runtime: TorchRuntime, inputs: Sequence[str], fields: Sequence[str]) -> None:
        super().__init__()
        self.network, self.runtime, self.inputs, self.fields = runtime.network, runtime, inputs, fields

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for images (N, C, H, W), one argument for each input."""
        answer = self.network(images[0], **dict(zip(self.inputs[1:], images[1:], strict=True)))
        found = self.runtime.meanings(answer)
        return tuple(found[field] for field in self.fields)


class _FixedSame(Conv2dSame):
    """timm's convolution with TensorFlow's padding, as large as the image at hand wants it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return what `Conv2dSame` returns."""
        sides = zip(x.shape[-2:], self.kernel_size, self.stride, self.dilation, strict=True)
        high, wide = (int(get_same_padding(int(side), *sizes)) for side, *sizes in sides)
        x = functional.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return functional.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


@contextmanager
def _numbers_as_padding(module: nn.Module) -> Iterator[None]:
    """Write TensorFlow's padding as numbers: where it is computed, onnxruntime does not make it part of the convolution."""
    computed = [part for part in module.modules() if type(part) is Conv2dSame]
    try:
        for part in computed:
            part.__class__ = _FixedSame
        yield
    finally:
        for part in computed:
            part.__class__ = Conv2dSame


def outputs_of(card: Card, fields: Sequence[str]) -> dict[str, str]:
    """Return output → field of the network's answer: one output for each field that the card names, called by its role.

    Where several roles name one field the first of them names the output, `scores` before all. The feature is always there.
    """
    roles = {"scores": card.outputs["scores"]} | dict(card.outputs)
    if FEATURE in fields:
        roles.setdefault(FEATURE, FEATURE)
    found: dict[str, str] = {}
    for role, field in roles.items():
        if field not in found.values():
            found[role] = field
    return found


def trace_network(runtime: TorchRuntime) -> tuple[Card, onnx.ModelProto]:
    """Return the network as ONNX for any number of faces, and its card with the outputs that the graph has.

    Raises:
        WeightsError: the network does not give an output that the card names.
        ExportError: ONNX lacks an operation of the network.
    """
    card, preprocess = runtime.card, Preprocess.of(runtime.card)
    outputs = outputs_of(card, runtime.fields)
    examples = {
        name: torch.zeros(2, preprocess.channels, *size)
        for name, size in {IMAGE: preprocess.size, **{name: (side, side) for name, side in preprocess.regions.items()}}.items()
    }
    if card.input is not None and card.input.layout == "NHWC":
        examples = {name: example.permute(0, 2, 3, 1) for name, example in examples.items()}
    network = Deployed(runtime, list(examples), list(outputs.values())).eval()
    model = trace(network, examples, list(outputs))
    names = {field: output for output, field in outputs.items()}
    roles = {role: names[field] for role, field in card.outputs.items()}
    roles |= {output: output for output in outputs}
    return dataclasses.replace(card, outputs=roles), model


def trace(
    module: nn.Module,
    examples: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    dynamic: Mapping[int, str] | None = None,
    opset: int = OPSET,
) -> onnx.ModelProto:
    """Return a module as ONNX.

    Args:
        module: in evaluation mode; gives a tensor or a tuple of them.
        examples: input → a tensor of its shape and type.
        outputs: names.
        dynamic: axis of the inputs → its name, beside the batch.
        opset: version of the operators.

    Raises:
        ExportError: ONNX lacks an operation of the module.
    """
    axes: dict[str, dict[int, str]] = {name: {0: "batch", **(dynamic or {})} for name in examples}
    axes |= {name: {0: "batch"} for name in outputs}
    with warnings.catch_warnings(), torch.inference_mode(), nullcontext() if dynamic else _numbers_as_padding(module):
        written = io.BytesIO()
        warnings.simplefilter("ignore")  # of the tracer, about checks of shapes in Python, and about itself
        try:
            torch.onnx.export(
                module,
                tuple(examples.values()),
                written,  # pyrefly: ignore - the exporter that traces takes more than the new one
                input_names=list(examples),
                output_names=list(outputs),
                dynamic_axes=axes,
                opset_version=opset,
                dynamo=False,
            )
        except torch.onnx.OnnxExporterError as error:
            what = str(error).strip().partition("\n")[0].partition(" Please ")[0]
            raise ExportError(
                f"torch cannot write the network as ONNX: {what} Write that part of the network another way"
            ) from error
        return onnx.load_from_string(written.getvalue())
