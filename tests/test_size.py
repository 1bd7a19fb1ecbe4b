"""What version 0.1 did takes at most 32,500 lines; `since_0_1.csv` lists the function that it did not have.

Only whole modules (an empty definition) and whole functions, methods and classes are listed; lines added within others count as
what version 0.1 did, and so do imports and blank lines outside them.
"""

from __future__ import annotations

import ast
import csv
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src/mien"
LINES = 32_500


def definitions(tree: ast.Module) -> dict[str, int]:
    """Return the lines of each function and class, and of each method as Class.name."""
    found = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            for inner in (
                node,
                *(each for each in node.body if isinstance(node, ast.ClassDef) and isinstance(each, ast.FunctionDef)),
            ):
                first = min([decorator.lineno for decorator in inner.decorator_list] + [inner.lineno])
                found[node.name if inner is node else f"{node.name}.{inner.name}"] = (inner.end_lineno or first) - first + 1
    return found


def test_what_version_0_1_did_takes_fewer_lines() -> None:
    texts = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    with Path(__file__).with_name("since_0_1.csv").open(encoding="utf-8", newline="") as file:
        listed = {(row["file"], row["definition"]) for row in csv.DictReader(file)}
    lines = {name: {"": text.count("\n"), **definitions(ast.parse(text))} for name, text in texts.items()}
    new = sum(lines[name][definition] for name, definition in listed)
    assert all((name, "") not in listed for name, definition in listed if definition), "a module counts whole or by its parts"
    assert sum(each[""] for each in lines.values()) - new <= LINES
