"""Detection of the layout of a dataset folder, and collection of its invalid rows."""

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...errors import DatasetError
from .listing import header_of, shown, subfolders

if TYPE_CHECKING:
    from .dataset import Dataset

Damaged = Literal["raise", "skip"]
DEPTH = 2  # levels below the root that are searched for a layout: archives often unpack into their own folder
BREADTH = 64  # folders searched on each level; a folder with more contains images
MESSAGE = 300  # maximum length of the description of one row


@dataclass(slots=True)
class Damage:
    """Invalid rows and missing files, collected for one message."""

    policy: Damaged = "raise"
    found: list[str] = field(default_factory=list)

    def __call__(self, what: str) -> None:
        """Report one invalid row or missing file, which the reader skips."""
        line = " ".join(what.split())  # Cells of a file may be long and contain line breaks.
        self.found.append(line if len(line) <= MESSAGE else f"{line[:MESSAGE]}…")

    def settle(self, title: str) -> tuple[str, ...]:
        """Return a note on the skipped rows; DatasetError if there are any and the policy is to raise."""
        if not self.found:
            return ()
        first = "; ".join(self.found[:3]) + (" …" if len(self.found) > 3 else "")
        rows = f"{len(self.found)} invalid row{'s' * (len(self.found) > 1)}"
        if self.policy == "raise":
            message = f"{title}: {rows}: {first}. Fix the files, or skip the rows with damaged='skip' (--skip-damaged)"
            raise DatasetError(message, value=len(self.found))
        return (f"{rows} skipped: {first}",)


@dataclass(frozen=True, slots=True)
class Place:
    """Input of a layout's reading function."""

    base: Path
    """Folder of the layout."""
    labels: tuple[str, ...]
    """The reader's class names."""
    options: Mapping[str, str]
    """All options of the reader, given or default."""
    damage: Damage
    """Collects invalid rows."""
    marked: tuple[Path, ...] = ()
    """The paths that the layout's marks match, in their order."""
    file: str = ""
    """Name of the file, if one was given instead of a folder."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One arrangement of files in which a dataset is distributed."""

    name: str
    marks: tuple[str, ...]
    """Paths that must all exist below the base, such as `"train_set/images"`: `a|b` matches either, `*` and `?` are wildcards,
    a trailing `/` requires a folder, case does not matter."""
    read: Callable[[Place], "Dataset"]
    """Reads all parts of it into one dataset."""
    copies: str = ""
    """Public copies of the dataset that have it, by their published descriptions."""
    column: str = ""
    """Column, in lower case, that the csv of the first mark must have below the root, where a file of that name can be another
    one, such as a table of results."""

    def found(self, base: Path) -> tuple[Path, ...] | None:
        """Return the paths below `base` that the marks match, or None if one matches none."""
        paths = tuple(path for mark in self.marks if (path := child(base, *mark.split("|"))))
        return paths if len(paths) == len(self.marks) else None


def find(root: str | Path, layouts: Sequence[Layout], title: str, obtain: str) -> tuple[Layout, Path, tuple[Path, ...]]:
    """Return the first layout that matches `root` or a folder at most two levels below it, that folder, and its marked paths.

    `root` may also be the file that marks a layout. Files in `root` itself are identified by name, so that their reader reports
    what is wrong with them; below it, csv files without `Layout.column` are skipped. DatasetError lists layouts, files
    and the source if `root` does not exist or no layout matches.
    """
    root = Path(root)
    start = root.parent if root.is_file() else root
    if root.is_file():
        bases: Iterator[Path] = iter([start])
        layouts = [layout for layout in layouts if any(_matches(root.name, mark) for mark in layout.marks)]
    elif root.is_dir():
        bases = _folders(root)
    else:
        raise DatasetError(f"{title}: {root} does not exist. {obtain}", path=root)
    for base in bases:
        for layout in layouts:
            marked = layout.found(base)
            if marked is not None and (base == start or not layout.column or has_column(marked[0], layout.column)):
                return layout, base, marked
    looked = (
        "; ".join(f"{layout.name} ({', '.join(layout.marks)})" for layout in layouts)
        or "a folder, since no layout is a single file of that name"
    )
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir()) if root.is_dir() else []
    there = f"the file {root.name}" if root.is_file() else shown(names) or "an empty folder"
    message = f"{title} was not found under {root}. Expected: {looked}. Found: {there}. {obtain}"
    raise DatasetError(message, path=root)


def has_column(path: Path, name: str) -> bool:
    """Return whether a csv has a column, its name in lower case; False for other files."""
    with suppress(DatasetError):
        return name in map(str.lower, header_of(path))
    return False


def child(base: Path, *alternatives: str) -> Path | None:
    """Return the first of these paths below `base` that exists (case-insensitive), or None."""
    for path in alternatives:
        for found in _glob(base, path.split("/")):
            return found
    return None


def children(base: Path, pattern: str) -> list[Path]:
    """Return everything below `base` that matches a pattern with `*` (case-insensitive), sorted."""
    return list(_glob(base, pattern.split("/")))


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), path.lower()) for path in pattern.split("|"))


def _glob(base: Path, parts: Sequence[str]) -> Iterator[Path]:
    if not parts or parts[0] == "":
        if not parts or base.is_dir():  # a pattern that ends in / matches folders
            yield base
        return
    first, rest = parts[0], parts[1:]
    if (exact := base / first).exists() and not any(c in first for c in "*?"):
        yield from _glob(exact, rest)
        return
    if not base.is_dir():
        return
    for path in sorted(base.iterdir()):
        if _matches(path.name, first):
            yield from _glob(path, rest)


def _folders(root: Path) -> Iterator[Path]:
    level = [root]
    for _ in range(DEPTH):
        yield from level
        level = [folder / name for folder in level for name in subfolders(folder)[:BREADTH]]
    yield from level
