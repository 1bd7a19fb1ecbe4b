"""Turn a training run into the bundled classifier: calibrate, export, quantize, measure, write the card.

    python tools/make_default_weights.py runs/fer2013-mien-base/1 --root ../shared/data/fer2013
    python tools/make_default_weights.py --recalibrate --name mien-base --version 2   # the file that ships, pooled anew
    python tools/make_default_weights.py --refresh --root ../shared/data/fer2013      # measure the file that ships anew

Everything is fitted on PublicTest; PrivateTest is only measured. The network that is written has three outputs, all
probabilities: `fer2013` (7), `ferplus` (8), and `scores` (7), which is made of both (see `two_heads`).
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
import tomli_w
import torch
from onnx import numpy_helper
from onnx.utils import Extractor
from safetensors.torch import load_file
from torch import nn

from card_figures import answers, measured
from fer2013_arrays import open_arrays
from mien import cards, models
from mien.cards import CARDS, WEIGHTS, sha256
from mien.exporting import quantization
from mien.exporting.storage import halved
from mien.exporting.tracing import trace
from mien.faces.preprocessing import Preprocess
from mien.labels import FER2013
from mien.runtime.onnx import OnnxRuntime
from mien.training.config import TrainConfig
from two_heads import WEIGHT, Calibrated, Pool, Pooled, fit, fit_pool, tensor

INPUT = cards.Input(size=(48, 48), color="gray", scale=1 / 127.5, offset=(-1.0,))
CROP = cards.Crop(template="fer2013", fit="five")

SUMMARIES = {
    "mien-base": "compact residual network, two heads, trained here; EfficientNet-Lite0 from ImageNet was one of its teachers.",
    "mien-nano": "tiny residual network, two heads, taught by mien-base; for when speed or size counts.",
}

DATA = "FER2013 Training split without the 703 images that also occur in a test split; FERPlus votes as soft labels."
TEACHERS = {"mien-base": " One of its teachers, which learned from the same, began from weights of ImageNet (Apache-2.0)."}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="folder of the run, with best.safetensors and config.toml")
    parser.add_argument("--refresh", action="store_true", help="measure the bundled file anew and rewrite its card")
    parser.add_argument("--recalibrate", action="store_true", help="fit the mean of the bundled file's heads anew")
    parser.add_argument("--version", default="1", help="version on the card")
    parser.add_argument("--root", default="../shared/data/fer2013", help="folder of fer2013.npz")
    parser.add_argument("--name", default="mien-base")
    parser.add_argument("--fp16", action="store_true", help="float weights in half the bytes instead of int8")
    parser.add_argument("--out", type=Path, help="folder for the file and its card instead of the package's assets")
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.refresh:
        refresh(args.name, args.root, args.out)
        return
    if args.recalibrate:
        recalibrate(args.name, args.version, args.root, args.out)
        return
    if args.run is None:
        parser.error("give the folder of a run, --recalibrate or --refresh")

    config = TrainConfig.of(tomllib.loads((args.run / "config.toml").read_text()))
    trained = cards.read(args.run / "best.toml").training
    model = models.build(config.model.name, **config.model.options)
    model.load_state_dict(load_file(args.run / "best.safetensors"))
    model.eval()
    preprocess = Preprocess(INPUT)
    validation, test = open_arrays(args.root, "validation"), open_arrays(args.root, "test")

    pool = fit(model, preprocess, validation)
    print(pool)
    with tempfile.TemporaryDirectory() as folder:
        whole, final = Path(folder) / "fp32.onnx", Path(folder) / "final.onnx"
        export(Calibrated(model, pool).eval(), whole)
        if args.fp16:
            onnx.save(halved(onnx.load(whole)), final)
        else:
            training = open_arrays(args.root, "train")
            rows = np.random.default_rng(0).permutation(np.flatnonzero(training.unique))[:512]
            quantize(whole, final, tensor(preprocess, training.pixels[rows]))
        print("In float32:")
        measured(OnnxRuntime(whole, 2), preprocess, validation, test)
        print("The file:")
        threshold, rows = measured(OnnxRuntime(final, 2), preprocess, validation, test)
        card = describe(args.name, trained, pool, threshold, rows, args.version)
        write(card, final, args.out)


def refresh(name: str, root: str, out: Path | None) -> None:
    """Write the bundled file with signed weights, its card with the same calibration and figures measured anew."""
    card = cards.load(name)
    model = signed_weights(onnx.load(card.weights))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / card.file
        onnx.save(model, path)
        splits = (open_arrays(root, split) for split in ("validation", "test"))
        _, figures = measured(OnnxRuntime(path, 2), Preprocess.of(card), *splits, card.calibration.threshold)
        write(dataclasses.replace(card, sha256="", measured=figures), path, out)


def signed_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store uint8 weights around 128 as int8, in place: the same numbers, which processors with VNNI multiply faster."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            for name in (node.input[0], node.input[2]):
                if (values := numpy_helper.to_array(stored[name])).dtype == np.uint8:
                    stored[name].CopyFrom(numpy_helper.from_array((values.astype(np.int16) - 128).astype(np.int8), name))
    return model


def recalibrate(name: str, version: str, root: str, out: Path | None) -> None:
    """Replace the part of the bundled file that makes `scores` of both heads, and measure it."""
    card = cards.load(name)
    validation, test = (open_arrays(root, split) for split in ("validation", "test"))
    preprocess = Preprocess.of(card)
    runtime = OnnxRuntime(card.weights, 2)
    given = answers(runtime, preprocess, validation)
    seven, eight = given["fer2013"], given["ferplus"]
    fitted = card.training["pool"]
    pool = Pool(fitted["fer2013"], fitted["ferplus"], *fit_pool(seven, eight, validation.label))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "whole.onnx"
        heads = {"seven": torch.from_numpy(seven[:2]), "eight": torch.from_numpy(eight[:2])}
        tail = trace(Pooled(pool).eval(), heads, ["scores"])
        trunk = Extractor(onnx.load(card.weights)).extract_model(["image"], ["fer2013", "ferplus"])
        tail_model = onnx.compose.add_prefix(tail, "pooled/", rename_outputs=False, rename_inputs=False)
        tail_model.ir_version = trunk.ir_version
        whole = onnx.compose.merge_models(
            trunk,
            tail_model,
            io_map=[("fer2013", "seven"), ("ferplus", "eight")],
            outputs=["scores", "fer2013", "ferplus"],
        )
        onnx.checker.check_model(whole)
        onnx.save(whole, path)
        threshold, rows = measured(OnnxRuntime(path, 2), preprocess, validation, test)
        write(describe(name, card.training, pool, threshold, rows, version), path, out)


def export(model: nn.Module, path: Path) -> None:
    """Write the network as ONNX with a dynamic batch and check it against torch."""
    names = ["scores", "fer2013", "ferplus"]
    onnx.save(trace(model, {"image": torch.zeros(2, 1, 48, 48)}, names), path)
    for batch in (1, 2, 7):
        image = torch.rand(batch, 1, 48, 48) * 2 - 1
        with torch.no_grad():
            wanted = model(image)
        for name, value in zip(names, wanted, strict=True):
            error = np.abs(OnnxRuntime(path)(image.numpy())[name] - value.numpy()).max()
            if error > 1e-4:
                raise SystemExit(f"{name} differs by {error:.1e} between torch and ONNX at batch {batch}")


def quantize(source: Path, target: Path, images: np.ndarray) -> None:
    """Write the int8 form, its ranges from calibration images, 32 at a time."""
    batches = [{"image": images[first : first + 32]} for first in range(0, len(images), 32)]
    onnx.save(quantization.quantize(onnx.load(source), batches), target)


def describe(
    name: str,
    trained: Mapping[str, Any],
    pool: Pool,
    threshold: float,
    figures: tuple[cards.Measured, ...],
    version: str = "1",
) -> cards.Card:
    """Return the card, all but its file's digest."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return cards.Card(
        name=name,
        kind="classifier",
        summary=f"Seven expressions from a 48 × 48 gray face; {SUMMARIES[name]}",
        file=f"{name}.onnx",
        sha256="",
        license="Apache-2.0",
        license_note="Trained on FER2013, web images gathered for research (Goodfellow et al. 2013) whose copyright stays "
        "with their photographers, and on the votes of FERPlus (MIT, Microsoft). No image of either is in the weights.",
        origin=f"recipes/{trained['recipe']}.toml",
        data=DATA + TEACHERS.get(name, ""),
        labels=FER2013,
        outputs={"scores": "scores", "fer2013": "fer2013", "ferplus": "ferplus"},
        input=INPUT,
        crop=CROP,
        version=version,
        calibration=cards.Calibration(threshold=round(threshold, 4), fitted_on="fer2013 validation (PublicTest)"),
        training={
            **{key: trained[key] for key in ("recipe", "seed", "epochs", "data_digests")},
            "commit": commit,
            "pool": dataclasses.asdict(pool) | {"fer2013": round(pool.fer2013, 4), "ferplus": round(pool.ferplus, 4)},
            "scores": f"{WEIGHT} of the FER2013 head and the rest of the FERPlus head, mapped by name (contempt dropped), "
            "then scaled and shifted as `pool` says",
        },
        limits="An expression is not an emotion: the model names how a face looks to raters, not what a person feels. "
        "It learned from posed and web images without age, sex or ethnicity labels, so gaps between groups are unknown "
        "beyond the sets measured here. Not for decisions about people; emotion inference at work and in education is banned "
        "in the EU (AI Act, article 5).",
        measured=figures,
    )


def write(card: cards.Card, network: Path, out: Path | None) -> None:
    """Write the network with its card inside, and the card beside it."""
    weights, folder = (out, out) if out else (WEIGHTS, CARDS)
    weights.mkdir(parents=True, exist_ok=True)
    model = onnx.load(network)
    table = card.to_dict()
    inside = {**table, "sha256": ""}
    onnx.helper.set_model_props(model, {cards.METADATA_KEY: tomli_w.dumps(inside)})
    path = weights / card.file
    onnx.save(model, path)
    table["sha256"] = sha256(path)
    text = tomli_w.dumps(table)
    cards.parse(text, card.name)
    (folder / f"{card.name}.toml").write_text(text, encoding="utf-8")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
