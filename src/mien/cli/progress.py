"""Progress bars of long tasks."""

import time
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task, TaskID, TimeRemainingColumn
from rich.text import Text


class Left(TimeRemainingColumn):
    """The remaining time."""

    def render(self, task: Task) -> Text:
        """Return the time with the word "left", so that it is clear without the bar."""
        return super().render(task).append(" left")


class Speed(ProgressColumn):
    """Steps per second, followed by their unit."""

    def __init__(self, unit: str = "/s") -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Return the speed without decimals."""
        return Text(f"{task.speed or 0:.0f}{self.unit}", "dim")


LONG = 600  # seconds over which the speed of a long task is averaged, longer than a validation that pauses it


class LongProgress(Progress):
    """A progress bar for tasks of hours. Without a terminal, as in the log of a cluster job, it prints one line per minute."""

    def __init__(self, *columns: ProgressColumn, console: Console, every: float = 60) -> None:
        hidden = not console.is_terminal
        super().__init__(*columns, console=console, transient=True, disable=hidden, speed_estimate_period=LONG)
        self._every, self._printed = every, time.monotonic()

    def update(self, task_id: TaskID, *args: Any, **fields: Any) -> None:
        """Update a task like `rich.progress.Progress`, and print a line when it is due."""
        super().update(task_id, *args, **fields)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._printed >= self._every:
            self._printed = now
            task = self._tasks[task_id]
            cells = [column(task) for column in self.columns if isinstance(column, ProgressColumn)]
            self.console.print("  ".join(cell.plain for cell in cells if isinstance(cell, Text) and cell.plain))
