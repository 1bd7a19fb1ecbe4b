"""The command as a whole: what it imports, what it says when something fails, and with which exit status."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from command import environment, line, mien, on_terminal

from mien import __version__
from mien.cli import ABANDONED, COMMANDS, build, main
from mien.errors import SourceError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def verbs() -> list[str]:
    return [verb for group in COMMANDS.values() for verb in group]


def test_help_imports_nothing_heavy() -> None:
    """`mien --help` starts fast: it imports no numpy, Pillow, onnxruntime or torch, and no command."""
    code = """
import sys
from mien.cli import main
assert main(["--help"]) == 0
print("imported:", *sorted(sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert run.returncode == 0, run.stderr
    shown, _, names = run.stdout.partition("imported: ")
    assert all(verb in shown for verb in verbs())
    modules = set(names.split())
    heavy = {"torch", "torchvision", "timm", "onnxruntime", "numpy", "PIL", "matplotlib", "sklearn", "cv2", "scipy"}
    assert "mien.cli" in modules and not heavy & modules
    assert not {name for name in modules if name.startswith("mien.cli.")}


def test_the_module_runs_as_the_command() -> None:
    run = mien("--version")
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{__version__}\n", "")
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["mien"]
    module, _, function = script.partition(":")
    assert getattr(importlib.import_module(module), function) is main


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: mien {verb}" in shown
    assert re.search(rf"Examples:\n\n? +mien {verb}\b", shown)
    assert not re.search(r"\[default: [\](]", shown)  # neither an empty default nor one in Python's brackets
    waiting = [build(verb)[verb]]
    while waiting:  # verbs may have verbs of their own
        app = waiting.pop()
        waiting += [app[name] for name in app if not name.startswith("-")]
        assert app.help
        if app.default_command:
            assert [
                str(argument.name)
                for argument in app.assemble_argument_collection(parse_docstring=True)
                if argument.show and not argument.parameter.help
            ] == []


def examples(verb: str) -> list[str]:
    """The command lines of `mien` among the examples of a help text."""
    app = build(verb)[verb]
    text = app.help_epilogue if isinstance(app.help_epilogue, str) else ""
    commands = [part.strip() for line in text.splitlines() for part in re.split("[|>]", line)]
    return [command for command in commands if command.startswith("mien ")]


def test_help_breaks_its_lines_at_the_width_of_the_terminal() -> None:
    shown = re.sub(r"\x1b\[[\d;]*m", "", on_terminal("predict", "--help", columns=80).stdout)
    assert max(map(len, shown.splitlines())) <= 80
    for paragraph in shown.partition("╭")[0].split("\n\n"):
        for above, below in itertools.pairwise(map(str.strip, paragraph.strip().splitlines())):
            assert len(f"{above} {below.split()[0]}") > 79


@pytest.mark.parametrize("verb", verbs())
def test_examples_of_the_help_parse(verb: str) -> None:
    found = examples(verb)
    assert found
    for command in found:
        tokens = ["<stdin>" if token == "-" else token for token in shlex.split(command, comments=True)[1:]]
        build(tokens[0]).parse_args(tokens, exit_on_error=False, print_error=False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["prdict"], "mien: unknown command 'prdict'; did you mean 'predict'?"),
        (["xyzzy"], "mien: unknown command 'xyzzy'. Known: predict"),
        (["predict"], "PATHS"),
        (["predict", "a.jpg", "--thread", "2"], "--thread. Did you mean --threads"),
        (["predict", "a.jpg", "--max-faces", "many"], "many"),
        (["predict", "a.jpg", "--points", "7"], "7"),
        (["predict", "a.jpg", "--fov", "wide"], '"wide" into a number'),
        (["predict", "a.jpg", "--parquet", "rows.parquet"], "mien batch"),
        (["evaluate", "mien-base", "--dataset", "fer2013", "--tta", "tencrop", "--out", "o"], "a whole number or ten-crop"),
        (["--sideways"], "--sideways"),
    ],
)
def test_wrong_usage_is_one_line_and_2(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("mien: ") and told in err and err.count("\n") == 1


# Verbs of this test, registered as any other verb is: one line in COMMANDS.


def raises(*, level: int = 1) -> None:
    raise SourceError("the image\nis upside down; turn it")


def stop() -> None:
    raise KeyboardInterrupt


def fill() -> None:
    raise OSError(28, "No space left on device", "faces.csv")


def stumble() -> None:
    raise ZeroDivisionError("a mistake of ours")


def count() -> int:
    return 7


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (raises, stop, fill, stumble, count):
        entry = (f"{__name__}:{function.__name__}", "A command of this test.")
        monkeypatch.setitem(COMMANDS["Information"], function.__name__, entry)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("verb", "status", "told"),
    [
        ("raises", 1, "mien: the image is upside down; turn it\n"),
        ("stop", 130, "mien: interrupted\n"),
        ("fill", 1, "mien: [Errno 28] No space left on device: 'faces.csv'\n"),
        ("count", 7, ""),
    ],
)
def test_failures_have_a_status_and_one_line(verb: str, status: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb]) == status
    assert capsys.readouterr() == ("", told)


@pytest.mark.usefixtures("own")
def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["raises", "--debug"], ["--debug", "raises"], ["raises", "--debug", "--level", "2"]):
        assert main(arguments) == 1
        err = capsys.readouterr().err
        assert "Traceback (most recent call last)" in err and "raise SourceError" in err
        assert err.endswith("mien: the image is upside down; turn it\n")
    assert main(["raises", "--", "--debug"]) == 2  # after -- it is no option any more


@pytest.mark.usefixtures("own")
def test_mistakes_of_ours_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        main(["stumble"])


@pytest.mark.usefixtures("own")
def test_one_line_registers_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "A command of this test." in capsys.readouterr().out


def test_a_closed_pipe_is_no_error() -> None:
    """As in `mien models --json | head -0`."""
    process = subprocess.Popen(line("models", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr:
        errors = process.stderr.read()
    assert (process.wait(), errors) == (ABANDONED, b"")


def test_json_lines_are_utf_8_in_any_locale() -> None:
    run = mien("models", "--json", env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    told = {each["name"]: each for each in map(json.loads, run.stdout.splitlines()) if each["what"] == "weights"}
    assert "64 × 64" in told["mien-base"]["summary"]


@pytest.mark.parametrize(
    ("words", "new"),
    [
        (["stress", "mien-base"], "mien robustness"),
        (["predict", "a.jpg", "--actions"], "--blendshapes"),
        (["predict", "a.jpg", "--no-actions"], "--no-blendshapes"),
        (["audit", "--pictures=true"], "--show-images"),
    ],
)
def test_names_of_version_0_1_give_the_new_name(words: list[str], new: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2 and new in capsys.readouterr().err
