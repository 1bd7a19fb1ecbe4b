import numpy as np
import pytest
import torch
from torch.nn import functional

from mien.losses import VOTE_MODES, class_balanced_weights, cross_entropy, vote_loss


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([0, 2, 3, 3, 1])
VOTES = torch.tensor([[10, 0, 0, 0], [4, 4, 1, 1], [1, 2, 3, 4], [0, 5, 0, 5], [2, 1, 1, 0]])


def log_p(logits: torch.Tensor) -> np.ndarray:
    x = logits.detach().numpy()
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def test_label_smoothing_is_the_formula() -> None:
    logits = draw(5, 4)
    by_hand = np.mean([-0.9 * row[y] - 0.1 * row.mean() for row, y in zip(log_p(logits), LABELS, strict=True)])
    assert cross_entropy(logits, LABELS, smoothing=0.1).item() == pytest.approx(by_hand, rel=1e-12)


def test_faces_without_label_do_not_count() -> None:
    logits, labels = draw(5, 4).requires_grad_(), torch.tensor([0, -1, 3, -1, 1])
    kept = labels >= 0
    assert cross_entropy(logits, labels).item() == pytest.approx(cross_entropy(logits[kept], labels[kept]).item())
    nothing = cross_entropy(logits, torch.full((5,), -1))
    nothing.backward()
    assert nothing.item() == 0
    assert logits.grad is not None and not logits.grad.any()


def test_a_batch_of_classes_without_weight_teaches_nothing() -> None:
    """As where pseudo-labels name a class that the training images lack."""
    logits, labels, weight = draw(2, 4).requires_grad_(), torch.tensor([0, 0]), torch.tensor([0.0, 1, 1, 1]).double()
    for nothing in (
        cross_entropy(logits, labels, weight=weight, smoothing=0.1),
        cross_entropy(logits, torch.tensor([0, -1]), weight=weight),
    ):
        logits.grad = None
        nothing.backward()
        assert nothing.item() == 0 and logits.grad is not None and not logits.grad.any()
    assert class_balanced_weights(torch.tensor([0, 0])).tolist() == [0, 0]


def test_softmax_handed_over_as_logits_has_the_published_floor() -> None:
    certain = functional.one_hot(torch.tensor([3]), 9).double()
    assert cross_entropy(certain, torch.tensor([3])).item() == pytest.approx(np.log(1 + 8 / np.e))


def test_class_balanced_weights_follow_the_effective_number() -> None:
    counts = torch.tensor([5000, 500, 20, 0])
    effective = np.array([(1 - 0.99**n) / (1 - 0.99) for n in counts.tolist()[:3]])
    by_hand = 3 * (1 / effective) / (1 / effective).sum()
    weights = class_balanced_weights(counts, beta=0.99)
    assert weights.tolist() == pytest.approx([*by_hand, 0], rel=1e-6)
    assert weights.dtype == torch.float32
    assert class_balanced_weights(counts, beta=0).tolist() == [1, 1, 1, 0]
    with pytest.raises(ValueError, match="beta"):
        class_balanced_weights(counts, beta=1)


def vote_terms(logits: torch.Tensor, mode: str) -> list[float]:
    shares = VOTES.numpy() / VOTES.numpy().sum(1, keepdims=True)
    own = {
        "cross-entropy": lambda row, q: -(q * row).sum(),
        "majority": lambda row, q: -row[q.argmax()],
        "multi-target": lambda row, q: min(-row[k] for k in range(4) if q[k] > 0.3),
    }[mode]
    return [own(row, q) for row, q in zip(log_p(logits), shares, strict=True)]


@pytest.mark.parametrize("mode", ["cross-entropy", "majority", "multi-target"])
def test_votes_are_the_formula(mode: str) -> None:
    logits = draw(5, 4)
    assert vote_loss(logits, VOTES, mode).item() == pytest.approx(np.mean(vote_terms(logits, mode)), rel=1e-12)
    assert vote_loss(logits, VOTES / 7, mode).item() == pytest.approx(
        vote_loss(logits, VOTES, mode).item()
    )  # shares, not counts


def test_binary_votes_are_soft_targets_for_every_class() -> None:
    logits = draw(5, 4)
    p, q = torch.sigmoid(logits).numpy(), VOTES.numpy() / VOTES.numpy().sum(1, keepdims=True)
    by_hand = np.mean(-q * np.log(p) - (1 - q) * np.log(1 - p))
    assert vote_loss(logits, VOTES, "binary").item() == pytest.approx(by_hand, rel=1e-12)


def test_probability_draws_labels_by_their_share() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]], dtype=torch.float64)
    votes, chance = torch.tensor([[0, 2, 0, 6]]), torch.Generator().manual_seed(5)
    drawn = [vote_loss(logits, votes, "probability", generator=chance).item() for _ in range(400)]
    second, last = -log_p(logits)[0, [1, 3]]
    assert {round(v, 9) for v in drawn} == {round(second, 9), round(last, 9)}
    assert sum(v == pytest.approx(last) for v in drawn) / 400 == pytest.approx(0.75, abs=0.08)
    again = [vote_loss(logits, votes, "probability", generator=chance.manual_seed(5)).item() for _ in range(2)]
    assert again == [drawn[0]] * 2


def test_multi_target_always_accepts_the_most_voted() -> None:
    logits, votes = draw(1, 5), torch.tensor([[3, 2, 2, 2, 1]])
    assert vote_loss(logits, votes, "multi-target").item() == pytest.approx(-log_p(logits)[0, 0])
    assert vote_loss(logits, votes, "multi-target", threshold=0).item() == pytest.approx(-log_p(logits)[0].max())


def test_votes_without_a_vote_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 .*\[0, 0\]"):
        vote_loss(torch.zeros(2, 2), torch.tensor([[1, 0], [0, 0]]))
    with pytest.raises(ValueError, match=r"0 .*\[nan, 1.0\]"):
        vote_loss(torch.zeros(2, 2), torch.tensor([[float("nan"), 1], [1, 0]]))
    with pytest.raises(ValueError, match="'mean'"):
        vote_loss(torch.zeros(1, 2), torch.tensor([[1, 0]]), "mean")  # pyrefly: ignore


def test_gradients() -> None:
    logits, weight = draw(5, 4).requires_grad_(), torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, LABELS, smoothing=0.1, weight=weight), (logits,))
    for mode in VOTE_MODES:
        chance = torch.Generator()
        loss = lambda x, m=mode, c=chance: vote_loss(x, VOTES, m, smoothing=0.1, generator=c.manual_seed(0))  # noqa: E731
        assert torch.autograd.gradcheck(loss, (logits,)), mode
