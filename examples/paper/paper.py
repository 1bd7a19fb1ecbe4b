"""From two networks to a table in a paper: prepare, train on folds and seeds, fuse, compare, verify, export, predict.

    python examples/paper/paper.py --london ../shared/data/london --out out/paper     # 204 portraits, neutral and happy
    python examples/paper/paper.py --out out/paper                                    # drawn faces, without any data

Every step is a command of mien, printed before it runs; finished steps are skipped when the script runs again. Numbers
on so few images say nothing about the networks.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
NETWORKS = ("global-roi", "global")


def mien(*words: object) -> None:
    """Run a command of mien, and stop if it fails."""
    print("\n$ mien", *words, flush=True)
    subprocess.run([sys.executable, "-m", "mien", *map(str, words)], check=True)


def draw_faces(folder: Path, number: int = 84) -> None:
    """Write drawn faces of seven classes as a dataset of images and a csv."""
    from PIL import Image

    from mien import open_dataset

    data = open_dataset("synthetic", split="all", number=str(number))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "prepared.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "subject"])
        for row, sample in enumerate(data):
            Image.fromarray(sample.read()).save(folder / f"{row:03}.png")
            table.writerow([f"{row:03}.png", sample.label, sample.subject])


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--london", type=Path, help="folder of the London set; without it faces are drawn")
    parser.add_argument("--out", type=Path, default=Path("out/paper"))
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    given = parser.parse_args()
    out, faces, started = given.out, given.out / "faces", time.perf_counter()

    # 1. Aligned faces, with the subject of each image.
    if given.london and not (faces / "prepared.csv").exists():
        mien("prepare", "align", "--dataset", "london", "--root", given.london, "--out", faces, "--crop", "arcface112")
    elif not (faces / "prepared.csv").exists():
        draw_faces(faces)

    # 2. Both networks on all folds (of whole subjects) and seeds, and their fusion with the weights of the authors.
    runs = {network: out / "runs" / network for network in NETWORKS}
    for network, folder in runs.items():
        series = ("--folds", given.folds, "--seeds", given.seeds, "--jobs", given.jobs)
        mien("train", HERE / f"{network}.toml", "--root", faces, "-o", folder, *series, f"--epochs={given.epochs}")
    places = sorted(path.parent.relative_to(runs["global"]) for path in runs["global"].glob("seed-*/fold-*/best.toml"))
    fused = [out / "runs" / "fused" / place / "best.toml" for place in places]
    for place, card in zip(places, fused, strict=True):
        if not card.exists():
            mien("fuse", *(folder / place for folder in runs.values()), "--weights", ".55,.45", "-o", card)

    # 3. Recipe against recipe: each run on its own fold, with tests over subjects and seeds; a table for LaTeX.
    models = [folder / place for folder in runs.values() for place in places] + fused
    metrics = (word for name in ("accuracy", "uar", "macro_f1") for word in ("--metric", name))
    mien("compare", *models, "--dataset", "csv@subject-folds", "--root", faces, *metrics, "--out", out / "compare")
    mien("curves", *(folder / places[0] for folder in runs.values()), "--out", out / "curves.pdf")

    # 4. One model for use: its report and plots, its claim verified, exported as one file that runs without torch.
    best = fused[0]
    data = ("--dataset", "csv", "--root", faces, "--protocol", "subject-folds")
    mien("evaluate", best, *data, "--out", out / "report")
    accuracy = accuracy_of(out / "report")
    mien("verify", best, *data, "--claim", f"accuracy={accuracy}", "--hypotheses", 0, "--out", out / "verify")
    mien("export", best, "-o", out / "fused.onnx")
    mien("predict", HERE.parents[1] / "src/mien/assets/sample.png", "--model", out / "fused.onnx", "--csv", out / "photo.csv")
    print(f"\n{(out / 'compare' / 'comparison.tex').read_text()}\n{time.perf_counter() - started:.0f} s")


def accuracy_of(folder: Path) -> float:
    """Return the accuracy of an evaluation."""
    from mien import Report

    return Report.read(folder).figures["official"]["accuracy"]["value"]


if __name__ == "__main__":
    main()
