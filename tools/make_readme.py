"""Write the figures of the bundled model into README.md, from its card; with `--check`, fail if they differ."""

from __future__ import annotations

import sys
from pathlib import Path

from mien import cards

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- figures: written by tools/make_readme.py -->\n", "<!-- end of figures -->"


def figures() -> str:
    """Return the test rows of the card as a Markdown table."""
    lines = ["| data, test split | metric | value | 95 % interval | n | of what |", "|---|---|---|---|---|---|"]
    for row in cards.load("mien-base").measured:
        if row.split == "test":
            between = f"{row.low:.3f} … {row.high:.3f}" if row.low is not None and row.high is not None else ""
            lines.append(f"| {row.dataset} | {row.metric} | {row.value:.3f} | {between} | {row.n:,} | {row.note} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    text = README.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    wanted = head + BEGIN + figures() + END + rest.split(END)[1]
    if "--check" not in sys.argv:
        README.write_text(wanted, encoding="utf-8")
    elif wanted != text:
        raise SystemExit("README.md does not show the card's figures; run: python tools/make_readme.py")


if __name__ == "__main__":
    main()
