import numpy as np
import pytest
import torch

from mien.losses import action_unit_loss, ccc, ccc_loss


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize(("moments", "ddof"), [("biased", 0), ("mixed", 1)])
def test_ccc_is_the_formula(moments: str, ddof: int) -> None:
    p, t = draw(9, 2), draw(9, 2, seed=1)
    for column, value in enumerate(ccc(p, t, moments=moments)):
        a, b = p[:, column].numpy(), t[:, column].numpy()
        covariance = np.mean((a - a.mean()) * (b - b.mean()))
        by_hand = 2 * covariance / (a.var(ddof=ddof) + b.var(ddof=ddof) + (a.mean() - b.mean()) ** 2 + 1e-8)
        assert value.item() == pytest.approx(by_hand, rel=1e-12)


def test_perfect_agreement() -> None:
    scores = draw(32)
    assert ccc(scores, scores).item() == pytest.approx(1, abs=1e-6)
    assert ccc(-scores + scores.mean() * 2, scores).item() == pytest.approx(-1, abs=1e-6)
    assert ccc(scores, scores, moments="mixed").item() == pytest.approx(31 / 32, abs=1e-6)
    with pytest.raises(KeyError):
        ccc(scores, scores, moments="unbiased")  # pyrefly: ignore


def test_whole_set_is_not_the_mean_of_its_batches() -> None:
    p, t = draw(64), (draw(64) + draw(64, seed=1)) / 2
    batches = torch.stack([ccc(a, b) for a, b in zip(p.split(8), t.split(8), strict=True)]).mean()
    assert abs(batches - ccc(p, t)) > 0.01


def test_loss_leaves_unannotated_rows_out() -> None:
    p, t = draw(8, 2), draw(8, 2, seed=1)
    valid = torch.tensor([True] * 5 + [False] * 3)
    t[5:] = -5
    assert ccc_loss(p, t, valid=valid).item() == ccc_loss(p[:5], t[:5]).item()
    p.requires_grad_()
    nothing = ccc_loss(p, t, valid=torch.arange(8) == 0)
    nothing.backward()
    assert nothing.item() == 0
    assert p.grad is not None and not p.grad.any()


def test_action_units_leave_unannotated_units_out() -> None:
    p = torch.rand(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tensor([[1, 0, -1], [0, -1, -1], [1, 1, 0], [-1, -1, -1]])
    terms = [-np.log(a if b else 1 - a) for a, b in zip(p.flatten().tolist(), t.flatten().tolist(), strict=True) if b >= 0]
    assert action_unit_loss(p, t).item() == pytest.approx(np.mean(terms), rel=1e-12)
    assert action_unit_loss(torch.logit(p), t, from_logits=True).item() == pytest.approx(np.mean(terms), rel=1e-9)
    assert action_unit_loss(p, torch.full_like(t, -1)).item() == 0


def test_gradients() -> None:
    target = draw(6, 2, seed=1)
    for moments in ("biased", "mixed"):
        assert torch.autograd.gradcheck(lambda p, m=moments: ccc_loss(p, target, moments=m), (draw(6, 2).requires_grad_(),))
    valid = torch.tensor([True, True, False, True, True, False])
    assert torch.autograd.gradcheck(lambda p: ccc_loss(p, target, valid=valid), (draw(6, 2).requires_grad_(),))
    units = torch.tensor([[1, 0, -1], [0, -1, 1]])
    assert torch.autograd.gradcheck(lambda p: action_unit_loss(p, units, from_logits=True), (draw(2, 3).requires_grad_(),))
    inside = (draw(2, 3) / 4 + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: action_unit_loss(p, units), (inside,))
