"""Store trained networks in 8 bits, judge them on validation, and write benchmarks/int8.csv and the table in docs/export.md.

    python tools/measure_int8.py RUN… --root ../shared/data/fer2013      # a row for each run; others stay
    python tools/measure_int8.py --check                                 # the table is that of the file

Accuracy is that of `mien export --precision int8`, on FER2013's PublicTest, which also chose the networks' epochs. A loss above
its tolerance is measured, too, and said to be refused. Speeds are ratios of rounds in which torch, float and int8 files take
turns.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import sys
import tempfile
from pathlib import Path

import torch

import mien
from mien.evaluation.run_info import commit
from mien.exporting import IMAGES, TOLERANCE
from mien.exporting.measuring import speeds
from mien.runtime.open_model import open_model
from pages import table

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "int8.csv", ROOT / "docs" / "export.md"
START, END = "<!-- int8: written by tools/measure_int8.py from benchmarks/int8.csv -->\n", "<!-- end of int8 -->"
COLUMNS = (
    "architecture", "model", "sha256", "keep", "calibration", "n", "accuracy", "accuracy_low", "accuracy_high", "accuracy_int8",
    "lost", "refused", "ece", "ece_int8", "mb", "mb_int8", "speed_onnx", "speed_int8", "date", "commit",
)  # fmt: skip
KEY = ("architecture", "model", "keep")


def measure(run: Path, root: Path, limit: int | None, keep: list[str]) -> dict[str, str]:
    """Return the row of a run's best weights."""
    training, validation = (mien.open_dataset("fer2013", root, split) for split in ("train", "validation"))
    if limit is not None:
        validation = validation.take(range(limit))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        whole = mien.export(run, f"{folder}/fp32.onnx")
        small = mien.export(
            run, f"{folder}/int8.onnx", precision="int8", training=training, validation=validation, tolerance=100, keep=keep
        )
        networks = [open_model(each) for each in (run, whole.path, small.path)]
        slow, *fast = speeds(networks)
    before, after, card = small.source, small.file, networks[0][0]
    lost = 100 * (_known(before.accuracy) - _known(after.accuracy))
    return {
        "architecture": str(card.network["architecture"]), "model": card.name, "sha256": card.sha256[:12],
        "keep": " ".join(keep), "calibration": str(IMAGES), "n": str(after.n), "accuracy": f"{before.accuracy:.4f}",
        "accuracy_low": f"{before.low:.4f}", "accuracy_high": f"{before.high:.4f}", "accuracy_int8": f"{after.accuracy:.4f}",
        "lost": f"{lost:.2f}", "refused": "yes" if lost > TOLERANCE else "no", "ece": f"{before.ece:.4f}",
        "ece_int8": f"{after.ece:.4f}", "mb": f"{whole.file.size / 1e6:.2f}", "mb_int8": f"{after.size / 1e6:.2f}",
        "speed_onnx": f"{fast[0] / slow:.2f}", "speed_int8": f"{fast[1] / slow:.2f}",
        "date": datetime.date.today().isoformat(), "commit": commit(),
    }  # fmt: skip


def _known(value: float | None) -> float:
    assert value is not None
    return value


def read() -> list[dict[str, str]]:
    """Return the rows there are."""
    if not RESULTS.is_file():
        return []
    with RESULTS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def page(rows: list[dict[str, str]]) -> str:
    """Return docs/export.md with the table of these rows."""
    lines = []
    for row in rows:
        ends = f"{100 * float(row['accuracy_low']):.1f} … {100 * float(row['accuracy_high']):.1f}"
        kept = f", `--keep {row['keep']}`" if row["keep"] else ""
        whole, small = float(row["speed_onnx"]), float(row["speed_int8"])
        lines.append([
            row["architecture"] + kept, f"{100 * float(row['accuracy']):.2f} ({ends})",
            f"{100 * float(row['accuracy_int8']):.2f}", row["lost"] + (" (refused)" if row["refused"] == "yes" else ""),
            f"{float(row['ece']):.3f}, {float(row['ece_int8']):.3f}", f"{row['mb']}, {row['mb_int8']}",
            f"{whole:.1f} ×", f"{small:.1f} ×", f"{small / whole:.1f} ×", f"{int(row['n']):,}",
        ])  # fmt: skip
    head = [
        "network",
        "fp32, %",
        "int8, %",
        "points lost",
        "ECE",
        "MB",
        "fp32 file / torch",
        "int8 file / torch",
        "int8 / fp32",
        "n",
    ]
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(START)
    return before + START + table(head, lines) + "\n" + END + rest.split(END, 1)[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--root", type=Path, default=ROOT.parent / "shared" / "data" / "fer2013")
    parser.add_argument("--limit", type=int, help="validation images; all of them without it")
    parser.add_argument("--keep", nargs="*", default=[], help="as for mien export")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    rows = {tuple(row[name] for name in KEY): row for row in read()}
    for run in args.runs:
        row = measure(run, args.root, args.limit, args.keep)
        print(row, file=sys.stderr)
        rows[tuple(row[name] for name in KEY)] = row
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))
        RESULTS.write_text(text.getvalue(), encoding="utf-8")
    wanted = page([rows[key] for key in sorted(rows)])
    if PAGE.read_text(encoding="utf-8") == wanted:
        return 0
    if args.check:
        print(f"{PAGE.name} is not what {RESULTS.name} gives; run: python tools/{Path(__file__).name}", file=sys.stderr)
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    print(f"wrote {PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
