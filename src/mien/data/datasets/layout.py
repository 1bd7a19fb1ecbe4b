"""Finding out which of the layouts that people hold lies under a folder, and saying plainly when none does."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...errors import DatasetError

if TYPE_CHECKING:
    from .dataset import Dataset

Damaged = Literal["raise", "skip"]
DEPTH = 2
"""How many folders below the root a layout may begin: archives often unpack into a folder of their own."""
MESSAGE = 300
"""Characters of one row's description that are kept."""
BREADTH = 64
"""Folders looked into on each level; a folder with more holds images, not layouts."""


@dataclass(slots=True)
class Damage:
    """What is wrong with single rows or files, gathered so that one message tells all."""

    policy: Damaged = "raise"
    found: list[str] = field(default_factory=list)

    def __call__(self, what: str) -> None:
        """Note one damaged row or missing file; the reader leaves it out and goes on."""
        line = " ".join(what.split())  # what a file says may be long, and hold line breaks
        self.found.append(line if len(line) <= MESSAGE else f"{line[:MESSAGE]}…")

    def settle(self, title: str) -> tuple[str, ...]:
        """Return a note on what was left out.

        Raises:
            DatasetError: something is damaged and the policy is to raise.
        """
        if not self.found:
            return ()
        first = "; ".join(self.found[:3]) + (" …" if len(self.found) > 3 else "")
        rows = f"{len(self.found)} damaged row{'s' * (len(self.found) > 1)}"
        if self.policy == "raise":
            raise DatasetError(
                f"{title}: {rows}: {first}. Mend the files, or leave the rows out with damaged='skip' (--skip-damaged)"
            )
        return (f"{rows} left out: {first}",)


@dataclass(frozen=True, slots=True)
class Place:
    """What a layout's reading function gets."""

    base: Path
    """Folder that the layout was found in."""
    labels: tuple[str, ...]
    """The reader's class names."""
    options: Mapping[str, str]
    """The reader's options, all of them, as given or by default."""
    damage: Damage
    """Where to report rows that cannot be used."""
    file: str = ""
    """Name of the file that was given instead of a folder, or nothing."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One arrangement of files in which a dataset circulates."""

    name: str
    """What people call it."""
    marks: tuple[str, ...]
    """Paths that must all exist below the base: `"train_set/images"`. `a|b` accepts either, `*` and `?` are wild, a `/` at
    the end wants a folder, upper and lower case are the same."""
    read: Callable[[Place], Dataset]
    """Reads all parts of it into one dataset."""
    holds: Callable[[Path], bool] | None = None
    """Whether the files of a base are what their names say; asked only where the base was searched for, since a file of that
    name in some folder below may be another one, such as a table of results. None: names are enough."""

    def fits(self, base: Path) -> bool:
        """Whether every mark exists below `base`."""
        return all(any(_exists(base, path.split("/")) for path in mark.split("|")) for mark in self.marks)


def find(root: str | Path, layouts: Sequence[Layout], title: str, obtain: str) -> tuple[Layout, Path]:
    """Return the first layout that fits `root` or a folder at most two levels below it, and the folder where it begins.

    `root` may also be the file that marks a layout. Files in `root` itself are taken for what their names say, and their reader
    tells what is wrong with them; below it, files that are something else (`Layout.holds`) are passed over.

    Raises:
        DatasetError: `root` does not exist, or no layout fits; says what was looked for, what is there, and where the
            data comes from.
    """
    root = Path(root)
    start = root.parent if root.is_file() else root
    if root.is_file():
        bases: Iterator[Path] = iter([start])
        layouts = [layout for layout in layouts if any(_matches(root.name, mark) for mark in layout.marks)]
    elif root.is_dir():
        bases = _folders(root)
    else:
        raise DatasetError(f"{title}: {root} does not exist. {obtain}")
    for base in bases:
        for layout in layouts:
            if layout.fits(base) and (layout.holds is None or base == start or layout.holds(base)):
                return layout, base
    looked = (
        "; ".join(f"{layout.name} ({', '.join(layout.marks)})" for layout in layouts)
        or "no layout is a single file of that name"
    )
    raise DatasetError(f"{title} is not under {root}. Looked for: {looked}. Found: {_inventory(root)}. {obtain}")


def child(base: Path, *alternatives: str) -> Path | None:
    """Return the first of these paths below `base` that exists, whatever its case, or None."""
    for path in alternatives:
        for found in _glob(base, path.split("/")):
            return found
    return None


def children(base: Path, pattern: str) -> list[Path]:
    """Return everything below `base` that `pattern` (with `*`, whatever the case) matches, in order of name."""
    return list(_glob(base, pattern.split("/")))


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), path.lower()) for path in pattern.split("|"))


def _glob(base: Path, parts: Sequence[str]) -> Iterator[Path]:
    if not parts or parts[0] == "":
        if not parts or base.is_dir():  # a pattern that ends in / wants a folder
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


def _exists(base: Path, parts: Sequence[str]) -> bool:
    return next(_glob(base, parts), None) is not None


def _folders(root: Path) -> Iterator[Path]:
    level = [root]
    for depth in range(DEPTH + 1):
        yield from level
        if depth < DEPTH:
            level = [child for folder in level for child in _subfolders(folder)]


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))[:BREADTH]


def _inventory(root: Path) -> str:
    if root.is_file():
        return f"the file {root.name}"
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir())
    shown = ", ".join(names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown or "an empty folder"
