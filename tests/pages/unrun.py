"""What can be checked of a block that is not run: that `mien` understands its commands, and that what it names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from blocks import ROOT, Block, commands

from mien.cli import build
from mien.training.config import TrainConfig

OURS = re.compile(r"(?:recipes|tests|tools|examples|benchmarks|docs|src)/[\w./-]+\.\w+")
"""A file of the repository."""


def check(block: Block) -> None:
    """Raise unless the imports of a block of Python work, or `mien` takes every command of a script; and its files exist."""
    for name in OURS.findall(block.text + block.not_run):
        assert (ROOT / name).is_file(), f"there is no {name}"
    if block.language == "python":
        tree = ast.parse(block.text)
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module([node for node in imports if _of_mien(node)], []), "the page", "exec"), {})
    else:
        for words in commands(block.text):
            for arguments in _calls(words):
                _bind(arguments)


def _of_mien(node: ast.Import | ast.ImportFrom) -> bool:
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    return any(name.partition(".")[0] == "mien" for name in names)


def _calls(words: Sequence[str]) -> Iterator[list[str]]:
    """Yield what follows `mien` in a line, which may be a loop or give it to another program: `torchrun -m mien …`."""
    line: list[str] = []
    for word in [*words, ";"]:
        line.append(word.removesuffix(";"))
        if word.endswith(";") or word in ("&&", "||", "|"):
            starts = [at for at, each in enumerate(line) if each == "mien" or each.endswith("bin/mien")]
            if starts and (starts[0] == 0 or line[starts[0] - 1] in ("do", "-m") or "bin/" in line[starts[0]]):
                yield [re.sub(r"\$\w+", "1", each) for each in line[starts[0] + 1 :] if each not in ("", "…", "&&", "||", "|")]
            line = []


def _bind(arguments: list[str]) -> None:
    """Raise unless the command line can be read; a recipe's fields are looked up in the recipe."""
    verb = arguments[0] if arguments and not arguments[0].startswith("-") else None
    _, bound, _ = build(verb).parse_args(arguments)
    if verb == "train" and (recipe := ROOT / bound.arguments["recipe"]).suffix:
        TrainConfig.load(recipe, bound.arguments.get("fields", ()))
