"""Messages name options that exist, as the command line spells them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from cyclopts import App

import mien
from mien.cli import COMMANDS, build, main
from mien.cli.terminal import in_flags

SOURCE = Path(mien.__file__).parent
OTHERS = {"--nproc-per-node", "--num-gpus", "--head"}
"""Options of torchrun and Ray."""


def options() -> set[str]:
    """Every option of every command."""
    found, waiting = {"--help", "--version", "--debug"}, [build(verb)[verb] for group in COMMANDS.values() for verb in group]
    while waiting:
        app: App = waiting.pop()
        waiting += [app[name] for name in app if not name.startswith("-")]
        if app.default_command:
            found |= {name for argument in app.assemble_argument_collection() for name in argument.names}
    return found


def texts(path: Path) -> list[tuple[int, str]]:
    """The sentences in a module's code, without docstrings; f-strings with … for their values."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            text = node.value
        else:
            continue
        if " " in text and "var(--" not in text:
            found.append((node.lineno, text))
    return found


def test_options_in_messages_exist() -> None:
    known = options() | OTHERS
    assert {"--crop", "--images", "--write-clean", "--no-page"} <= known
    unknown = {
        (str(path.relative_to(SOURCE)), line, name)
        for path in SOURCE.rglob("*.py")
        for line, text in texts(path)
        for name in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)
        if name not in known
    }
    assert unknown == set()


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("allow_private=True allows it", "--allow-private allows it"),
        ("raise max_pixels", "raise --max-pixels"),
        ("give crop='arcface112', or detector='whole'", "give --crop arcface112, or --detector whole"),
        ("the detector found one crop", "the detector found one crop"),
        ("skip them with damaged='skip' (--skip-damaged)", "skip them with --skip-damaged"),
        ("give order=rafdb or order=alphabetical", "give --option order=rafdb or --option order=alphabetical"),
        ("--option labels=NAME; got 'mode=7'", "--option labels=NAME; got 'mode=7'"),
    ],
)
def test_python_keywords_become_options(message: str, shown: str) -> None:
    assert in_flags(message) == shown


def test_a_misspelt_crop_names_the_nearest(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(sample), "--crop", "arcfase112"]) == 1
    assert "arcface112" in capsys.readouterr().err
