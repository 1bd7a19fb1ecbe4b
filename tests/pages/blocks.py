"""The blocks of code of a page: what language, what text, where, and why one is not run.

A block that needs what the tests lack has a line above it, `<!-- not run: REASON -->`, which the site shows to its readers.
What can be checked of such a block is checked: see `unrun.py`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "log.md" and path.parent.name != "benchmarks"),
]
RUN = {"python", "sh"}
CHECKED = {"toml", "pycon"}
SHOWN = {"text", "mermaid"}
"""Languages that are run, that are checked in other ways, and that are for readers only."""

FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z")
NAMED = re.compile(r"# (\S+\.(?:py|toml))\n")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    line: int
    """Line of the page that its first line is."""
    not_run: str
    """Why it is not run, or nothing."""

    @property
    def file(self) -> str:
        """The file that the block is the content of, if its first line is a comment with such a name."""
        found = NAMED.match(self.text)
        return found[1] if found and self.language in ("python", "toml") else ""


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        mark = NOT_RUN.search(text, 0, match.start())
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(match[1], match[2], line, mark[1] if mark else ""))
    return found


def prose(page: Path) -> str:
    """Return a page without its blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(script: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell script, comments left out."""
    for line in script.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words
