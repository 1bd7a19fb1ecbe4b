"""Tables of comma-separated values, written so that whatever a cell holds is read back."""

from __future__ import annotations

from typing import Any, Protocol


class _Text(Protocol):
    def write(self, text: str, /) -> Any: ...


class LineFeeds:
    r"""A text file for the csv module's writers: lines end with a line feed alone, and cells that hold any break are quoted.

    The module quotes the characters of its own line ending only (until Python 3.13), and then cannot read a bare carriage
    return, which may stand in the name of a file.

    Example:
        >>> import csv, io
        >>> text = io.StringIO()
        >>> csv.writer(LineFeeds(text)).writerows([["name", "faces"], ["a\rb.jpg", 1]])
        >>> text.getvalue()
        'name,faces\n"a\rb.jpg",1\n'
    """

    def __init__(self, file: _Text) -> None:
        self.file = file

    def write(self, line: str) -> None:
        """Write one line, as the csv module gives it."""
        self.file.write(line.removesuffix("\r\n") + "\n")
