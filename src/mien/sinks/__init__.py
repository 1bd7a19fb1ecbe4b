"""Where results go: JSON Lines, CSV, annotated pictures and videos.

A sink is a context manager with one method, `write`. Nothing half-written ever stands under the final name:

* Rows go to `NAME.part` beside the target, one write call for each, and the file gets its name when the block ends. If the
  block ends with an error, or the process is killed, the rows so far stay in `NAME.part` and an older `NAME` as it was. Where
  there are none yet, an error leaves no file.
* A picture or a video is written to a temporary name and renamed.
"""

from __future__ import annotations

from .copies import MARK, Pictures, Videos
from .rows import CSV_COLUMNS, Csv, JsonLines, json_line

__all__ = ["CSV_COLUMNS", "MARK", "Csv", "JsonLines", "Pictures", "Videos", "json_line"]
