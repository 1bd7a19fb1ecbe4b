"""The command `mien`: its verbs, and what happens when one fails.

A verb is one line in `VERBS` and a function in a file of its own, imported when the verb is used. Its docstring is its help,
the section "Examples:" included. It returns its exit status, or None for 0. Data goes to stdout, everything else to stderr.

Exit status: 0 done, 1 an error that `mien` explains in one line (or some images of many that could not be read), 2 wrong
usage, 130 interrupted, 141 whoever read stdout went away.
"""

from __future__ import annotations

import errno
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
from ..io.provenance import VERSION

VERBS: dict[str, dict[str, tuple[str, str]]] = {
    "To use": {
        "predict": ("mien.cli.predict:predict", "Read the expressions of the faces in images and videos."),
        "watch": ("mien.cli.watch:watch", "Read a camera and show what is read, as it comes."),
        "serve": ("mien.cli.serve:serve", "Serve readings over HTTP, with a web page to try them on."),
        "batch": ("mien.cli.batch:batch", "Read millions of images or thousands of videos into parquet files."),
    },
    "To make": {
        "prepare": ("mien.cli.prepare:app", "Align faces, cut regions of faces, curate annotations."),
        "audit": ("mien.cli.audit:audit", "Look for copies across splits, torn labels and treated images in a dataset."),
        "train": ("mien.cli.train:train", "Train a network by a recipe."),
        "evaluate": ("mien.cli.evaluate:evaluate", "Evaluate a model on a dataset, with intervals and a report."),
        "compare": ("mien.cli.compare:compare", "Evaluate several models on several datasets, with paired tests."),
        "verify": ("mien.cli.verify:verify", "Compare the metrics that a card claims with measured ones."),
        "curves": ("mien.cli.curves:curves", "Plot the learning curves of training runs."),
        "robustness": ("mien.cli.robustness:robustness", "Measure the cost of blur, poor light, occlusion and other crops."),
        "explain": ("mien.cli.explain:explain", "Explain predictions: heat maps and region importance."),
        "export": ("mien.cli.export:export", "Export a network as one file that runs without torch."),
        "embed": ("mien.cli.embed:embed", "Write the features of a dataset, and plot them by class."),
        "import": ("mien.cli.import_:import_", "Turn a checkpoint of a network's authors into weights with a card."),
    },
    "To look": {
        "models": ("mien.cli.models:models", "List the bundled weights and the architectures that can be trained."),
        "datasets": ("mien.cli.datasets:datasets", "List the datasets that can be read, or count what lies in a folder."),
        "doctor": ("mien.cli.doctor:doctor", "Check this installation, down to one real reading."),
    },
}
"""Group → verb → where its function lies, and the line that `mien --help` shows without importing it."""

RENAMED = {"stress": "robustness"}
"""Verb of version 0.1 → its name today."""

SUMMARY = "Read facial expressions, and train, measure and compare the networks that do it."

EPILOGUE = """Examples:

    mien predict photo.jpg
    mien predict holiday --csv faces.csv --save annotated
    mien predict clip.mp4 --jsonl rows.jsonl --timeline clip.html
    mien watch
    mien doctor

Every command says more: mien predict --help
What is a table on a terminal is JSON Lines in a pipe, or with --json.
With --debug an error shows its traceback.
"""

ABANDONED = 128 + 13
"""Exit status when whoever reads stdout has gone, as the shell reports SIGPIPE."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        arguments: what follows `mien`; by default the arguments of the process.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in tokens[: tokens.index("--") if "--" in tokens else None]
    if debug:
        tokens.remove("--debug")
    try:
        status = build(_verb(tokens))(tokens)
        sys.stdout.flush()
        return int(status or 0)
    except BrokenPipeError:
        _give_up_stdout()
        return ABANDONED
    except KeyboardInterrupt:
        return _fail("interrupted", 130, debug)
    except (CycloptsError, _UnknownVerb) as error:
        return _fail(str(error), 2, debug)
    except (MienError, OSError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:  # files have names
            text = f"standard output cannot be written: {error.strerror}; free space, or send it elsewhere"
            _give_up_stdout()
        return _fail(text, 1, debug)


def _give_up_stdout() -> None:
    """Send what is left elsewhere: Python flushes stdout once more at its end, and that must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build(verb: str | None = None) -> App:
    """Return the command-line application, with one verb imported and the others known by name."""
    app = App(
        "mien",
        SUMMARY,
        version=VERSION,
        help_format="plaintext",
        help_epilogue=EPILOGUE,
        group_commands=Group("Options", sort_key=len(VERBS)),
        default_parameter=Parameter(negative=(), show_default=_worth_showing),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    app.register_install_completion_command(help="Install shell completion (bash, zsh, fish, powershell).")
    for order, (title, verbs) in enumerate(VERBS.items()):
        group = Group(title, sort_key=order)
        for place, (name, (target, summary)) in enumerate(verbs.items()):
            if name == verb:
                module, _, attribute = target.partition(":")
                function = getattr(importlib.import_module(module), attribute)
                if isinstance(function, App):  # a verb with verbs of its own
                    function.group, function.sort_key, function.group_commands = group, place, Group("Commands")
                    app.command(function, name=name)
                else:
                    app.command(function, name=name, group=group, sort_key=place, help_epilogue=_examples(function))
            else:
                app.command(target, name=name, help=summary, group=group, sort_key=place)
    return app


class _UnknownVerb(Exception):
    pass


def _verb(tokens: Sequence[str]) -> str | None:
    """Return the verb, or refuse an unknown one: cyclopts would do so too, but import all verbs to say which there are."""
    verbs = [verb for group in VERBS.values() for verb in group]
    if not tokens or tokens[0].startswith("-"):
        return None
    if tokens[0] in verbs:
        return tokens[0]
    if tokens[0] in RENAMED:
        raise _UnknownVerb(f"mien {tokens[0]} is now mien {RENAMED[tokens[0]]}")
    hint = did_you_mean(tokens[0], verbs, ".")
    raise _UnknownVerb(f"there is no command {tokens[0]!r}{hint} Known: {', '.join(verbs)}")


def _examples(function: Any) -> str:
    """Return the section "Examples:" of a docstring, which cyclopts leaves out."""
    found = re.search(r"^Examples:\n(?:(?:[ \t].*)?\n)+", f"{inspect.getdoc(function)}\n", re.MULTILINE)
    return found[0].rstrip() + "\n" if found else ""


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"mien: {' '.join(message.split())}", file=sys.stderr)
    return status


def _worth_showing(value: Any) -> str | None:
    """Return how help shows a default: not at all where it is nothing, and several as they would be given."""
    if value is None or value is False or value in ("", ()):
        return None
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
