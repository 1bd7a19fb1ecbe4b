"""The command `mien`: its verbs, and what happens when one fails.

A verb is one line in `VERBS` and a function in a file of its own, imported when the verb is used. It returns its exit status,
or None for 0; its docstring is its help. Data goes to stdout, everything else to stderr. Exit status: 0 done, 1 an error that
`mien` explains in one line (or some pictures of many that could not be read), 2 wrong usage, 130 interrupted, 141 the reader
of stdout went away.
"""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from cyclopts import App, CycloptsError, Group, Parameter

from .. import __version__
from ..errors import MienError

VERBS: dict[str, dict[str, tuple[str, str]]] = {
    "To use": {
        "predict": ("mien.cli.predict:predict", "Read the expressions of the faces in pictures."),
    },
    "To look": {
        "models": ("mien.cli.models:models", "List the bundled weights and the architectures that can be trained."),
        "doctor": ("mien.cli.doctor:doctor", "Check this installation, down to one real reading."),
    },
}
"""Group → verb → where its function lies, and the line that `mien --help` shows without importing it."""

HELP = """Read facial expressions, and train, measure and compare the networks that do it.

For example:

    mien predict photo.jpg
    mien predict holiday --csv faces.csv --save annotated
    mien doctor
"""

EPILOGUE = "Any verb takes --debug, which shows the traceback of an error. A table on a terminal is JSON Lines in a pipe."

GIVEN_UP = 128 + 13
"""Exit status when whoever reads stdout has gone, as the shell reports SIGPIPE."""


def build() -> App:
    """Return the command-line application, with no verb imported yet."""
    app = App(
        "mien",
        HELP,
        version=__version__,
        help_format="plaintext",
        help_epilogue=EPILOGUE,
        default_parameter=Parameter(negative=(), show_default=_worth_showing),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for order, (title, verbs) in enumerate(VERBS.items()):
        group = Group(title, sort_key=order)
        for place, (name, (function, summary)) in enumerate(verbs.items()):
            app.command(function, name=name, help=summary, group=group, sort_key=place, help_epilogue="")
    return app


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
        _check_verb(tokens)
        status = build()(tokens)
        sys.stdout.flush()
        return int(status or 0)
    except BrokenPipeError:
        # Python flushes stdout once more at its end; that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GIVEN_UP
    except KeyboardInterrupt:
        return _fail("interrupted", 130, debug)
    except (CycloptsError, _UnknownVerb) as error:
        return _fail(str(error), 2, debug)
    except (MienError, OSError) as error:
        return _fail(str(error), 1, debug)


class _UnknownVerb(Exception):
    pass


def _check_verb(tokens: Sequence[str]) -> None:
    """Refuse an unknown verb. Cyclopts would do so too, but import every verb to say which there are."""
    verbs = [verb for group in VERBS.values() for verb in group]
    if tokens and not tokens[0].startswith("-") and tokens[0] not in verbs:
        near = difflib.get_close_matches(tokens[0], verbs, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise _UnknownVerb(f"there is no command {tokens[0]!r}{hint} Known: {', '.join(verbs)}")


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"mien: {' '.join(message.split())}", file=sys.stderr)
    return status


def _worth_showing(value: Any) -> str | None:
    return None if value is None or value is False else str(value)
