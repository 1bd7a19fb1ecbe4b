"""Recipes are found by name, extend each other, and are changed by flags."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, get_args, get_origin

import pytest
import torch
from runs import environment

from mien.errors import ConfigError
from mien.training import recipes
from mien.training.config import Term, TrainConfig
from mien.training.criterion import BUILDERS, Criterion
from mien.training.recipes import TERMS, Amount, Count, Fraction


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
    with pytest.raises(ConfigError, match=r"did you mean 'optim\.lr'"):
        TrainConfig.load("rafdb-dan-mien", ["--lrr=5e-4"])


WRONG = {
    "optim.lt=3": "lt",
    "optim.lr=fast": "fast",
    "input.crop=fer2012": "fer2012",
    "model.name=dann": "dann",
    "model.options.num_head=2": "num_head",
    "data.dataset=rafbd": "rafbd",
    "data.protocol=offical": "offical",
    "data.root=no-such-folder": "no-such-folder",
    "loss.0.kind=cross-entropi": "cross-entropi",
    "loss.0.options.smooth=0.1": "smooth",
    "loss.0.options.smoothing=2": "2",
    "augment=[{ op = 'flop' }]": "flop",
    "augment=[{ op = 'rotate', degree = 5 }]": "degree",
    "validation.metric=acuracy": "acuracy",
    "model.heads={ lfw = 'ferplsu' }": "ferplsu",
    "model.heads={ feature_map = 'ferplus' }": "feature_map",
    "model.heads={ lfw = 'ferplus' }": "lfw",
}
"""Wrong field of a recipe → the word in its message."""


def test_errors_of_a_recipe_come_before_torch_is_imported() -> None:
    code = (
        "import sys\n"
        "from mien.cli import main\n"
        "for field in sys.argv[1:]:\n"
        "    assert main(['train', 'rafdb-dan-mien', f'--{field}']) == 1\n"
        "    assert 'torch' not in sys.modules, field\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *WRONG], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(word in line for word, line in zip(WRONG.values(), done.stderr.splitlines(), strict=True)), done.stderr


def test_options_of_terms_are_those_of_their_builders() -> None:
    values = {str: "scores", bool: True, Count: 3, Amount: 0.5, Fraction: 0.5, Fraction | None: 0.5, Amount | None: 0.5}
    for kind, options in TERMS.items():
        for name, hint in options.items():
            value = values.get(hint) or (get_args(hint)[0] if get_origin(hint) is Literal else [0.5, 0.5, 0.5])
            term = Term(kind=kind, options={name: value})
            Criterion([term], SimpleNamespace(logits=torch.zeros(2, 3)), 3, torch.ones(3))
    assert TERMS.keys() == BUILDERS.keys()


def test_every_recipe_of_the_package_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    from mien.cli import main

    assert main(["recipes", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(recipes.names())
    assert main(["recipes", "rafdb-dan-mien"]) == 0
    assert capsys.readouterr().out == recipes.find("rafdb-dan-mien").read_text(encoding="utf-8")
