"""The exceptions of mien, as one tree.

    MienError
    ├─ UnknownName     unknown name of a model, detector, dataset, loss …
    ├─ SourceError     unreadable image, folder, video or URL
    ├─ WeightsError    missing, corrupt or mismatched weight file or card
    ├─ ConfigError     invalid option or recipe
    ├─ DatasetError    missing, incomplete or invalid dataset
    ├─ TrainingError   a training run that cannot continue
    ├─ ExportError     a model that cannot be written in the requested form
    └─ MissingExtra    optional dependency that is not installed

A message states the problem, the offending value and the remedy; the same facts are attributes of the exception. Programming
errors raise `TypeError` and `ValueError`.
"""

import contextlib
import difflib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any


class MienError(Exception):
    """Base class of all exceptions that mien raises on purpose.

    Args:
        message: what is wrong, the value, and what to do.
        path: file, folder or URL concerned.
        line: line of that file, counted from 1.
        value: offending value, as it was given.
        expected: what would have been valid: a type, a range, or the known names.

    Example:
        >>> error = MienError("labels.csv line 7: unknown label 'contemt'", path="labels.csv", line=7, value="contemt")
        >>> error.line, error.value
        (7, 'contemt')
    """

    def __init__(
        self,
        message: str = "",
        *,
        path: str | os.PathLike[str] | None = None,
        line: int | None = None,
        value: Any = None,
        expected: Any = None,
    ) -> None:
        super().__init__(message)
        self.path = None if path is None else os.fspath(path)
        self.line, self.value, self.expected = line, value, expected

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions cross process boundaries with their attributes."""
        return _rebuild, (type(self), self.args, self.__dict__)


class UnknownName(MienError):
    """Unknown name of a model, detector, dataset, loss or other registered object.

    Use the suggested name or one of the known names; `package.module:attribute` refers to an object of your own.
    """


class SourceError(MienError):
    """Unreadable image, folder, video or URL.

    Check the path, that the file is complete, and for a URL that its address is public (`--allow-private` if it is not).
    """


class WeightsError(MienError):
    """Missing or corrupt weight file or card, or weights that do not fit their use.

    Put the file where its card expects it, download it again if its digest differs, or fix the field of the card.
    """


class ConfigError(MienError):
    """Invalid option or recipe.

    Change the named field or option; `--help` and the page "Fields of a recipe" list the valid values.
    """


class DatasetError(MienError):
    """Missing, incomplete or invalid dataset.

    Compare the folder with the layouts that the datasets page lists; `--skip-damaged` skips invalid rows and reports them.
    """


class TrainingError(MienError):
    """A training run that cannot continue, for example because the loss is NaN or infinite.

    Lower the learning rate or clip gradients if the loss is not finite; `--resume` continues from the last checkpoint.
    """


class ExportError(MienError):
    """A model that cannot be written in the requested form.

    Choose another form; earlier exports are unchanged.
    """


class MissingExtra(MienError):
    """Optional dependency that is not installed.

    Install the named extra, for example `pip install 'mien[train]'`.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'mien[{extra}]'", value=package)
        self.package, self.extra = package, extra


TORCH_SIDE = frozenset({"torch", "torchvision", "timm", "safetensors", "captum", "onnx", "tomli_w"})
"""Modules of the extra `train`."""


@contextlib.contextmanager
def needs(extra: str, package: str = "", *, among: Collection[str] = ()) -> Iterator[None]:
    """Report a package that an import of the block lacks, by default by the name of its module, with the extra that has it.

    The error of a module that is not `among` the given ones is unchanged, as that of a module of the user's. Raises
    MissingExtra: the package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if among and error.name not in among:
            raise
        raise MissingExtra(package or error.name or extra, extra) from error


def reason(error: BaseException) -> str:
    """Return why an operation of the system or of a library failed, for messages: one line of at most 200 characters."""
    text = str(getattr(error, "strerror", None) or error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _rebuild(kind: type[MienError], args: tuple[Any, ...], state: dict[str, Any]) -> MienError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def shown(value: object) -> str:
    """Return the representation of a value from a file for a message: one line of at most 101 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers of more than 4,300 digits.
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:100]}…"


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", *, short: Mapping[str, str] = {}) -> str:
    """Return `; did you mean 'NEAREST'?` for messages, or `otherwise` if no known name is similar.

    Names that are `short` for others suggest those.

    Example:
        >>> did_you_mean("epoch", ["batch", "epochs"])
        "; did you mean 'epochs'?"
    """
    near = difflib.get_close_matches(name, [*known, *short], n=1, cutoff=0.5)
    return f"; did you mean {short.get(near[0], near[0])!r}?" if near else otherwise
