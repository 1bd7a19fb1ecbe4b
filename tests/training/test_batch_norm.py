"""BatchNorm over processes is torch's own, as far as one process can tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import nn

from mien.training.optim import synchronize_batch_norm


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (1000.0, 1.0), (300.0, 0.1), (1000.0, 0.0)])
def test_large_numbers_keep_their_variance(group: None, mean: float, deviation: float) -> None:
    x = (torch.randn(32, 4, 5, 5, generator=torch.Generator().manual_seed(0)) * deviation + mean).requires_grad_()
    found = []
    synchronized = nn.BatchNorm2d(4)
    synchronize_batch_norm(synchronized, "cpu")
    for kind in (nn.BatchNorm2d(4), synchronized):
        answer = kind(x)
        (gradient,) = torch.autograd.grad((answer**3).sum(), x)
        found.append((answer, gradient, kind.running_mean, kind.running_var))
    for theirs, ours in zip(*found, strict=True):
        assert (ours - theirs).abs().max() <= 5e-3 * (1 + theirs.abs().max())
