"""What can go wrong, as one tree.

    MienError
    ├─ UnknownName     a name that no table knows (says the nearest one)
    ├─ SourceError     an image, folder, video or URL that cannot be read
    ├─ WeightsError    a weight file or its card that is missing, damaged or does not fit
    ├─ ConfigError     a recipe or an option that makes no sense
    ├─ DatasetError    a dataset that is not where, or not what, it was said to be
    ├─ TrainingError   a run that cannot go on
    ├─ ExportError     a model that cannot be written in the form asked for
    └─ MissingExtra    an optional dependency that is not installed (says which extra to install)

Every message says what is wrong, the value, and what to do. Mistakes of the programmer stay `TypeError` and `ValueError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MienError(Exception):
    """Base of all errors that `mien` raises on purpose.

    Read the message: it names the value and what to do.
    """


class UnknownName(MienError):
    """A name that is in no table; the message names the nearest entry.

    Take the suggested name, or one of those listed; `package.module:attribute` for an object of your own.
    """


class SourceError(MienError):
    """An image, folder, video or URL that cannot be read.

    Check the path, that the file is whole, and for a URL that its address is public (`--allow-private` if it should not be).
    """


class WeightsError(MienError):
    """A weight file or card that is missing, damaged, or does not fit its use.

    Put the file where its card says, fetch it anew if its digest differs, mend the field of the card that is named.
    """


class ConfigError(MienError):
    """A recipe or option that makes no sense.

    Change the named field or option; docs/training-config.md and `--help` list what each takes.
    """


class DatasetError(MienError):
    """A dataset that is not where, or not what, it was said to be.

    Compare the folder with the layouts in docs/datasets.md; `--skip-damaged` leaves damaged rows out, and says so.
    """


class TrainingError(MienError):
    """A training run that cannot go on: its loss is no number, its state cannot be written.

    Lower the rate or clip the gradient where the loss is no number; `--resume` goes on from the last whole state.
    """


class ExportError(MienError):
    """A model that cannot be written in the form asked for.

    Ask for another form; what was exported before is still there, unchanged.
    """


class MissingExtra(MienError):
    """An optional dependency that is not installed.

    Install the extra that is named, such as `pip install 'mien[train]'`.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; it comes with: pip install 'mien[{extra}]'")
        self.package, self.extra = package, extra


def shown(value: object) -> str:
    """Return a value out of a file as messages show it: one line of bounded length."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:100]}…"


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return `; did you mean 'NEAREST'?` for messages, or other words if no known name is near.

    Example:
        >>> did_you_mean("epoch", ["batch", "epochs"])
        "; did you mean 'epochs'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else otherwise
