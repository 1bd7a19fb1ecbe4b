"""Output of commands: results on stdout as a table or JSON Lines, messages on stderr."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:  # rich takes a tenth of the start of `mien predict`, which needs it on a terminal only
    from rich.console import Console
    from rich.table import Table

File = str if TYPE_CHECKING else str | Path  # a string that may be the path of a file, which shells therefore complete
Json = Annotated[bool, Parameter(help="Write JSON Lines to stdout, also on a terminal.")]  # the option --json
STDIN = "<stdin>"  # stands for the argument `-`, which the parser of the command line takes for an option


def for_programs(requested: bool) -> bool:
    """Return whether stdout gets JSON Lines: requested, or stdout is not a terminal."""
    return requested or not sys.stdout.isatty()


def write_json(value: Mapping[str, Any]) -> None:
    """Write one JSON Line to stdout and flush, in UTF-8 whatever the locale."""
    write_line(json.dumps(value, ensure_ascii=False) + "\n")


def write_line(line: str) -> None:
    """Write one line with its newline to stdout."""
    sys.stdout.buffer.write(line.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def table_console() -> Console:
    """Return the console for tables on stdout. Characters outside its encoding become question marks."""
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def plain_table(*columns: str, text: Collection[str] = ()) -> Table:
    """Return an empty table without lines; columns that are not in `text` are aligned to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="left" if name in text else "right", overflow="fold")
    return table


def print_rows(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, text: Collection[str] = (), no_wrap: Collection[str] = ()
) -> None:
    """Print a table on stdout; see `plain_table`. Columns in `no_wrap` stay on one line."""
    table = plain_table(*columns, text=text)
    for column in table.columns:
        if column.header in no_wrap:
            column.no_wrap, column.overflow = True, "ellipsis"
    for row in rows:
        table.add_row(*row)
    table_console().print(table)


def print_grid(rows: Mapping[str, str]) -> None:
    """Print names, in bold, and their values on stdout, with an empty line after them."""
    from rich.table import Table
    from rich.text import Text

    grid, console = Table.grid(padding=(0, 2)), table_console()
    for name, value in rows.items():
        grid.add_row(Text(name, "bold"), Text(value))
    console.print(grid)
    console.print()


def split_table(splits: Mapping[str, tuple[Mapping[str, int], int, str]]) -> Table:
    """Return a table of splits (images of each class, of all, and digest): classes down and splits across."""
    table = plain_table("", *splits, text=("",))
    for kind in dict.fromkeys(kind for counts, _, _ in splits.values() for kind in counts):
        table.add_row(kind, *(f"{counts.get(kind, 0):,}" for counts, _, _ in splits.values()))
    table.add_row("images", *(f"{number:,}" for _, number, _ in splits.values()), style="bold")
    table.add_row("digest", *(digest[:12] for _, _, digest in splits.values()), style="dim")
    return table


def side_console() -> Console:
    """Return the console on stderr for progress, summaries and notes."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def note(text: str, style: str = "") -> None:
    """Print a line on stderr, in this style on a terminal."""
    if sys.stderr.isatty():
        side_console().print(text, style=style)
    else:
        print(text, file=sys.stderr)


@contextmanager
def counting(what: str, total: int, unit: str = "", *, hidden: bool = False) -> Iterator[Callable[..., None]]:
    """Show a progress bar on a terminal while the block runs; yields a function that advances it, and may rename it.

    With a `unit`, such as `"frames"`, the bar shows the speed too.
    """
    if hidden or not sys.stderr.isatty():
        yield lambda number, what=None: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from .progress import Speed

    speed = [Speed(f" {unit}/s")] if unit else []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *speed, TimeRemainingColumn())
    with Progress(*columns, console=side_console(), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda number, what=None: bar.update(task, advance=number, description=what)


_FLAGS = (
    "allow_private|max_pixels|max_bytes|(?<=raise )timeout|max_faces|min_size|small_faces|detect_every|video_stream"
    "|detector(?==)|crop(?==)"
)
_OPTIONS = "labels|label|order|images|file|mode|number|filter"  # options of datasets, which `--option` sets


def in_flags(message: str) -> str:
    """Return a message with the keywords of Python functions as flags of the command line."""
    text = re.sub(r"\b\w+=\S+ \((--[^()]+)\)", r"\1", message)  # both are named
    value = r"(?:=True|=('?)(\w+)\2|(?=[ ,.;)=]|$))"
    text = re.sub(
        rf"(?<!-)\b({_FLAGS}){value}", lambda found: " ".join(filter(None, ("--" + found[1].replace("_", "-"), found[3]))), text
    )
    return re.sub(rf"(?<![\w:/'\"-])(?<!--option )({_OPTIONS})=(?=\w)", r"--option \1=", text)


def counted(number: int, name: str) -> str:
    """Return a count with its noun: "1 face", "3,000 faces"."""
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


def block_bar(share: float, width: int, *, plain: bool) -> str:
    """Return a bar of `share` × `width` characters, in eighths of a block, or with `plain` in `#`."""
    if plain:
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
