"""Docstrings as Markdown: what the tools that write reference pages share."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from itertools import pairwise
from textwrap import dedent

SECTION = re.compile(r"^(Args|Raises|Returns|Yields|Example|Examples):$", re.MULTILINE)
TITLES = {"Args": "Arguments", "Raises": "Raises", "Returns": "Returns", "Yields": "Yields"}
ENTRY = re.compile(r"^(\*{0,2}[\w.]+): ?(.*)$")
LITERAL = re.compile(r"^ {4,}\S")


def fields_of(kind: type) -> dict[str, str]:
    """Return field → the text below it, of a dataclass."""
    tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    found = {}
    for node, following in pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(following, ast.Expr):
            found[node.target.id] = " ".join(ast.literal_eval(following.value).split())
    return found


def summary(thing: object) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def cell(text: str) -> str:
    """Return text that can stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def markdown(text: str) -> str:
    """Return a docstring as Markdown: sections of arguments and errors as lists, examples and drawings as code."""
    parts = SECTION.split(text)
    found = [_prose(parts[0])]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        body, rest = _indented(body)
        found.append(_example(body) if title.startswith("Example") else f"{TITLES[title]}:\n\n{_entries(body)}")
        found.append(_prose(rest))
    return "\n\n".join(part for part in found if part)


def _prose(text: str) -> str:
    """Return paragraphs; those that are indented are drawings or code, and stay as they are."""
    found = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if block.lstrip().startswith(">>>"):
            found.append(_example(block))
        elif block.strip() and all(LITERAL.match(line) for line in block.splitlines()):
            found.append(f"```text\n{dedent(block).rstrip()}\n```")
        elif block.strip():
            found.append(block.strip())
    return "\n\n".join(found)


def _example(body: str) -> str:
    return f"```pycon\n{dedent(body).strip()}\n```"


def _indented(body: str) -> tuple[str, str]:
    """Split what belongs to a section from what follows it."""
    lines = body.strip("\n").splitlines()
    end = next((i for i, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    return dedent("\n".join(lines[:end])).strip("\n"), "\n".join(lines[end:])


def _entries(body: str) -> str:
    found: list[str] = []
    for line in body.splitlines():
        entry = ENTRY.match(line)
        if entry and not line.startswith(" "):
            found.append(f"* `{entry[1]}`: {entry[2]}")
        elif found:
            found[-1] += f" {line.strip()}"
        else:
            found.append(line.strip())
    return "\n".join(text.rstrip() for text in found)
