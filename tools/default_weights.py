"""Train both bundled classifiers and write their files: some hours on two cores.

    python tools/default_weights.py --data ../shared/data --models ../shared/models
    python tools/default_weights.py --smoke       # every step once, on a few images, in a copy of the tree: minutes

mien-nano is taught by mien-base and begins from the bundled mien-nano. Runs are in `runs/` and resume where they stopped; what
a round needs is in its recipe. `--smoke` leaves the package's own files as they are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("fer2013", "lfw_expressions/labels.csv")
"""Datasets of both recipes, in their order, in `--data`."""
SMOKE = ("epochs=1", "batch=16", "threads=2", *(f"data.{k}.{key}=64" for k in (0, 1) for key in ("limit", "validation_limit")))
"""What `--smoke` changes in every recipe."""


@dataclass(frozen=True, slots=True)
class Round:
    """One recipe and the bundled classifier that it makes."""

    name: str
    """The classifier; the recipe is `photos-NAME`."""
    version: str
    """That of its file."""
    start: str = ""
    """File in `--models` that it begins from, instead of the recipe's."""


ROUNDS = (Round("mien-base", "5", "sface_trunk.npz"), Round("mien-nano", "3"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of both datasets")
    parser.add_argument("--models", type=Path, default=Path("../shared/models"), help="folder of sface_trunk.npz")
    parser.add_argument("--smoke", action="store_true", help="every step once, on a few images, in a copy of the tree")
    args = parser.parse_args()
    data, starts = args.data.resolve(), args.models.resolve()
    if not args.smoke:
        for each in ROUNDS:
            go(each, ROOT, data, starts)
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in ("src", "tools", "recipes"):
            shutil.copytree(ROOT / part, tree / part)
        for each in ROUNDS:
            go(each, tree, data, starts, SMOKE)
        for name in ("mien-base", "mien-nano"):
            call(tree, "-m", "mien", "predict", tree / "src/mien/assets/sample.png", "--model", name)


def go(one: Round, tree: Path, data: Path, starts: Path, changes: Sequence[str] = ()) -> None:
    """Train a round in a tree and write what it makes."""
    run, recipe = Path("runs") / f"photos-{one.name}", Path("recipes") / f"photos-{one.name}.toml"
    changes = [*changes, *(f"data.{index}.root={data / folder}" for index, folder in enumerate(FOLDERS))]
    changes += [f"model.init.file={starts / one.start}"] if one.start else []
    call(tree, "-m", "mien", "train", recipe, "-o", run, "--resume", *(f"--{change}" for change in changes))
    call(tree, "tools/make_default_weights.py", run, "--name", one.name, "--version", one.version)


def call(tree: Path, *command: object) -> None:
    """Run Python in a tree, with its package; stop where that fails."""
    line = [sys.executable, *map(str, command)]
    print("$", *line[1:], flush=True)
    subprocess.run(line, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree / "src")}, check=True)


if __name__ == "__main__":
    main()
