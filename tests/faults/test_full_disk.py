"""Every command that writes files, on a full disk: one line names the file and says what to do, and nothing is half there.

A limit on the size of files stands for the disk: the system then refuses what goes beyond it, in the middle of a file.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from command import here
from surroundings import names_in, refused

SYNTHETIC = "--dataset synthetic --split all --option number=20"
COMMANDS = {
    "predict --csv": (300, "predict {sample} --csv {out}/rows.csv", "rows.csv"),
    "predict --timeline": (3_000, "predict {sample} --timeline {out}/time.svg", "time.svg"),
    "evaluate, its images": (12_000, f"evaluate mien-base {SYNTHETIC} --out {{out}}", "confusion.png"),
    "embed --out": (2_000, f"embed mien-base {SYNTHETIC} --out {{out}}/features.npz", "features.npz"),
    "embed --plot": (9_000, f"embed mien-base {SYNTHETIC} --method pca --plot {{out}}/plot.png", "plot.png"),
    "robustness --out": (300, f"robustness mien-base {SYNTHETIC} --limit 4 --out {{out}}/rows.csv", "rows.csv"),
    "robustness --plot": (9_000, f"robustness mien-base {SYNTHETIC} --limit 4 --plot {{out}}/plot.svg", "plot.svg"),
    "audit --html": (900, "audit --dataset synthetic --root . --no-near --html {out}/a.html", "a.html"),
    "audit --write-clean": (100, "audit --dataset synthetic --root . --no-near --write-clean {out}/a.json", "a.json"),
    "prepare, its settings": (100, "prepare align --dataset folder --root {faces} --out {out}", "manifest.json"),
    "prepare, its images": (9_000, "prepare align --dataset folder --root {faces} --out {out}", "a.png"),
    "prepare, in processes": (9_000, "prepare align --dataset folder --root {faces} --out {out} --workers 2", ".png"),
    "prepare --sheet": (50_000, "prepare regions --dataset folder --root {faces} --out {out}/r --sheet {out}/s.png", "s.png"),
    "explain": (9_000, "explain mien-base {sample} --out {out}", "sample-occlusion.png"),
    "export": (9_000, "export mien-base -o {out}/face.onnx", "face.onnx"),
    "export --raw-input": (9_000, "export mien-base --raw-input -o {out}/face.onnx", "face.onnx"),
    "train, its config": (300, "train {recipe} -o {out}", "config.toml"),
    "train, its weights": (15_000, "train {recipe} -o {out}", "best.safetensors"),
    "batch, its list": (100, "batch {faces} --out {out}", "a temporary file in"),
    "batch, its rows": (9_000, "batch {faces} --out {out} --workers 1", "part-00000.parquet"),
}
"""What is done → the size that no file may pass, the command line, and the file that is too large."""

FULL = os.strerror(errno.EFBIG)


@pytest.fixture(scope="module")
def faces(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two images, the same."""
    place = tmp_path_factory.mktemp("faces")
    for name in ("a", "b"):
        (place / "happiness").mkdir(exist_ok=True)
        shutil.copy(sample, place / "happiness" / f"{name}.png")
    return place


@pytest.mark.parametrize("what", COMMANDS)
def test_a_full_disk_is_reported_with_the_file(what: str, sample: Path, faces: Path, tmp_path: Path) -> None:
    size, command, name = COMMANDS[what]
    recipe = None
    if "{recipe}" in command:
        pytest.importorskip("torch", reason="training needs the extra train")
        import runs

        recipe = runs.recipe(tmp_path, epochs=1)
    if what.startswith("batch"):
        pytest.importorskip("pyarrow", reason="batch needs the extra scale")
    out = tmp_path / "out"
    out.mkdir()
    words = (word.format(sample=sample, faces=faces, recipe=recipe, out=out) for word in command.split())
    refused(here(*words, file_size=size), name, FULL)
    left = [out / each for each in names_in(out)]
    assert not [path for path in left if path.name == name or (path.name.startswith(".") and path.suffix == ".part")]
    ours = [path for path in left if path.suffix != ".part"]  # rows that grow, from which the same command goes on
    assert all(path.stat().st_size < size for path in ours), left  # what was cut off is as long as it could become


def test_a_table_that_is_made_again_stays_as_it_was(tmp_path: Path) -> None:
    command = ("compare", "mien-base", "--dataset", "synthetic", "--limit", 8, "--out", tmp_path)
    done = here(*command)
    assert done.returncode == 0, done.stderr
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    figures = tmp_path / "mien-base" / "synthetic" / "metrics.json"
    refused(here(*command, file_size=len(before[figures]) - 1), figures, FULL)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
