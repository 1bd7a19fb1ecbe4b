"""Flags that make no sense are refused in one line; what they leave unsaid is the library's default."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import mien
from mien.cli import main
from mien.cli.evaluate import _share
from mien.cli.flags import NO_FLAGS
from mien.cli.watch import watch
from mien.errors import ConfigError
from mien.inference.options import DEFAULTS
from mien.inference.recognizer import Recognizer

DRAWN = ("--dataset", "synthetic")


def test_defaults_have_one_place() -> None:
    assert NO_FLAGS.options() == DEFAULTS
    opens, streams = (inspect.signature(each).parameters for each in (mien.load, Recognizer.stream))
    for name, parameter in (opens | streams).items():
        if name in DEFAULTS.to_dict() and name not in ("points", "device"):
            assert parameter.default == getattr(DEFAULTS, name), name
    for name, parameter in inspect.signature(watch).parameters.items():
        if name in DEFAULTS.to_dict():
            assert parameter.default == getattr(DEFAULTS, name), name


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--option", "number=24"), "number=24"),
        (("--option", "fer2013:number=24"), "fer2013"),
        (("--root", "a", "--root", "b"), "--root"),
        (("--root", "syntetic=a"), "did you mean 'synthetic'"),
    ],
)
def test_what_compare_would_pass_over_is_refused(
    arguments: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "mien-base", *DRAWN, "--out", str(tmp_path / "out"), *arguments]) == 1
    assert told in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", ["--limit", "--workers"])
@pytest.mark.parametrize("number", ["0", "-1"])
def test_nothing_to_prepare_with_is_refused(flag: str, number: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["prepare", "align", *DRAWN, "--root", str(tmp_path), "--out", str(out), f"{flag}={number}"]) == 1
    assert flag in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize(
    ("text", "share"), [("88.2", 0.882), ("88.2%", 0.882), ("0.882", 0.882), ("0.9%", 0.009), ("1", 1), ("1%", 0.01)]
)
def test_claims_in_per_cent_and_as_shares(text: str, share: float) -> None:
    assert _share("accuracy", text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["nan", "inf", "much", "", "9%%"])
def test_claims_that_are_no_numbers(text: str) -> None:
    with pytest.raises(ConfigError):
        _share("accuracy", text)


def test_the_folder_of_the_data_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows writes backslashes, which mean something else in TOML."""
    loop = pytest.importorskip("mien.training.loop", reason="needs mien[train]", exc_type=ImportError)
    given: list[Any] = []
    monkeypatch.setattr(loop, "train", lambda config, out, **options: given.append(config.data[0].root))
    recipe = tmp_path / "mine.toml"
    recipe.write_text('epochs = 3\ndata = {dataset = "synthetic"}')
    monkeypatch.chdir(tmp_path)
    for root in (r"C:\users\new", 'a "b"', "ü"):
        Path(root).mkdir()
        main(["train", str(recipe), "--root", root])
        assert given[-1] == root
