"""Experiment trackers get the whole config, the losses of every step, the metrics of every epoch, and figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import recipe, run


def test_tensorboard(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = tmp_path / "runs" / "tiny" / "3"
    done = run(recipe(tmp_path, tracker="tensorboard", optim__lr=0.015), out)
    assert done.returncode == 0, done.stderr
    found = accumulator.EventAccumulator(str(out / "tiny-3"), {"images": 0}).Reload()
    losses = found.Scalars("step/loss")
    assert [event.step for event in losses] == list(range(12)) and losses[-1].value < losses[0].value
    wanted = {"step/lr", "step/cross-entropy", "loss", "validation_loss", "train_accuracy", "accuracy"}
    assert wanted <= {*found.Tags()["scalars"]}
    assert [event.step for event in found.Scalars("accuracy")] == [6, 12]
    for name in ("confusion", "curves"):
        assert len(found.Images(name)) == 2 and found.Images(name)[0].width > 300
    hparams = "\n".join(path.read_text() for path in out.rglob("hparams.yml"))
    assert "optim.lr: 0.015\n" in hparams and "data.options.number: '120'" in hparams and "model.options.widths:" in hparams


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "runs" / "tiny" / "3"
    done = run(recipe(tmp_path, tracker="wandb"), out)
    assert done.returncode == 0, done.stderr
    (folder,) = (out / "wandb").glob("offline-run-*")
    assert {path.name.partition("_")[0] for path in folder.rglob("*.png")} == {"confusion", "curves"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of sqlalchemy
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(tmp_path)
    done = run(recipe(tmp_path, tracker="mlflow"), tmp_path / "runs" / "tiny" / "3")
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(store)
    (experiment,) = (each for each in client.search_experiments() if each.name == "mien")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "tiny/3" and found.data.params["optim.lr"] == "0.02"
    assert len(client.get_metric_history(found.info.run_id, "step/loss")) == 12
