"""Count words that the project avoids in the strings and docstrings of src, and fail above the limits.

python tools/language.py [--show]    with --show every occurrence
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

LIMITS = {
    "unusual words": (r"\b(anew|told(?! apart)|asked|goes on|is said|mend(s|ed|ing)?|spoilt|torn|dice|pupils?)\b", 0.3),
    "'what it is' for a noun": (r"(?<!see )\bwhat (it|they|is|are|was|were|has|have)\b", 3.0),
    "'is no X'": (r"\b(is|are|was) no (?!longer|more|less)\w+", 0.5),
    "'there is no' for missing": (r"\b[Tt]here (is|are) no\b", 0.5),
    "British spelling": (r"\b(colour|grey|normalis|labell|optimis|quantis|initialis|behaviour|licence|centre)\w*", 0.5),
    "picture for image": (r"\bpictures?\b", 0.3),
    "data set for dataset": (r"\bdata sets?\b", 0.3),
    "answer for prediction": (r"\banswer(s|ed)?\b", 1.0),
    "texts that say, files that lie": (r"\b(says?|said|tells?|lies?|lying|stands?|speaks?|whoever|nobody|somebody)\b", 2.0),
    "left out, passed over": (r"\b(left out|lea(ve|ves|ving) out|pass(es|ed)? over|for ever|on the spot)\b", 0.5),
    "damaged for corrupt": (r"\b(damaged|broken|spoil\w*)\b(?!=)", 1.5),
}
"""Name → pattern and the largest count per 10,000 words."""


def texts() -> Iterator[tuple[str, str]]:
    """Yield place and text of every string of at least two words, docstrings and parts of f-strings included, in src."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def main() -> int:
    """Print a line for each limit; return 1 if one is exceeded."""
    found = list(texts())
    words = sum(len(re.findall(r"[A-Za-z]+", text)) for _, text in found)
    failed = 0
    for name, (pattern, limit) in LIMITS.items():
        hits = [(place, match) for place, text in found for match in re.finditer(pattern, text)]
        rate = 1e4 * len(hits) / words
        failed |= rate > limit
        print(
            f"{'FAIL' if rate > limit else 'ok  '}  {rate:5.2f} of at most {limit:.1f}  {name} ({len(hits)} in {words:,} words)"
        )
        for place, match in hits if "--show" in sys.argv or rate > limit else ():
            print(f"      {place}: …{' '.join(match.string[max(0, match.start() - 30) : match.end() + 30].split())}…")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
