"""Print how much of the core its tests run, in lines and in branches, and what they do not run.

python -m pytest --cov=mien --cov-branch --cov-report=json:out/coverage.json TESTS; python tools/coverage_of_core.py

The core is what needs neither torch nor scikit-learn. Commands are left out: tests run them in processes of their own, which
are not counted. What is not run must be listed in tools/uncovered.toml, with the reason why it may stay so.
"""

from __future__ import annotations

import argparse
import ast
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

ROOT = Path(__file__).resolve().parents[1] / "src" / "mien"
REASONS = Path(__file__).with_name("uncovered.toml")

ELSEWHERE = {
    "torch": {
        "models", "losses", "importing", "training", "torch_devices", "torch_runtime", "exporting", "explaining", "embedding",
    },
    "OpenVINO": {"openvino_runtime"},
    "the extra eval": {"metrics", "evaluation", "comparison", "verification", "robustness", "report"},
    "servers and clusters": {"serving", "scaling"},
    "processes of their own": {"cli", "__main__"},
}  # fmt: skip
"""What the parts of mien that are not the core need."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, nargs="?", default=Path("out/coverage.json"))
    parser.add_argument("--least", type=float, default=0.0, help="fail below this share of branches, in percent")
    args = parser.parse_args()
    left_out = set().union(*ELSEWHERE.values())
    reasons = tomllib.loads(REASONS.read_text(encoding="utf-8"))
    counts = dict.fromkeys(("covered_lines", "num_statements", "covered_branches", "num_branches"), 0)
    unlisted = 0
    for name, found in sorted(json.loads(args.report.read_text())["files"].items()):
        parts = PurePath(name).parts
        inside = parts[parts.index("mien") + 1 :]
        if inside[0].removesuffix(".py") in left_out:
            continue
        for key in counts:
            counts[key] += found["summary"][key]
        file = "/".join(inside)
        places = Places((ROOT / file).read_text(encoding="utf-8"))
        for line, what in sorted(missing(found)):
            reason = next((reasons[file][key] for key in places.keys(line) if key in reasons.get(file, {})), None)
            print(f"{file}:{what}: {reason or 'listed nowhere: ' + places.lines[line - 1].strip()}")
            unlisted += reason is None
    lines, branches = (
        100 * counts[covered] / counts[of]
        for covered, of in (("covered_lines", "num_statements"), ("covered_branches", "num_branches"))
    )
    print(f"core: {branches:.1f} % of {counts['num_branches']:,} branches, {lines:.1f} % of {counts['num_statements']:,} lines")
    if branches < args.least:
        raise SystemExit(f"less than {args.least:g} % of the branches")
    if unlisted:
        raise SystemExit(f"{unlisted} places are not run and not in {REASONS.name}; test them, or say there why not")


def missing(found: Mapping[str, list]) -> Iterator[tuple[int, str]]:
    """Yield the line of each statement or branch of a file's report that is not run, and what to print for it."""
    for line in found["missing_lines"]:
        yield line, str(line)
    for begin, end in found["missing_branches"]:
        if begin not in found["missing_lines"] and end not in found["missing_lines"]:
            yield begin, f"{begin}→{max(end, 0) or 'end'}"


class Places:
    """By what tools/uncovered.toml names the lines of a file: their text, or the function that they are in."""

    def __init__(self, source: str) -> None:
        self.lines = source.splitlines()
        self.functions = list(_functions(ast.parse(source)))

    def keys(self, line: int) -> list[str]:
        """Return the names of a line: its text, then functions from the innermost on."""
        around = [name for name, first, last in self.functions if first <= line <= last]
        return [self.lines[line - 1].strip(), *reversed(around)]

    def all(self) -> set[str]:
        """Return every name that can be given."""
        return {line.strip() for line in self.lines} | {name for name, _, _ in self.functions}


def _functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, int, int]]:
    """Yield name, first and last line of all functions and methods, outer ones first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{prefix}{child.name}"
            if not isinstance(child, ast.ClassDef):
                yield name, child.lineno, child.end_lineno or child.lineno
            yield from _functions(child, f"{name}.")
        else:
            yield from _functions(child, prefix)


if __name__ == "__main__":
    main()
