"""What the tools that write pages of the documentation share: a table, and writing or checking a page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rewrite_or_check(pages: Mapping[Path, str], description: str | None, source: str) -> int:
    """Do as `write_or_check` with several pages, of which only those that change are written."""
    changed = {path: wanted for path, wanted in pages.items() if path.read_text(encoding="utf-8") != wanted}
    return max((write_or_check(path, wanted, description, source) for path, wanted in changed.items()), default=0)


def write_or_check(path: Path, wanted: str, description: str | None, source: str) -> int:
    """Write a page, or with `--check` compare it; return the exit status.

    Args:
        path: the page.
        wanted: what it must hold.
        description: of the tool, for its `--help`.
        source: what the page is made of, for the message.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of step")
    if not parser.parse_args().check:
        path.write_text(wanted, encoding="utf-8")
        print(f"wrote {path.name}")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"{path.name} is not what {source} gives; run: python tools/{Path(sys.argv[0]).name}", file=sys.stderr)
    return 1
