"""The command `mien`: its subcommands, error reporting and exit status.

A subcommand is an entry of `COMMANDS` and a function in a file that is imported on use. The docstring is the help,
including the section "Examples:". The function returns its exit status, or None for 0. Results go to stdout, everything else
to stderr.

Exit status: 0 success, 1 an error reported in one line (or some of many images could not be read), 2 invalid usage, 130
interrupted, 141 the reader of stdout closed the pipe.
"""

import errno
import gc
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from cyclopts import App, CycloptsError, Group, Parameter

from ..errors import MienError, did_you_mean

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Inference": {
        "predict": ("mien.cli.predict:predict", "Predict the expressions of faces in images and videos."),
        "watch": ("mien.cli.watch:watch", "Predict on a camera and show the results live."),
        "serve": ("mien.cli.serve:serve", "Serve predictions over HTTP, with a web page."),
        "batch": ("mien.cli.batch:batch", "Predict on millions of images or videos, into Parquet files."),
    },
    "Training and evaluation": {
        "prepare": ("mien.cli.prepare:app", "Align faces, crop facial regions, filter annotations."),
        "audit": ("mien.cli.prepare:audit", "Find duplicates across splits, conflicting labels and preprocessed images."),
        "train": ("mien.cli.train:train", "Train a network from a recipe."),
        "sweep": ("mien.cli.train:sweep", "Train a recipe with several values of its fields."),
        "recipes": ("mien.cli.train:recipes", "List the recipes of the package, or show one."),
        "evaluate": ("mien.cli.evaluate:evaluate", "Evaluate a model on a dataset, with intervals and a report."),
        "compare": ("mien.cli.compare:compare", "Evaluate several models on several datasets, with paired tests."),
        "verify": ("mien.cli.evaluate:verify", "Compare the metrics that a card claims with measured ones."),
        "fuse": ("mien.cli.compare:fuse", "Fuse models into an ensemble with its own card."),
        "curves": ("mien.cli.train:curves", "Plot the learning curves of training runs."),
        "robustness": ("mien.cli.evaluate:robustness", "Measure the cost of blur, poor light, occlusion and other crops."),
        "explain": ("mien.cli.explain:explain", "Explain predictions: heat maps and region importance."),
        "export": ("mien.cli.export:export", "Export a network as one file that runs without torch."),
        "embed": ("mien.cli.explain:embed", "Write the features of a dataset, and plot them by class."),
        "import": ("mien.cli.export:import_", "Convert an authors' checkpoint into weights with a card."),
    },
    "Information": {
        "models": ("mien.cli.models:models", "List the bundled models and the architectures."),
        "datasets": ("mien.cli.datasets:datasets", "List the supported datasets, or summarize a dataset folder."),
        "doctor": ("mien.cli.doctor:doctor", "Check the installation."),
    },
}
"""Group → command → import path of its function, and the line shown by `mien --help` without importing it."""

RENAMED = {"stress": "robustness"}  # command of version 0.1 → new name

FLAGS = {
    "--actions": "was renamed to --blendshapes",
    "--no-actions": "was renamed to --no-blendshapes",
    "--pictures": "was renamed to --show-images",
    "--parquet": "is not an option; mien batch writes Parquet files, mien predict --csv and --jsonl",
}
"""What became of a flag of version 0.1, or replaces one that is expected."""

NETWORKS = ("mien-base.onnx", "mesh478.onnx", "mesh468.onnx", "blazeface.onnx", "blendshapes.onnx")
"""What `mien predict` loads, in order, unless flags that begin with `CHOOSING` say otherwise. It is opened beside imports."""
CHOOSING = ("--help", "-h", "--version", "--model", "--detector", "--device", "--threads", "--no-blendshapes")

TYPES = {"int|Literal[ten-crop].": "a whole number or ten-crop", "int.": "a whole number", "float.": "a number"}
"""Types in messages of cyclopts → words."""

SUMMARY = "Facial expression recognition: predict, train, evaluate and compare."

EPILOGUE = """Examples:

    mien predict photo.jpg
    mien predict holiday --csv faces.csv --save annotated
    mien predict clip.mp4 --jsonl rows.jsonl --timeline clip.html
    mien watch
    mien doctor

Help for one command: mien predict --help
Output is a table on a terminal and JSON Lines in a pipe or with --json.
--debug shows the traceback of an error.
"""

ABANDONED = 128 + 13  # exit status when the reader of stdout closed the pipe, as shells report SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line without `mien`, by default that of the process, and return its exit status."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if "-" in tokens:  # cyclopts takes a lone dash for a flag
        from .terminal import STDIN

        tokens = [STDIN if token == "-" else token for token in tokens]
    debug = "--debug" in tokens[: tokens.index("--") if "--" in tokens else None]
    if debug:
        tokens.remove("--debug")
    try:
        command = _command(tokens)
        if command == "predict" and arguments is None and not any(token.startswith(CHOOSING) for token in tokens):
            from ..runtime.onnx import open_early

            open_early(NETWORKS)
        status = build(command)(tokens)
        sys.stdout.flush()
        return int(status or 0)
    except BrokenPipeError:
        _give_up_stdout()
        return ABANDONED
    except KeyboardInterrupt:
        return _fail("interrupted", 130, debug)
    except (CycloptsError, _UsageError) as error:
        text, _, kind = str(error).rpartition(" into ")
        return _fail(f"{text} into {TYPES[kind]}" if kind in TYPES else str(error), 2, debug)
    except (MienError, OSError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
            # Without a file name the full disk is that of redirected standard output.
            text = f"cannot write standard output: {error.strerror}; free space or redirect it"
            _give_up_stdout()
        return _fail(text, 1, debug)
    finally:
        if arguments is None:
            gc.freeze()  # the process ends; Python would collect all modules once more, which takes 40 ms


def _give_up_stdout() -> None:
    """Redirect stdout to the null device, because Python flushes it again at exit and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build(command: str | None = None) -> App:
    """Return the command-line application with one command imported; the others are imported lazily."""
    app = App(
        "mien",
        SUMMARY,
        version=_version,
        help_format="plaintext",
        help_epilogue=EPILOGUE,
        group_commands=Group("Options", sort_key=len(COMMANDS)),
        default_parameter=Parameter(negative=(), show_default=_shown_default),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    if command is None:  # it is an option of no command; its module takes 8 ms
        app.register_install_completion_command(help="Install shell completion (bash, zsh, fish, powershell).")
    for order, (title, commands) in enumerate(COMMANDS.items()):
        group = Group(title, sort_key=order)
        for place, (name, (target, summary)) in enumerate(commands.items()):
            if name == command:
                module, _, attribute = target.partition(":")
                function = getattr(importlib.import_module(module), attribute)
                if isinstance(function, App):  # a command with subcommands
                    function.group, function.sort_key, function.group_commands = group, place, Group("Commands")
                    app.command(function, name=name)
                else:
                    examples = _examples(function)
                    function.__doc__ = _flowing(function)
                    app.command(function, name=name, group=group, sort_key=place, help_epilogue=examples)
            else:
                app.command(target, name=name, help=summary, group=group, sort_key=place)
    return app


def _version() -> str:
    from ..io.provenance import VERSION

    return VERSION


class _UsageError(Exception):
    pass


def _command(tokens: Sequence[str]) -> str | None:
    """Return the name of the command; an unknown one, of which cyclopts would import all to report it, is a _UsageError."""
    commands = [command for group in COMMANDS.values() for command in group]
    for flag in (token.partition("=")[0] for token in tokens):
        if flag in FLAGS:
            raise _UsageError(f"{flag} {FLAGS[flag]}")
    if not tokens or tokens[0].startswith("-"):
        return None
    if tokens[0] in commands:
        return tokens[0]
    if tokens[0] in RENAMED:
        raise _UsageError(f"mien {tokens[0]} was renamed to mien {RENAMED[tokens[0]]}")
    hint = did_you_mean(tokens[0], commands, ".")
    raise _UsageError(f"unknown command {tokens[0]!r}{hint} Known: {', '.join(commands)}")


def _flowing(function: Any) -> str:
    """Return a docstring with each paragraph and each argument on one line, which the terminal breaks at its own width."""
    return re.sub(r"(?<=\S)\n(?: {8})?(?=\S)", " ", inspect.getdoc(function) or "")


def _examples(function: Any) -> str:
    """Return the section "Examples:" of a docstring, which cyclopts does not show."""
    found = re.search(r"^Examples:\n(?:(?:[ \t].*)?\n)+", f"{inspect.getdoc(function)}\n", re.MULTILINE)
    return found[0].rstrip() + "\n" if found else ""


def _fail(message: str, status: int, debug: bool) -> int:
    from .terminal import STDIN, in_flags  # --help stays free of rich's progress bars

    if debug:
        traceback.print_exc()
    print(f"mien: {in_flags(' '.join(message.replace(STDIN, '-').split()))}", file=sys.stderr)
    return status


def _shown_default(value: Any) -> str | None:
    """Return a default as help shows it: empty defaults not at all, tuples as given on the command line."""
    if value is None or value is False or value in ("", ()):
        return None
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
