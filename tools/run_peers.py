r"""Let other packages answer for a dataset, as tables of probabilities that `mien compare` reads (`peer:NAME=FILE.npz`).

    python tools/run_peers.py ../shared/peers --dataset fer2013 --root ../shared/data/fer2013 --out peers \\
        --fer-python v-fer/bin/python --wtf-python v-wtf/bin/python --node-dir node-peers

The runners in `../shared/peers` take 48 × 48 gray faces in a folder for each class. They get exactly what mien-base is fed:
images that are faces as they are, and faces that mien has found and laid on FER2013's geometry in photographs. So only the
networks are compared. Names of the images are added to each table, since protocols leave some of them out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mien.data.datasets import Dataset, open_dataset
from mien.data.labeled_faces import FaceFinder, mode_for
from mien.evaluation import CardPredictor, open_predictor
from mien.faces.preprocessing import IMAGE
from mien.labels import FER2013

PEERS = {
    "human": ("human", "", "node"),
    "fer-tflite": ("fer", "tflite", "fer"),
    "fer-keras": ("fer", "keras", "fer"),
    "what-the-face": ("what-the-face", "", "wtf"),
    "face-api": ("face-api", "", "node"),
}
"""Name → folder of the runner, its variant, and which Python runs it."""

PARAMETERS = {"human": 205_000, "fer-tflite": 58_000, "fer-keras": 58_000, "what-the-face": 4_270_000, "face-api": 324_000}
"""As the README of the runners states them."""


def write_faces(data: Dataset, folder: Path) -> list[str]:
    """Write the faces into class folders, and return the names of the images in the order in which the runners read them."""
    predictor = open_predictor("mien-base", "scores")
    assert isinstance(predictor, CardPredictor)
    finder = FaceFinder(mode_for(data, "auto", cuts_faces=True), "blazeface")
    order: dict[Path, str] = {}
    for row in range(len(data)):
        sample = data[row]
        face = finder([row], [sample], [sample.read()])[0]
        if face is None or sample.label is None:
            raise SystemExit(f"{sample.name} has no face or no label; the runners need both")
        path = folder / sample.label / f"{row:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(predictor.crop(face)[IMAGE][..., 0]).save(path)
        order[path] = sample.name
    return [order[path] for path in sorted(order)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runners", type=Path)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fer-python")
    parser.add_argument("--wtf-python")
    parser.add_argument("--node-dir")
    parser.add_argument("--speed", action="store_true", help="keep the speeds told; only where the machine does nothing else")
    parser.add_argument("--only", nargs="*", default=list(PEERS))
    args = parser.parse_args()
    data = open_dataset(args.dataset, args.root, args.split)
    faces = args.out / f"{args.dataset}-faces"
    shutil.rmtree(faces, ignore_errors=True)
    names = write_faces(data, faces)
    pythons = {"fer": args.fer_python, "wtf": args.wtf_python, "node": args.fer_python or sys.executable}
    environment = {**os.environ, "PYTHONPATH": "", **({"NODE_DIR": args.node_dir} if args.node_dir else {})}
    for name in args.only:
        folder, variant, kind = PEERS[name]
        if not pythons[kind] or (kind == "node" and not args.node_dir):
            print(f"{name}: its environment is not given")
            continue
        prefix = args.out / f"{args.dataset}-{name}"
        line = [pythons[kind], str(args.runners / folder / "run.py"), str(faces), "--out", str(prefix.resolve())]
        line += ["--variant", variant] if variant else []
        done = subprocess.run(line, capture_output=True, text=True, env=environment)
        if done.returncode:
            print(f"{name} failed: {done.stderr[-2000:]}")
            continue
        path = prefix.with_suffix(".npz")
        with np.load(path) as file:
            arrays = {key: file[key] for key in file.files}
        told = json.loads(prefix.with_suffix(".json").read_text())
        rates = [value for key, value in told.items() if key.startswith("img_s_model") or key == "img_s"]
        extra = {"speed": max(rates)} if rates and args.speed else {}
        extra |= {"memory_mb": told["rss_mb"]} if "rss_mb" in told else {}
        np.savez_compressed(
            path, **arrays, **extra, names=np.array(names), labels=np.array(FER2013),
            version=str(told.get("peer", "")).split(" ")[-1],
            parameters=PARAMETERS[name],
        )  # fmt: skip
        print(f"{name}: accuracy {told.get('accuracy', float('nan')):.4f} on {len(names)}", flush=True)


if __name__ == "__main__":
    main()
