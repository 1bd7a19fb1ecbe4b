"""What can go wrong, as one tree.

    MienError
    ├─ UnknownName     a name that no table knows (says the nearest one)
    ├─ SourceError     a picture, folder, video or URL that cannot be read
    ├─ WeightsError    a weight file or its card that is missing, damaged or does not fit
    ├─ ConfigError     a recipe or an option that makes no sense
    ├─ DatasetError    a data set that is not where, or not what, it was said to be
    ├─ TrainingError   a run that cannot go on
    ├─ ExportError     a model that cannot be written in the form asked for
    └─ MissingExtra    an optional dependency that is not installed (says which extra to install)

Every message says what is wrong, the value, and what to do. Mistakes of the programmer stay `TypeError` and `ValueError`.
"""


class MienError(Exception):
    """Base of all errors that `mien` raises on purpose."""


class UnknownName(MienError):
    """A name that is in no table; the message names the nearest entry."""


class SourceError(MienError):
    """A picture, folder, video or URL that cannot be read."""


class WeightsError(MienError):
    """A weight file or card that is missing, damaged, or does not fit its use."""


class ConfigError(MienError):
    """A recipe or option that makes no sense."""


class DatasetError(MienError):
    """A data set that is not where, or not what, it was said to be."""


class TrainingError(MienError):
    """A training run that cannot go on: its loss is no number, its state cannot be written."""


class ExportError(MienError):
    """A model that cannot be written in the form asked for."""


class MissingExtra(MienError):
    """An optional dependency that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; it comes with: pip install 'mien[{extra}]'")
        self.package, self.extra = package, extra
