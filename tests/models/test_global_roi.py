import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mien import models
from mien.models.global_roi import fit_fusion, fuse

CROPS = ("eye", "nose", "mouth")


def test_fusion_weighs_both_nets_and_falls_back_where_there_are_no_crops() -> None:
    roi, whole = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    torch.testing.assert_close(fuse(roi, whole), torch.tensor([[0.55, 0.45], [0.55, 0.45]]))
    torch.testing.assert_close(fuse(roi, whole, torch.tensor([True, False])), torch.tensor([[0.55, 0.45], [0.0, 1.0]]))


def test_rows_without_crops_may_hold_anything() -> None:
    roi, whole = torch.tensor([[torch.nan], [1.0]]), torch.tensor([[3.0], [1.0]])
    torch.testing.assert_close(fuse(roi, whole, torch.tensor([False, True])), torch.tensor([[3.0], [1.0]]))


@given(st.integers(0, 2**32 - 1))
def test_the_fitted_weight_is_at_least_as_good_as_any_of_these(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    roi, whole = torch.randn(40, 4, generator=draw), torch.randn(40, 4, generator=draw)
    labels = torch.randint(4, (40,), generator=draw)

    def right(weight: float) -> int:
        return int((fuse(roi, whole, weight=weight).argmax(1) == labels).sum())

    fitted = fit_fusion(roi, whole, labels)
    assert right(fitted) == max(right(weight) for weight in (0.0, 0.25, 0.55, 0.75, 1.0, fitted))


def test_the_authors_weight_wins_among_equals() -> None:
    logits = torch.eye(3)
    assert fit_fusion(logits, logits, torch.arange(3)) == 0.55


def test_the_shared_batchnorm_sees_face_then_crops_then_both() -> None:
    network = models.build("global-roi")
    network.bn.momentum = 1.0  # so that its statistics are those of the last batch it saw
    seen: list[torch.Tensor] = []
    network.bn.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    with torch.no_grad():
        answer = network(torch.randn(3, 3, 64, 64), *(torch.randn(3, 3, 32, 32) for _ in CROPS))
    assert len(seen) == 3
    torch.testing.assert_close(network.bn.running_mean, seen[2].mean(0))
    for logits, batch in zip((answer.whole_logits, answer.roi_logits, answer.logits), seen, strict=True):
        torch.testing.assert_close(logits, nn.functional.batch_norm(batch, None, None, training=True))


@pytest.mark.parametrize("crop", CROPS)
def test_every_crop_counts(crop: str) -> None:
    network = models.build("global-roi").eval()
    images = {"image": torch.randn(1, 3, 64, 64), **{name: torch.randn(1, 3, 32, 32) for name in CROPS}}
    with torch.inference_mode():
        before, after = network(**images), network(**images | {crop: torch.randn(1, 3, 32, 32)})
    assert torch.equal(before.whole_logits, after.whole_logits)
    assert not torch.equal(before.roi_logits, after.roi_logits)
    assert not torch.equal(before.logits, after.logits)


def test_the_variant_without_attention_has_none() -> None:
    with torch.device("meta"):
        assert not [name for name in models.build("global-roi", cbam=False).state_dict() if ".se." in name]
