"""BatchNorm over all processes, on any device (torch's own needs GPUs)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional


class _Sum(Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        torch.distributed.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        value = gradient[0].contiguous().clone()
        torch.distributed.all_reduce(value)
        return value


class _Shared:
    """The training step of BatchNorm with mean and variance of the whole batch, however it is shared out."""

    def forward(self: nn.BatchNorm2d, x: Tensor) -> Tensor:  # pyrefly: ignore
        if not self.training or not torch.distributed.is_initialized():
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum or 0.0, self.eps
            )
        axes = [axis for axis in range(x.ndim) if axis != 1]
        wide = x.float()
        count = torch.full((1,), x.numel() / x.shape[1], device=x.device)
        total = _Sum.apply(torch.cat([wide.sum(axes), count]))  # pyrefly: ignore
        shape, number = [1, -1, *[1] * (x.ndim - 2)], total[-1]
        mean = total[:-1] / number
        # In a second exchange: from the sum of squares, nothing is left of the variance of large numbers.
        offset = wide - mean.view(shape)
        variance = _Sum.apply(offset.square().sum(axes)) / number  # pyrefly: ignore
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(variance * number / (number - 1).clamp(min=1), self.momentum or 0.0)
        scale = (variance + self.eps).rsqrt() * self.weight
        return (offset * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


class _Shared1d(_Shared, nn.BatchNorm1d):
    pass


class _Shared2d(_Shared, nn.BatchNorm2d):
    pass


def synchronize(model: nn.Module) -> nn.Module:
    """Make every BatchNorm of a network take its statistics over all processes; names and weights stay."""
    for part in model.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = _Shared2d
        elif type(part) is nn.BatchNorm1d:
            part.__class__ = _Shared1d
    return model
