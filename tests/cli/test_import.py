"""`mien import`: a checkpoint in, weights and card out, one line for what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mien import cards, models
from mien.cli import main
from mien.cli.export import _value
from mien.cli.options import pairs
from mien.errors import ConfigError
from mien.labels import RAFDB


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small network's state dict as its authors would have saved it."""
    network = models.build("timm:test_resnet", num_classes=7)
    state = {f"module.{name.removeprefix('model.')}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 9, "state_dict": state}, tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth"


def test_a_checkpoint_is_imported(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ours.safetensors"
    assert main(["import", "timm:test_resnet", str(checkpoint), "-o", str(out), "--labels", "rafdb"]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    count = len(torch.load(checkpoint, weights_only=True)["state_dict"])
    assert told == {
        "weights": str(out),
        "card": str(tmp_path / "ours.toml"),
        "container": "torch zip, entry 'state_dict'",
        "loaded": count,
        "unused": [],
        "missing": [],
        "shape_mismatch": [],
    }
    assert f"{count} tensors loaded" in captured.err
    assert f"wrote {out} and ours.toml" in captured.err
    assert cards.read(tmp_path / "ours.toml").labels == RAFDB


def test_what_does_not_fit_is_one_line(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["module.extra.weight"] = torch.zeros(1)
    torch.save(content, checkpoint)
    arguments = ["import", "timm:test_resnet", str(checkpoint), "-o", str(tmp_path / "ours.safetensors"), "--labels", "rafdb"]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("mien: the file does not fit the model 'timm:test_resnet'")
    assert "1 unused (extra.weight)" in captured.err
    assert captured.err.count("\n") == 1
    assert main([*arguments, "--loose"]) == 0
    assert json.loads(capsys.readouterr().out)["unused"] == ["extra.weight"]


def test_malicious_pickle_is_rejected_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return print, ("it ran",)

    torch.save(Evil(), tmp_path / "evil.pth")
    assert main(["import", "as-is", str(tmp_path / "evil.pth"), "-o", str(tmp_path / "a.safetensors")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "'__builtin__.print'" in captured.err
    assert not (tmp_path / "a.safetensors").exists()


def test_options_are_numbers_booleans_or_text() -> None:
    assert [_value(text) for text in ("4", "0.1", "true", "false", "code", "a=b")] == [4, 0.1, True, False, "code", "a=b"]
    assert pairs(["num_heads=4", "backbone=a=b"], "--option") == {"num_heads": "4", "backbone": "a=b"}
    for text in ("num_heads", "=4"):
        with pytest.raises(ConfigError) as caught:
            pairs([text], "--option")
        assert caught.value.value == text
