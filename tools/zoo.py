"""Export trained systems into zoo/: one ONNX file each with its card inside, and the same card with its digest beside it.

    python tools/zoo.py dda-sface=runs/fer2013-dda-sface/1 --data ../shared/data/fer2013 [--precision int8]

The file is measured on FER2013's PrivateTest (official labels, one view). Files that exist are replaced.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
from pathlib import Path

import onnx
import tomli_w

import mien
from mien import cards
from mien.cards import Card, Measured, sha256
from mien.data.datasets import open_dataset
from mien.exporting.exporter import OnnxFile

ZOO = Path(__file__).resolve().parents[1] / "zoo"
LICENSE_NOTE = (
    "Trained on FER2013 (Goodfellow et al. 2013), web images that were collected for research and whose copyright stays with "
    "their photographers; the weights contain no images. {start}"
)
SFACE = "It was initialized with SFace (OpenCV model zoo, Apache-2.0), which was trained on face images collected for research."
STARTS = {
    "sface": SFACE,
    "mien-base": f"The trunk is that of mien-base 7, trained on FER2013, votes of FERPlus and photographs of LFW. {SFACE}",
    "lite0": "It was initialized with EfficientNet-Lite0's ImageNet weights (Apache-2.0).",
}
"""End of a name → initial weights."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="+", help="NAME=RUN")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/fer2013"), help="folder of FER2013")
    parser.add_argument("--precision", choices=("fp16", "int8"), default="fp16")
    args = parser.parse_args()
    ZOO.mkdir(exist_ok=True)
    for name, _, run in (system.partition("=") for system in args.systems):
        export(name, Path(run), args.data, args.precision)


def export(name: str, run: Path, data: Path, precision: str) -> None:
    """Write zoo/NAME.onnx and zoo/NAME.toml."""
    out = ZOO / f"{name}.onnx"
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "best.safetensors"
        shutil.copy(run / "best.safetensors", weights)
        card = described(cards.read(run / "best.toml"), name)
        weights.with_suffix(".toml").write_text(tomli_w.dumps(card.to_dict()), encoding="utf-8")
        splits = {split: open_dataset("fer2013", data, split=kind) for split, kind in SPLITS.items()}
        mien.export(weights, out, precision=precision, **(splits if precision == "int8" else {}))
    graph = onnx.load(out)
    report = mien.evaluate(out, open_dataset("fer2013", data, split="test"), out=Path(tempfile.mkdtemp()), page=False)
    accuracy = report.figures["official"]["accuracy"]
    found = {key: round(accuracy[key], 4) for key in ("value", "low", "high")}
    print(f"{name}: {out.stat().st_size / 1e6:.1f} MB in {precision}, PrivateTest {found['value']:.2%}")
    inside = cards.parse(next(each.value for each in graph.metadata_props if each.key == cards.METADATA_KEY), name)
    n, note = len(report.predictions), f"this {precision} file"
    one = Measured(dataset="fer2013", split="test", metric="accuracy", n=n, note=note, **found)
    inside = dataclasses.replace(inside, measured=(one,), training={**inside.training, "minutes": minutes(run)})
    inside = OnnxFile(graph).write(out, inside)
    beside = dataclasses.replace(inside, file=out.name, sha256=sha256(out))
    out.with_suffix(".toml").write_text(tomli_w.dumps(beside.to_dict()), encoding="utf-8")


def minutes(run: Path) -> int:
    """Return how long a run took, beside whatever else the machine did."""
    events = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return round(sum(event["seconds"] for event in events if "seconds" in event) / 60)


SPLITS = {"training": "train", "validation": "validation"}


def described(card: Card, name: str) -> Card:
    """Return the card of a run with a name, a license and limits."""
    start = next(text for end, text in STARTS.items() if name.endswith(end))
    note, limits = LICENSE_NOTE.format(start=start), cards.load("mien-base").limits
    return dataclasses.replace(card, name=name, license="Apache-2.0", license_note=note, limits=limits)


if __name__ == "__main__":
    main()
