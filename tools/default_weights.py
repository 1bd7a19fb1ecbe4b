"""Train both bundled classifiers and write their files: some hours on two cores.

    python tools/default_weights.py --data ../shared/data --models ../shared/models
    python tools/default_weights.py --smoke       # every step once, on a few images, in a copy of the tree: minutes

mien-nano is taught by mien-base and begins from the bundled mien-nano. Runs are in `runs/` and resume where they stopped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = {"mien-base": "8", "mien-nano": "6"}
"""Classifier → version of its file; its recipe is `photos-NAME`."""
SMOKE = ("epochs=1", "batch=16", "threads=2", *(f"data.{k}.{key}=64" for k in (0, 1) for key in ("limit", "validation_limit")))
"""What `--smoke` changes in both recipes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of both datasets")
    parser.add_argument("--models", type=Path, default=Path("../shared/models"), help="folder of sface_trunk.npz")
    parser.add_argument("--smoke", action="store_true", help="every step once, on a few images, in a copy of the tree")
    args = parser.parse_args()
    data = args.data.resolve()
    changes = [f"--data.0.root={data / 'fer2013'}", f"--data.1.root={data / 'lfw_expressions/labels.csv'}"]
    starts = {"mien-base": [f"--model.init.file={args.models.resolve() / 'sface_trunk.npz'}"], "mien-nano": []}
    with tempfile.TemporaryDirectory() as folder:
        tree = ROOT
        if args.smoke:
            tree = Path(folder)
            changes += [f"--{change}" for change in SMOKE]
            for part in ("src", "tools", "recipes"):
                shutil.copytree(ROOT / part, tree / part)
        for name, version in VERSIONS.items():
            run = f"runs/photos-{name}"
            call(tree, "-m", "mien", "train", f"recipes/photos-{name}.toml", "-o", run, "--resume", *changes, *starts[name])
            call(tree, "tools/make_default_weights.py", run, "--name", name, "--version", version)
            call(tree, "-m", "mien", "predict", "src/mien/assets/sample.png", "--model", name)


def call(tree: Path, *command: str) -> None:
    """Run Python in a tree, with its package; stop where that fails."""
    print("$", *command, flush=True)
    subprocess.run([sys.executable, *command], cwd=tree, env={**os.environ, "PYTHONPATH": str(tree / "src")}, check=True)


if __name__ == "__main__":
    main()
