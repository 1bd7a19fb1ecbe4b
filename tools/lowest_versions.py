"""Print the lowest versions that pyproject.toml promises to work with, as constraints for pip: `make floor`.

python tools/lowest_versions.py [EXTRA …]
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def constraints(extras: Iterable[str] = ()) -> list[str]:
    """Return `name==lowest` for the core and these extras, sorted.

    Raises:
        ValueError: a requirement states no lowest version.
    """
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for extra in extras for line in _lines(extra, optional))]
    found = {}
    for line in wanted:
        name, _, rest = line.partition(">=")
        if not rest:
            raise ValueError(f"{line!r} states no lowest version (>=)")
        found[re.sub(r"\[.*\]", "", name).strip()] = rest.split(",")[0].split(";")[0].strip()
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _lines(extra: str, optional: dict[str, list[str]]) -> Iterator[str]:
    for line in optional[extra]:
        if inner := re.fullmatch(r"mien\[(.*)\]", line):
            for name in inner[1].split(","):
                yield from _lines(name.strip(), optional)
        else:
            yield line


if __name__ == "__main__":
    print("\n".join(constraints(sys.argv[1:])))
