"""`mien.torch` in training loops of a user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import config
from torch.nn import functional
from torch.utils.data import DataLoader

import mien
from mien.errors import WeightsError
from mien.runtime.open_model import open_model
from mien.training.loop import train


def test_images_are_those_of_inference_in_the_order_of_the_card() -> None:
    data = mien.torch.dataset("synthetic", split="validation")
    card, runtime = open_model("mien-base")
    images, labels = next(iter(DataLoader(data, 8)))
    assert images.shape == (8, 1, *card.input.size)
    assert [card.labels[label] for label in labels] == [s.label for s in list(data.data)[:8]]
    network = mien.torch.model("mien-base", data=data)
    with torch.no_grad():
        ours = (network(images).ferplus / card.training["calibration"]["ferplus"]).softmax(1)
    assert float((ours - torch.from_numpy(runtime(images.numpy())["ferplus"])).abs().mean()) < 0.02


def test_augmentation_follows_torchs_seed() -> None:
    data = mien.torch.dataset("synthetic", augment=[{"op": "flip"}, {"op": "affine", "rotate": 20}])
    torch.manual_seed(3)
    first, second = data[0][0], data[0][0]
    torch.manual_seed(3)
    assert torch.equal(data[0][0], first) and not torch.equal(first, second)


def test_a_run_is_fine_tuned_in_a_plain_loop(tmp_path: Path) -> None:
    run = train(config(epochs=1), tmp_path / "run")
    network = mien.torch.model(run)
    data = mien.torch.dataset("synthetic", model=run, number="120")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(6):
        for images, labels in DataLoader(data, 32, shuffle=True):
            loss = functional.cross_entropy(network.train()(images).fer2013, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_features_are_those_that_the_last_layer_reads(tmp_path: Path) -> None:
    run = train(config(epochs=1), tmp_path / "run")
    network, data = mien.torch.model(run), mien.torch.dataset("synthetic", split="test", model=run, number="120")
    found = mien.torch.features(network, data, batch_size=5)
    images = torch.stack([data[row][0] for row in range(len(data))])
    with torch.no_grad():
        assert torch.allclose(found, network.eval()(images).feature, atol=1e-5)


def test_exported_networks_of_other_names_are_refused(tmp_path: Path) -> None:
    path = mien.export(train(config(epochs=1), tmp_path / "run"), tmp_path / "net.onnx").path
    with pytest.raises(WeightsError):
        mien.torch.model(path)


@pytest.mark.filterwarnings("default")  # those of lightning
def test_a_lightning_module_trains_on_it(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning", reason="needs lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = mien.torch.model(run)

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
            images, labels = batch
            return functional.cross_entropy(self.network(images).fer2013, labels)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    run = train(config(epochs=1), tmp_path / "run")
    module, data = Module(), mien.torch.dataset("synthetic", model=run, number="120")
    before = [parameter.detach().clone() for parameter in module.parameters()]
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, DataLoader(data, 32))
    assert any(not torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))
