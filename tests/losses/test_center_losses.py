import numpy as np
import pytest
import torch

from mien.losses import CenterLoss, GaussianMixtureLoss, ReconstructedDSF, center_loss, dsf_reconstruction, faer_center_loss

LABELS = torch.tensor([0, 3, 3, 1, 3])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_center_loss_is_the_formula() -> None:
    f, c = draw(5, 6), draw(4, 6, seed=1)
    by_hand = sum(np.sum((x - c.numpy()[y]) ** 2) / 2 for x, y in zip(f.numpy(), LABELS, strict=True)) / 5
    assert center_loss(f, LABELS, c).item() == pytest.approx(by_hand, rel=1e-12)
    assert faer_center_loss(f, LABELS, c).item() == center_loss(f, LABELS, c).item()


def test_faer_moves_centers_by_a_count_normalized_mean_whatever_the_weight() -> None:
    f, c = draw(5, 6).requires_grad_(), draw(4, 6, seed=1).requires_grad_()
    by_hand = torch.zeros_like(c)
    for j in range(4):
        rows = f.detach()[j == LABELS]
        by_hand[j] = (c.detach()[j] - rows).sum(0) / (1 + len(rows)) / 5
    for weight in (1.0, 0.01):
        to_features, to_centers = torch.autograd.grad(weight * faer_center_loss(f, LABELS, c), (f, c))
        torch.testing.assert_close(to_centers, by_hand)
        torch.testing.assert_close(to_features, weight * (f - c[LABELS]).detach() / 5)


def test_gradients() -> None:
    f, c = draw(5, 6).requires_grad_(), draw(4, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: center_loss(a, LABELS, b), (f, c))
    assert torch.autograd.gradcheck(lambda a: 3 * faer_center_loss(a, LABELS, c.detach()), (f,))
    for options in ({}, {"balance": 0.3, "temperature": 2.0}):
        assert torch.autograd.gradcheck(lambda a, b, o=options: dsf_reconstruction(a, LABELS, b, **o), (f, c))
    for likelihood in ("euclidean", "gaussian"):
        mixture = GaussianMixtureLoss(4, 6, margin=0.3, likelihood=likelihood).double()
        spread = draw(4, 6, seed=2).requires_grad_()

        def loss(features: torch.Tensor, centers: torch.Tensor, log_variance: torch.Tensor, m: GaussianMixtureLoss = mixture):
            return torch.func.functional_call(m, {"centers": centers, "log_variance": log_variance}, (features, LABELS))

        assert torch.autograd.gradcheck(loss, (f, c, spread))


def entropy(p: np.ndarray) -> float:
    return float(-(p * np.log(p)).sum())


def test_dsf_reconstruction_is_its_derivation() -> None:
    f, c = draw(5, 6), draw(4, 6, seed=1)
    p = np.exp(f.numpy() / 2)
    p /= p.sum(1, keepdims=True)
    divergences = []
    for label in (0, 1, 3):
        rows = p[LABELS.numpy() == label]
        divergences.append(entropy(rows.mean(0)) - np.mean([entropy(row) for row in rows]))
    by_hand = center_loss(f, LABELS, c).item() + 0.7 * np.mean(divergences)
    assert dsf_reconstruction(f, LABELS, c, balance=0.7, temperature=2.0).item() == pytest.approx(by_hand, rel=1e-12)
    assert divergences[:2] == pytest.approx([0, 0], abs=1e-12)  # one face of its class: nothing to differ from


def test_dsf_reconstruction_divergence_is_zero_for_equal_and_at_most_log_n_for_disjoint_faces() -> None:
    labels, centers = torch.tensor([0, 0]), torch.zeros(1, 4)
    same = torch.tensor([[1.0, 2.0, 0.0, 0.0]]).repeat(2, 1)
    assert (dsf_reconstruction(same, labels, centers) - center_loss(same, labels, centers)).item() == pytest.approx(0, abs=1e-6)
    apart = torch.tensor([[200.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 200.0]], requires_grad=True)
    total = dsf_reconstruction(apart, labels, centers)
    assert (total - center_loss(apart, labels, centers)).item() == pytest.approx(np.log(2), abs=2e-3)
    total.backward()
    assert apart.grad is not None and torch.isfinite(apart.grad).all()


@pytest.mark.parametrize("loss", [CenterLoss(7, 16), CenterLoss(7, 16, faer=True), ReconstructedDSF(7, 16)])
def test_centers_can_be_learned(loss: CenterLoss | ReconstructedDSF) -> None:
    features, labels = torch.ones(4, 16), torch.tensor([0, 1, 6, 6])
    first = loss(features, labels)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    optimizer.zero_grad()
    first.backward()
    optimizer.step()
    assert loss(features, labels).item() < first.item()


@pytest.mark.parametrize("likelihood", ["euclidean", "gaussian"])
def test_gaussian_mixture_is_the_formula(likelihood: str) -> None:
    f, mu, log_variance = draw(5, 6), draw(4, 6, seed=1), draw(4, 6, seed=2) / 2
    mixture = GaussianMixtureLoss(4, 6, margin=0.3, likelihood_weight=0.2, likelihood=likelihood).double()
    mixture.load_state_dict({"centers": mu, "log_variance": log_variance})
    total = 0.0
    for x, y in zip(f.numpy(), LABELS.tolist(), strict=True):
        variance, log_det = np.exp(log_variance.numpy()), log_variance.numpy().sum(1)
        d = ((x - mu.numpy()) ** 2 / variance).sum(1)
        margin = d * np.where(np.arange(4) == y, 1.3, 1)
        logits = -0.5 * (margin + log_det)
        own = d[y] if likelihood == "gaussian" else np.sum((x - mu.numpy()[y]) ** 2)
        total += np.log(np.exp(logits).sum()) - logits[y] + 0.2 * 0.5 * (own + log_det[y])
    assert mixture(f, LABELS).item() == pytest.approx(total / 5, rel=1e-10)


def test_gaussian_mixture_predicts_the_likeliest_class_without_margin() -> None:
    mixture = GaussianMixtureLoss(3, 4).double()
    with torch.no_grad():
        mixture.log_variance.copy_(draw(3, 4, seed=3))
    f = draw(20, 4)
    densities = torch.stack(
        [
            torch.distributions.Normal(m, (v / 2).exp()).log_prob(f).sum(1)
            for m, v in zip(mixture.centers, mixture.log_variance, strict=True)
        ],
        1,
    )
    torch.testing.assert_close(mixture.logits(f).log_softmax(1), densities.log_softmax(1))
