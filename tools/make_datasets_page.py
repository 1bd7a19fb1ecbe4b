"""Bring the tables of docs/datasets.md up to date with the readers: layouts, labels, protocols and their flaws, options.

What stands outside the marked places is written by hand.

python tools/make_datasets_page.py [--check]
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mien.data.datasets import DATASETS, Reader, reader
from mien.data.preparation.align import AUTHORS, CROPS
from mien.labels import LABEL_SETS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "datasets.md"


def page() -> str:
    """Return the whole page as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    for name, content in (("crops", _crops()), ("reference", _reference())):
        place = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
        text = place.sub(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
    return text


def _reference() -> str:
    rows = [(f"[`{name}`](#{name})", str(len(known.labels) or "–"), known.title, _counts(known)) for name, known in _readers()]
    parts = ["## The datasets", _table(("name", "classes", "what", "images published"), rows)]
    for name, known in _readers():
        parts += [f"### {name}", *_section(known)]
    sets = [(f"`{name}`", ", ".join(classes)) for name, classes in LABEL_SETS.items()]
    return "\n\n".join([*parts, "## Label sets", _table(("name", "classes, from 0"), sets)])


def _readers() -> Iterator[tuple[str, Reader]]:
    return ((name, reader(name)) for name in DATASETS)


def _counts(known: Reader) -> str:
    return ", ".join(f"{part} {number:,}" for part, number in known.published.items()) or "–"


def _section(known: Reader) -> Iterator[str]:
    module = sys.modules[DATASETS[known.name].partition(":")[0]]
    yield inspect.cleandoc(module.__doc__ or "")
    yield f"{known.obtain} Classes: {', '.join(known.labels) or 'as the files say'}."
    yield _table(
        ("layout", "recognized by"),
        [
            (layout.name, " and ".join(f"`{mark}`".replace("|", "\\|") for mark in layout.marks) or "–")
            for layout in known.layouts
        ],
    )
    yield _table(
        ("protocol", "what it does", "flaws"),
        [(f"`{name}`", entry.says, "; ".join(entry.flaws) or "–") for name, entry in known.protocols.items()],
    )
    if known.options:
        rows = [
            (f"`{name}`", option.says, ", ".join(f"`{c}`" for c in option.choices) or "any text")
            for name, option in known.options.items()
        ]
        yield _table(("option", "what it chooses", "values, the default first"), rows)


def _crops() -> str:
    rows = []
    for name, crop in CROPS.items():
        author = AUTHORS.get(name)
        ours = f"{crop.detector}, points of the {crop.points}, {crop.choice} face; without a face: {crop.faceless}"
        theirs = (
            f"{author.detector}, points of the {author.points}, {author.choice} face; without: {author.faceless}"
            if author
            else "–"
        )
        rows.append((f"`{name}`", f"{crop.says}, {crop.size} px", ours, theirs))
    return _table(("crop", "what", "ours", "`--author`"), rows)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    """Bring the page up to date, or with --check say whether it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if the page is out of date")
    written = page()
    if parser.parse_args().check:
        if PAGE.read_text(encoding="utf-8") != written:
            print(f"{PAGE} is out of date; run python tools/make_datasets_page.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
