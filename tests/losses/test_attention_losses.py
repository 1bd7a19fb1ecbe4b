import itertools

import numpy as np
import pytest
import torch

from mien.losses import AffinityLoss, dan_affinity, dan_partition, ddamfn_attention


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def affinity_by_hand(features: np.ndarray, labels: list[int], centers: np.ndarray) -> float:
    spread = sum(np.var(centers[:, d], ddof=1) for d in range(centers.shape[1]))
    total = 0.0
    for face, label in zip(features, labels, strict=True):
        for k, center in enumerate(centers):
            total += np.clip(np.sum((face - center) ** 2) / spread if k == label else 0.0, 1e-12, 1e12)
    return total / len(features)


def test_affinity_is_the_formula() -> None:
    maps, centers, labels = draw(5, 6, 3, 2), draw(4, 6, seed=1), [0, 3, 3, 1, 2]
    value = dan_affinity(maps, torch.tensor(labels), centers)
    assert value.item() == pytest.approx(affinity_by_hand(maps.mean((2, 3)).numpy(), labels, centers.numpy()), rel=1e-12)


def test_affinity_keeps_the_lower_clamp_of_the_other_classes() -> None:
    centers = torch.tensor([[0.0], [2.0], [4.0]], dtype=torch.float64)
    on_its_center = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    assert dan_affinity(on_its_center, torch.tensor([0]), centers).item() == pytest.approx(3e-12, rel=1e-9)


def test_affinity_module_learns_its_centers() -> None:
    torch.manual_seed(0)
    loss = AffinityLoss(num_classes=7, features=8)
    assert {name: tuple(p.shape) for name, p in loss.named_parameters()} == {"centers": (7, 8)}
    before = loss(torch.ones(4, 8, 2, 2), torch.tensor([0, 1, 2, 3]))
    before.backward()
    with torch.no_grad():
        loss.centers -= 0.05 * loss.centers.grad
    assert loss(torch.ones(4, 8, 2, 2), torch.tensor([0, 1, 2, 3])).item() < before.item()


def test_partition_is_the_formula_and_falls_as_heads_part() -> None:
    heads = draw(3, 4, 5)
    by_hand = np.log(1 + 4 / np.mean(np.var(heads.numpy(), axis=1, ddof=1)))
    assert dan_partition(heads).item() == pytest.approx(by_hand, rel=1e-12)
    assert dan_partition(heads * 3) < dan_partition(heads)


def test_attention_is_the_formula_and_falls_as_heads_part() -> None:
    heads = [draw(2, 3, 4, 4, seed=s) for s in range(4)]
    errors = [np.mean((a.numpy() - b.numpy()) ** 2) for a, b in itertools.combinations(heads, 2)]
    assert ddamfn_attention(heads).item() == pytest.approx(6 / sum(errors), rel=1e-12)
    assert ddamfn_attention([2 * h for h in heads]) < ddamfn_attention(heads)


def test_one_head_has_nothing_to_part() -> None:
    heads = draw(2, 1, 5).requires_grad_()
    dan_partition(heads).backward()
    assert dan_partition(heads).item() == 0
    assert heads.grad is not None and not heads.grad.any()
    assert ddamfn_attention([draw(2, 3, 4, 4)]).item() == 0


def test_heads_that_coincide_stay_finite_and_can_be_clamped() -> None:
    head = torch.ones(2, 3, 4, 4)
    assert torch.isfinite(ddamfn_attention([head, head.clone()]))
    assert torch.isfinite(dan_partition(torch.ones(2, 3, 4)))
    assert ddamfn_attention([head, head + 0.01], maximum=20.0).item() == 20.0
    assert ddamfn_attention([head, head + 1], maximum=20.0).item() == pytest.approx(1)


def test_gradients() -> None:
    maps, centers, labels = draw(3, 4, 2, 2).requires_grad_(), draw(5, 4, seed=1).requires_grad_(), torch.tensor([4, 0, 0])
    assert torch.autograd.gradcheck(lambda f, c: dan_affinity(f, labels, c), (maps, centers))
    assert torch.autograd.gradcheck(dan_partition, (draw(2, 3, 4).requires_grad_(),))
    heads = [draw(2, 3, 2, 2, seed=s).requires_grad_() for s in range(3)]
    assert torch.autograd.gradcheck(lambda *h: ddamfn_attention(h), heads)
