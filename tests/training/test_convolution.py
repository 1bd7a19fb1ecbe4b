"""Convolutions of small maps learn by products of matrices what torch's own learn."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mien.training import cpu_kernels as convolution
from mien.training.cpu_kernels import small_maps

SHAPES = list(itertools.product((1, 2, 3, 5, 8, 11), (2, 7), (1, 3, 5), (1, 2, 3), (0, 1, 2), (False, True)))


def both(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int) -> list[tuple[Tensor, Tensor]]:
    """Return the answer and the gradients of all that learns, by torch and in `small_maps()`."""
    given = [value for value in (x, weight, bias) if value is not None]
    how = (x, weight, bias, (stride, stride), (padding, padding), (1, 1), groups)
    plain = functional.conv2d(*how)
    grad = torch.randn(plain.shape, dtype=plain.dtype)
    with small_maps():
        quick = functional.conv2d(*how)
    theirs, ours = ([answer, *torch.autograd.grad(answer, given, grad)] for answer in (plain, quick))
    return list(zip(theirs, ours, strict=True))


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "depthwise"])
def test_every_shape_gives_what_torch_gives(dense: bool) -> None:
    torch.manual_seed(0)
    for height, width, kernel, stride, padding, biased in SHAPES:
        if min(height, width) + 2 * padding < kernel:
            continue
        x = torch.randn(3, 4, height, width, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(6 if dense else 4, 4 if dense else 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
        bias = torch.randn(len(weight), dtype=torch.float64, requires_grad=True) if biased else None
        for theirs, ours in both(x, weight, bias, stride, padding, 1 if dense else 4):
            assert theirs.shape == ours.shape
            assert torch.allclose(theirs, ours, atol=1e-11), (height, width, kernel, stride, padding)


def test_the_product_of_all_pairs_gives_what_shifts_give() -> None:
    torch.manual_seed(3)
    for height, width, kernel, stride, padding in itertools.product((1, 2, 3, 6), (2, 5), (3, 5, 9), (1, 2, 3), (0, 1, 4)):
        if min(height, width) + 2 * padding < kernel:
            continue
        x = torch.randn(3, 4, height, width, dtype=torch.float64)
        weight = torch.randn(4, 1, kernel, kernel, dtype=torch.float64)
        grad = torch.randn_like(functional.conv2d(x, weight, None, stride, padding, 1, 4))
        ways = (convolution._all_pairs_to_weight, convolution._shifted_to_weight)
        ours, theirs = (way(grad, x, weight, stride, padding) for way in ways)
        assert torch.allclose(ours, theirs, atol=1e-11), (height, width, kernel, stride, padding)


@pytest.mark.parametrize(
    ("channels", "groups", "side", "kernel", "stride"),
    [
        (32, 1, 6, 3, 1),
        (32, 1, 12, 1, 1),
        (32, 1, 12, 3, 2),
        (32, 32, 12, 3, 2),
        (32, 32, 14, 7, 1),
        (32, 32, 6, 5, 2),
        (32, 32, 3, 7, 1),
        (32, 32, 6, 9, 2),
        (32, 1, 3, 3, 1),
    ],
)
def test_half_precision_is_as_exact_as_torchs(channels: int, groups: int, side: int, kernel: int, stride: int) -> None:
    """Against double precision, bf16 errs no more than torch's own bf16 does (times two)."""
    torch.manual_seed(1)
    exact = [torch.randn(8, channels, side, side), torch.randn(channels, channels // groups, kernel, kernel)]
    rough = [value.bfloat16() for value in exact]
    answers = []
    for kind in (torch.float64, torch.bfloat16):
        x, weight = (value.to(kind).requires_grad_() for value in rough)
        torch.manual_seed(2)
        answers.append(both(x, weight, None, stride, kernel // 2, groups))
    for (wanted, _), (theirs, ours) in zip(*answers, strict=True):
        scale = wanted.abs().max()
        torchs, own = ((value.double() - wanted).abs().max() / scale for value in (theirs, ours))
        assert own < max(2 * torchs, 0.02)


def test_it_is_used_where_a_network_learns_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(convolution, "_columns", lambda *args, kept=convolution._columns: seen.append("columns") or kept(*args))
    layer = nn.Conv2d(4, 4, 3, padding=1)
    image = torch.randn(2, 4, 3, 3)
    layer(image)
    with small_maps(), torch.no_grad():
        layer(image)
    assert not seen
    with small_maps():
        answer = layer(image)
    assert seen == ["columns"]
    torch.relu_(answer)  # what comes back may be changed in place, as timm's networks do
    answer.sum().backward()
    with small_maps(), torch.autocast("cpu", torch.bfloat16):
        assert layer(image).dtype == torch.bfloat16
        assert nn.Conv2d(4, 4, 3, padding="same")(image).shape == image.shape
        assert nn.Conv2d(4, 4, 3, padding=2, dilation=2)(image).shape == image.shape
        assert nn.Conv2d(4, 8, 3, groups=2, padding=1)(image).shape == (2, 8, 3, 3)


@pytest.mark.parametrize("slopes", [1, 5])
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_prelu_gives_what_torch_gives(kind: torch.dtype, slopes: int) -> None:
    torch.manual_seed(4)
    x = torch.randn(3, 5, 4, 6).to(kind)
    x[0, 0] = 0
    x.requires_grad_()
    slope = torch.linspace(-0.5, 1.5, slopes).to(kind).requires_grad_()
    grad = torch.randn_like(x)
    plain = functional.prelu(x, slope)
    with small_maps():
        quick = functional.prelu(x, slope)
    assert "_PRelu" in type(quick.grad_fn).__name__
    assert torch.equal(plain, quick)
    tolerance = {"atol": 1e-11} if kind == torch.float64 else {"rtol": 0.02, "atol": 0.05}
    for theirs, ours in zip(*(torch.autograd.grad(each, (x, slope), grad) for each in (plain, quick)), strict=True):
        assert theirs.shape == ours.shape
        assert torch.allclose(theirs, ours, **tolerance)


def test_prelu_under_autocast_and_of_vectors() -> None:
    layer, vector = nn.PReLU(5), nn.PReLU(5)
    with small_maps(), torch.autocast("cpu", torch.bfloat16):
        (layer(torch.randn(2, 5, 3, 3).bfloat16()).float().sum() + vector(torch.randn(2, 5)).float().sum()).backward()
    for each in (layer, vector):
        assert each.weight.grad is not None and each.weight.grad.dtype == torch.float32
