"""Everything public says what it is, and names the project's errors that it raises."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mien
from mien.cli import COMMANDS

ROOT = Path(mien.__file__).parent
FILES = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py"))}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
PASSED_OVER = {"overload", "setter"}
"""Decorators of what is documented elsewhere."""


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def public(
    body: list[ast.stmt], prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Yield name and node of all that is public in a module or class."""
    for node in body:
        if isinstance(node, (ast.If, ast.Try)):
            yield from public(node.body, prefix)
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            if PASSED_OVER & {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}:
                continue
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


def raised(node: ast.AST) -> Iterator[str]:
    """Yield the names of the errors that a function raises itself, functions within it left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(child, ast.Raise) and child.exc is not None:
            made = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
            yield ast.unparse(made).rpartition(".")[2]
        yield from raised(child)


def errors(modules: dict[str, ast.Module]) -> set[str]:
    """Return the names of `MienError` and of all that come from it, wherever they are defined."""
    bases = {
        node.name: [ast.unparse(base).rpartition(".")[2] for base in node.bases]
        for tree in modules.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {"MienError"}
    while more := {name for name, above in bases.items() if found & {*above}} - found:
        found |= more
    return found


def test_everything_public_has_a_docstring(modules):
    bare = [name for name, tree in modules.items() if tree.body and not ast.get_docstring(tree)]
    bare += [
        f"{file}: {name}" for file, tree in modules.items() for name, node in public(tree.body) if not ast.get_docstring(node)
    ]
    assert not bare


def test_public_functions_name_the_errors_they_raise(modules):
    """Commands are exempt: their docstrings are the help, and an error is a line on stderr and an exit status."""
    commands = {target.rpartition(":")[2] for group in COMMANDS.values() for target, _ in group.values()}
    known = errors(modules)
    assert {"ConfigError", "MissingExtra"} <= known
    silent = [
        f"{file}: {name} raises {error}"
        for file, tree in modules.items()
        for name, node in public(tree.body)
        if isinstance(node, FUNCTIONS) and not (file.startswith("cli") and name in commands)
        for error in sorted({*raised(node)} & known)
        if error not in (ast.get_docstring(node) or "")
    ]
    assert not silent
