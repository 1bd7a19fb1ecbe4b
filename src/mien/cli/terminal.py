"""The two streams: data on stdout, a table for eyes and JSON Lines for programs; everything else on stderr."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text


def for_programs(asked: bool) -> bool:
    """Return whether stdout gets JSON Lines: asked for, or not read by a person."""
    return asked or not sys.stdout.isatty()


def write_json(value: Mapping[str, Any]) -> None:
    """Write one JSON Line to stdout, in UTF-8 whatever the locale, so that it can be read while the rest is being made."""
    write_line(json.dumps(value, ensure_ascii=False) + "\n")


def write_line(line: str) -> None:
    """Write one line with its newline to stdout."""
    sys.stdout.buffer.write(line.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def table_console() -> Console:
    """Return where tables go. Colors follow the terminal and `NO_COLOR`; what its encoding lacks becomes a question mark."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def side_console() -> Console:
    """Return where everything that is no data goes: progress, summaries, notes."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def progress_bar(console: Console) -> Progress:
    """Return a bar on stderr, which is silent where nobody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def counting(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show one bar while the block runs, and give what moves it on by a number of images."""
    with progress_bar(console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda number: bar.advance(task, number)


class Left(TimeRemainingColumn):
    """The time that is left."""

    def render(self, task: Task) -> Text:
        """Return it with its unit, so that it can be read without its bar: "0:03:20 left"."""
        return super().render(task).append(" left")


LONG = 600
"""Seconds over which the speed of long work is estimated: by half a minute that holds a validation, days would be left."""


class LongProgress(Progress):
    """The bar of a work of hours. Where no terminal shows it, as in the log of a job on a cluster, it is a line a minute."""

    def __init__(self, *columns: ProgressColumn, console: Console, every: float = 60) -> None:
        hidden = not console.is_terminal
        super().__init__(*columns, console=console, transient=True, disable=hidden, speed_estimate_period=LONG)
        self._every, self._told = every, time.monotonic()

    def update(self, task_id: TaskID, *args: Any, **fields: Any) -> None:
        """Take how far a task is, as rich's own."""
        super().update(task_id, *args, **fields)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._told >= self._every:
            self._told = now
            task = self._tasks[task_id]
            cells = [column(task) for column in self.columns if isinstance(column, ProgressColumn)]
            self.console.print("  ".join(cell.plain for cell in cells if isinstance(cell, Text) and cell.plain))


def counted(number: int, name: str) -> str:
    """Return a number of things: "1 face", "3,000 faces"."""
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


def block_bar(share: float, width: int, *, plain: bool) -> str:
    """Return a bar that is `width` characters long at 1, in eighths of a character, or in `#` where there are no blocks."""
    if plain:
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
