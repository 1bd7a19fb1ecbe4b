"""Train both bundled classifiers anew, round by round, and write their files: a night and a day on two cores.

    python tools/default_weights.py --data ../shared/data/fer2013 --models ../shared/models
    python tools/default_weights.py --smoke       # every step once, on a few images, in a copy of the tree: five minutes

Each round begins from, or is taught by, the file that the round before wrote, so the order counts. Runs stand in `runs/` and go
on where they were stopped; what a round needs is in its recipe. `--smoke` leaves the package's own files as they are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ("epochs=1", "batch=16", "threads=2", "data.limit=64", "data.validation_limit=64")
"""What `--smoke` changes in every recipe."""


@dataclass(frozen=True, slots=True)
class Round:
    """One recipe, and what becomes of it."""

    recipe: str
    """Name without `fer2013-`."""
    name: str = ""
    """Bundled classifier whose file it makes; none: it only teaches."""
    version: str = ""
    """That file's."""
    seeds: tuple[int, ...] = ()
    """Seeds of which the mean is tried; nothing: the recipe's own seed alone."""
    start: str = ""
    """File in `--models` that it begins from."""
    exported: bool = False
    """Whether later rounds ask the ONNX file of it."""


ROUNDS = (
    Round("mien-base", "mien-base", "2"),
    Round("mien-nano", "mien-nano", "1"),
    Round("mien-nano-2", "mien-nano", "2"),
    Round("mien-base-2", "mien-base", "3"),
    Round("lite0-teacher", start="efficientnet_lite0.npz", exported=True),
    Round("mien-base-3", "mien-base", "4", seeds=(1, 2)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/fer2013"), help="folder of FER2013 and FERPlus")
    parser.add_argument("--models", type=Path, default=Path("../shared/models"), help="folder of efficientnet_lite0.npz")
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
    run = Path("runs") / f"fer2013-{one.recipe}"
    changes = [*changes, *([f"model.init.file={starts / one.start}"] if one.start else [])]
    recipe = Path("recipes") / f"{run.name}.toml"
    seeds = one.seeds or (tomllib.loads((tree / recipe).read_text())["seed"],)
    folders = [run / str(seed) for seed in seeds]
    for folder, seed in zip(folders, seeds, strict=True):
        options = [f"--{change}" for change in changes]
        call(tree, "-m", "mien", "train", recipe, "--root", data, "-o", folder, "--seed", seed, "--resume", *options)
    if len(folders) > 1:
        call(tree, "tools/average_runs.py", *folders, "-o", run, "--root", data)
    else:
        run = folders[0]
    if one.exported:
        call(tree, "-m", "mien", "export", run, "-o", run / "best.onnx")
    if one.name:
        call(tree, "tools/make_default_weights.py", run, "--name", one.name, "--version", one.version, "--root", data)


def call(tree: Path, *command: object) -> None:
    """Run Python in a tree, with its package; stop where that fails."""
    line = [sys.executable, *map(str, command)]
    print("$", *line[1:], flush=True)
    subprocess.run(line, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree / "src")}, check=True)


if __name__ == "__main__":
    main()
