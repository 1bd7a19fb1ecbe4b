"""Recipes are found by name, extend each other, and are changed by flags."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from runs import environment

from mien.errors import ConfigError
from mien.training import recipes
from mien.training.config import TrainConfig


def test_recipes_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    assert TrainConfig.load("rafdb-dan-mien").model.name == "dan"
    own = tmp_path / "rafdb-dan-mien.toml"
    own.write_text("epochs = 3")
    assert TrainConfig.load(own).epochs == 3
    with pytest.raises(ConfigError) as caught:
        TrainConfig.load("rafdb-dan-mein")
    assert caught.value.value == "rafdb-dan-mein" and "rafdb-dan-mien" in caught.value.expected


def test_a_recipe_extends_another(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('extends = "rafdb-dan-mien"\nepochs = 5\n[optim]\nlr = 0.5\n')
    (tmp_path / "mine.toml").write_text('extends = "base.toml"\naugment = []\n[optim]\nmomentum = 0.5\n')
    base, mine = TrainConfig.load("rafdb-dan-mien"), TrainConfig.load(tmp_path / "mine.toml")
    assert (mine.epochs, mine.optim.lr, mine.optim.momentum, mine.augment) == (5, 0.5, 0.5, ())
    assert (mine.model, mine.loss, mine.optim.weight_decay) == (base.model, base.loss, base.optim.weight_decay)
    (tmp_path / "base.toml").write_text('extends = "mine.toml"')
    with pytest.raises(ConfigError) as caught:
        TrainConfig.load(tmp_path / "mine.toml")
    assert caught.value.path is not None
    (tmp_path / "mine.toml").write_text('extends = "rafdb-dan-mein"')
    with pytest.raises(ConfigError):
        TrainConfig.load(tmp_path / "mine.toml")


def test_short_names_and_places_in_lists() -> None:
    changed = TrainConfig.load("rafdb-dan-mien", ["--lr=5e-4", "--loss.1.weight=0.25", "--weight-decay=0", "--size=96"])
    assert (changed.optim.lr, changed.loss[1].weight, changed.optim.weight_decay, changed.input.size) == (5e-4, 0.25, 0, 96)
    with pytest.raises(ConfigError):
        TrainConfig.load("rafdb-dan-mien", ["--loss.7.weight=1"])


def test_errors_of_a_recipe_come_before_torch_is_imported() -> None:
    code = (
        "import sys\n"
        "from mien.cli import main\n"
        "assert main(['train', 'rafdb-dan-mien', '--optim.lt=3']) == 1\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_recipe_of_the_package_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    from mien.cli import main

    assert main(["recipes", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(recipes.names())
    assert main(["recipes", "rafdb-dan-mien"]) == 0
    assert capsys.readouterr().out == recipes.find("rafdb-dan-mien").read_text(encoding="utf-8")
