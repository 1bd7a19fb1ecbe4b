import pytest
import torch
from torch import nn

from mien import models

CROPS = ("eye", "nose", "mouth")


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
