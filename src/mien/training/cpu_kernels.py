"""Faster CPU gradients of convolutions on small feature maps and of PReLU, and memory allocation for training.

The kernels of oneDNN are optimized for large feature maps. On the last feature maps of a network for images of 32 to 112 pixels
(6, 3 or 2 pixels wide), the gradient of a 3 × 3 kernel takes up to twenty times as long as the same sums written as one matrix
product, and that of a depthwise kernel up to a hundred times as long as a few products of shifted maps
(`python -m benchmarks.training`). In bfloat16, depthwise kernels larger than 3 × 3 or with stride 2 have no fast gradient: the
float32 gradient takes a fifth to a half of the time, casts included. The gradient of PReLU selects between two values per
element, which takes four times as long as computing both. Inside `small_maps()`, training uses the faster variant of each such
layer. Results are equal up to rounding.
"""

import ctypes
import functools
import itertools
import platform
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class small_maps(TorchFunctionMode):
    """Context in which 2D convolutions and PReLU that need gradients on a CPU use the faster of two implementations."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        trains = func in (torch.conv2d, torch.prelu) and not kwargs and torch.is_grad_enabled() and args[0].device.type == "cpu"
        if trains and func is torch.conv2d and len(args) == 7:
            return _convolve(*args)
        if trains and func is torch.prelu and args[0].ndim == 4:
            return _PRelu.apply(args[0], args[1].to(args[0].dtype))  # pyrefly: ignore
        return func(*args, **(kwargs or {}))


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int) -> Tensor:
    """Return the same as `torch.conv2d`, with the fastest gradients for the given shapes."""
    kernel, square = weight.shape[-1], weight.shape[-1] == weight.shape[-2]
    isotropic = (
        not isinstance(padding, str) and stride[0] == stride[1] and padding[0] == padding[1] and tuple(dilation) == (1, 1)
    )
    if not ((weight.requires_grad or x.requires_grad) and square and isotropic and x.ndim == 4):
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
    # The thresholds below are measured crossover points between the implementations.
    places = [(side + 2 * padding[0] - kernel) // stride[0] + 1 for side in x.shape[-2:]]
    area, half = places[0] * places[1], x.dtype == torch.bfloat16
    if groups == 1:
        if area <= 16:
            return _Product.apply(x, weight, bias, stride[0], padding[0])  # pyrefly: ignore
        if half and (kernel == 1 or area <= 49):
            return _Mixed.apply(x, weight, bias, stride[0], padding[0], 1, _NATIVE, _OTHER)  # pyrefly: ignore
    elif groups == x.shape[1] == weight.shape[0]:
        slow, seen = half and (kernel > 3 or stride[0] > 1), x.shape[2] * x.shape[3]
        by_hand = area <= 4 or (kernel > 3 and (seen <= 36 if half else area <= 16))
        to_weight = _OTHER if by_hand else _SINGLE if slow else _NATIVE
        to_x = _SINGLE if half and stride[0] > 1 else _NATIVE
        if (to_x, to_weight) != (_NATIVE, _NATIVE):
            return _Mixed.apply(x, weight, bias, stride[0], padding[0], groups, to_x, to_weight)  # pyrefly: ignore
    return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)


class _Product(torch.autograd.Function):
    """Convolution as one matrix product (im2col), forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        kernel = weight.shape[-1]
        columns, places = _columns(x, kernel, stride, padding)
        output = x.new_empty((x.shape[0], weight.shape[0], *places)).contiguous(memory_format=torch.channels_last)
        torch.matmul(columns, _matrix(weight).t(), out=output.permute(0, 2, 3, 1).view(len(columns), -1))
        if bias is not None:
            output += bias[:, None, None]
        ctx.save_for_backward(columns, weight)
        ctx.shape, ctx.stride, ctx.padding, ctx.biased = x.shape, stride, padding, bias is not None
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:  # pyrefly: ignore
        (grad,), (columns, weight) = grad_outputs, ctx.saved_tensors
        rows = _rows(grad)
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            columns_of_x = torch.matmul(rows, _matrix(weight))
            to_x = _from_columns(columns_of_x, ctx.shape, weight.shape[-1], ctx.stride, ctx.padding, grad.shape)
        if ctx.needs_input_grad[1]:
            to_weight = _kernel(torch.matmul(rows.t(), columns), weight.shape)
        if ctx.biased and ctx.needs_input_grad[2]:
            to_bias = rows.sum(0)
        return to_x, to_weight, to_bias, None, None


# Implementations of a gradient: torch's, torch's in float32, and matrix products instead of a convolution.
_NATIVE, _SINGLE, _OTHER = "native", "single", "other"


class _Mixed(torch.autograd.Function):
    """torch's convolution with other implementations of one or both gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.biased = how, bias is not None
        stride, padding, groups, _, _ = how
        return functional.conv2d(x, weight, bias, stride, padding, 1, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:  # pyrefly: ignore
        (grad,), (x, weight) = grad_outputs, ctx.saved_tensors
        stride, padding, groups, *ways = ctx.how
        want_x, want_weight, want_bias = ctx.needs_input_grad[:3]
        to_x = to_weight = None
        for way, kind in ((_NATIVE, x.dtype), (_SINGLE, torch.float32)):
            mask = [want_x and ways[0] == way, want_weight and ways[1] == way, False]
            if any(mask):
                both, pad = [stride, stride], [padding, padding]
                found = torch.ops.aten.convolution_backward(
                    grad.to(kind), x.to(kind), weight.to(kind), None, both, pad, [1, 1], False, [0, 0], groups, mask
                )
                to_x = found[0].to(x.dtype) if mask[0] else to_x
                to_weight = found[1].to(weight.dtype) if mask[1] else to_weight
        if want_weight and ways[1] == _OTHER:
            if groups == 1:
                columns, _ = _columns(x, weight.shape[-1], stride, padding)
                to_weight = _kernel(torch.matmul(_rows(grad).t(), columns), weight.shape)
            else:
                depthwise = _all_pairs_to_weight if x.dtype == torch.bfloat16 else _shifted_to_weight
                to_weight = depthwise(grad, x, weight, stride, padding)
        to_bias = grad.sum((0, 2, 3)) if ctx.biased and want_bias else None
        return to_x, to_weight, to_bias, None, None, None, None, None


class _PRelu(torch.autograd.Function):
    """PReLU of feature maps, with one slope per channel or one for all, and a gradient without branches."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return torch.prelu(x, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:  # pyrefly: ignore
        (grad,), (x, slope) = grad_outputs, ctx.saved_tensors
        # Splitting the gradient into its positive and negative part replaces the selection per element by arithmetic.
        positive = torch.ops.aten.threshold_backward(grad, x, 0)
        negative = grad - positive
        to_x = torch.addcmul(positive, negative, slope[:, None, None]) if ctx.needs_input_grad[0] else None
        to_slope = None
        if ctx.needs_input_grad[1]:
            to_slope = (negative * x).sum((0, 2, 3) if len(slope) > 1 else (0, 1, 2, 3)).reshape(slope.shape)
        return to_x, to_slope


def _columns(x: Tensor, kernel: int, stride: int, padding: int) -> tuple[Tensor, tuple[int, int]]:
    """Return the receptive field of each output pixel, (N · height · width, kernel² · C), and the output (height, width)."""
    last = functional.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding)).contiguous()
    n, rows, columns, channels = last.shape
    places = (rows - kernel) // stride + 1, (columns - kernel) // stride + 1
    # A strided view repeats pixels without copying them; the reshape below makes the only copy.
    a, b, c, d = last.stride()
    seen = last.as_strided((n, *places, kernel, kernel, channels), (a, b * stride, c * stride, b, c, d))
    return seen.reshape(n * places[0] * places[1], kernel * kernel * channels), places


def _from_columns(columns: Tensor, shape: Any, kernel: int, stride: int, padding: int, output: Any) -> Tensor:
    """Return the adjoint of `_columns`, the sum over all receptive fields, (N, C, H, W)."""
    n, channels, rows, width = shape
    seen = columns.view(n, output[2], output[3], kernel, kernel, channels)
    whole = columns.new_zeros(n, rows + 2 * padding, width + 2 * padding, channels)
    down, along = ([slice(i, i + stride * (side - 1) + 1, stride) for i in range(kernel)] for side in output[2:])
    for i, j in itertools.product(range(kernel), repeat=2):
        whole[:, down[i], along[j]] += seen[:, :, :, i, j]
    return whole[:, padding : padding + rows, padding : padding + width].permute(0, 3, 1, 2)


def _rows(grad: Tensor) -> Tensor:
    """(N, C, H, W) → (N · H · W, C)."""
    return grad.permute(0, 2, 3, 1).reshape(-1, grad.shape[1])


def _matrix(weight: Tensor) -> Tensor:
    """(out, in, k, k) → (out, k · k · in)."""
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)


def _kernel(matrix: Tensor, shape: Any) -> Tensor:
    """(out, k · k · in) → (out, in, k, k)."""
    return matrix.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)


def _shifted_to_weight(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Return the gradient of a depthwise kernel, (C, 1, k, k)."""

    def overlap(shift: int, size: int, places: int) -> tuple[slice, slice]:
        """Return the input pixels under a kernel element, and the output pixels that they contribute to, along one axis."""
        first = max(0, -(shift // stride))
        last = min(places - 1, (size - 1 - shift) // stride)
        start = first * stride + shift
        return slice(start, max(start, last * stride + shift + 1), stride), slice(first, max(first, last + 1))

    output, kernel = torch.zeros_like(weight), weight.shape[-1]
    for i, j in itertools.product(range(kernel), repeat=2):
        rows, at_rows = overlap(i - padding, x.shape[2], grad.shape[2])
        columns, at_columns = overlap(j - padding, x.shape[3], grad.shape[3])
        output[:, 0, i, j] = (x[:, :, rows, columns] * grad[:, :, at_rows, at_columns]).sum((0, 2, 3))
    return output


def _all_pairs_to_weight(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Return the same from all products of input and output pixels: one matrix product for each channel."""
    (n, channels, rows, columns), places, kernel = x.shape, grad.shape[2:], weight.shape[-1]
    pixels = x.permute(1, 2, 3, 0).reshape(channels, rows * columns, n)
    pairs = torch.bmm(pixels, grad.permute(1, 0, 2, 3).reshape(channels, n, -1)).reshape(channels, -1)
    return (pairs @ _meeting((rows, columns), tuple(places), kernel, stride, padding).to(pairs.dtype)).view(weight.shape)


@functools.lru_cache(64)
def _meeting(size: tuple[int, int], places: tuple[int, ...], kernel: int, stride: int, padding: int) -> Tensor:
    """Return (input pixels · output pixels, k · k): 1 for the kernel element that connects an input and an output pixel."""
    pairs = zip(size, places, strict=True)
    rows, columns = (torch.arange(pixels)[:, None] - stride * torch.arange(ends) + padding for pixels, ends in pairs)
    down, along = rows[:, None, :, None], columns[None, :, None, :]
    inside = (down >= 0) & (down < kernel) & (along >= 0) & (along < kernel)
    at = torch.where(inside, down * kernel + along, kernel * kernel).reshape(-1)
    return functional.one_hot(at, kernel * kernel + 1)[:, :-1]


TRIM_THRESHOLD, MMAP_THRESHOLD, TOP_PAD = -1, -3, -2  # parameters of mallopt(3), from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Make glibc's malloc keep freed memory, which every step allocates again, and return whether it succeeded."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = {TRIM_THRESHOLD: -1, MMAP_THRESHOLD: 1 << 30, TOP_PAD: 64 << 20}
    return all([mallopt(ctypes.c_int(parameter), ctypes.c_int(value)) == 1 for parameter, value in wanted.items()])  # noqa: C419 - each is called
