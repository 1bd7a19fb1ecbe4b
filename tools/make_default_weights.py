"""Turn a training run into the bundled classifier: calibrate, export, quantise, measure, write the card.

    python tools/make_default_weights.py runs/fer2013-mien-base/1 --root ../shared/data/fer2013
    python tools/make_default_weights.py --refresh --root ../shared/data/fer2013      # measure the file that ships anew

Everything is fitted on PublicTest; PrivateTest is only measured. The network that is written has three outputs, all
probabilities: `fer2013` (7), `ferplus` (8), and `scores` (7), the weighted mean of both.

The even mean carries over best to other photographs, but against the labels of FER2013, which differ from the crowd's in a
third of the pictures, it is too sure of itself in a way that no temperature mends. So the weight of the FER2013 head is the
smallest one, from one half up, at which a temperature brings the calibration error on PublicTest to 0.025.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tomli_w
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mien import cards, metrics, models
from mien.calibration import abstention_threshold, expected_calibration_error, fit_temperature, softmax
from mien.datasets import ferplus
from mien.datasets.fer2013 import Fer2013, open_arrays
from mien.exporting import quantisation
from mien.exporting.tracing import trace
from mien.labels import FER2013, FERPLUS, map_scores
from mien.preprocessing import Preprocess
from mien.runtime import OnnxRuntime
from mien.training.config import TrainConfig
from mien.weights import CARDS, WEIGHTS, sha256

INPUT = cards.Input(size=(48, 48), colour="grey", scale=1 / 127.5, offset=(-1.0,))
CROP = cards.Crop(template="fer2013", fit="five")
ACCURACY_WHEN_CERTAIN = 0.8
CALIBRATION_ERROR = 0.025


@dataclass(frozen=True, slots=True)
class Pool:
    """How the logits of both heads become probabilities."""

    fer2013: float
    """Temperature of the FER2013 head."""
    ferplus: float
    """Temperature of the FERPlus head."""
    weight: float
    """Share of the FER2013 head in `scores`."""
    scores: float
    """Temperature of the weighted mean."""


class Calibrated(nn.Module):
    """The network with its pool: (N, 1, 48, 48) → probabilities `scores`, `fer2013`, `ferplus`."""

    def __init__(self, model: nn.Module, pool: Pool) -> None:
        super().__init__()
        self.model, self.pool = model, pool
        self.register_buffer("order", torch.tensor([FERPLUS.index(name) for name in FER2013]))

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = self.model(image_NCHW)
        seven = (output.fer2013 / self.pool.fer2013).softmax(1)
        eight = (output.ferplus / self.pool.ferplus).softmax(1)
        shared = eight[:, self.order]
        mean = self.pool.weight * seven + (1 - self.pool.weight) * shared / shared.sum(1, keepdim=True)
        return (mean.clamp(min=1e-9).log() / self.pool.scores).softmax(1), seven, eight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="folder of the run, with best.safetensors and config.toml")
    parser.add_argument("--refresh", action="store_true", help="measure the bundled file anew and rewrite its card")
    parser.add_argument("--root", default="../shared/data/fer2013", help="folder of fer2013.npz")
    parser.add_argument("--name", default="mien-base")
    parser.add_argument("--fp32", action="store_true", help="keep float weights instead of int8")
    parser.add_argument("--out", type=Path, help="folder for the file and its card instead of the package's assets")
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.refresh:
        refresh(args.name, args.root, args.out)
        return
    if args.run is None:
        parser.error("give the folder of a run, or --refresh")

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
        if args.fp32:
            whole.rename(final)
        else:
            training = open_arrays(args.root, "train")
            rows = np.random.default_rng(0).permutation(np.flatnonzero(training.unique))[:512]
            quantise(whole, final, tensor(preprocess, training.images[rows]))
            for name, split in (("PublicTest", validation), ("PrivateTest", test)):
                print("fp32", name, measure(OnnxRuntime(whole, 2), preprocess, split)[1])
        runtime = OnnxRuntime(final, 2)
        scores, figures = measure(runtime, preprocess, validation)
        print("file", "PublicTest", figures)
        threshold = abstention_threshold(scores, validation.label, ACCURACY_WHEN_CERTAIN)
        card = describe(args.name, trained, pool, threshold, measured(runtime, preprocess, validation, test, threshold))
        write(card, final, args.out)


def refresh(name: str, root: str, out: Path | None) -> None:
    """Write the bundled file in its portable form, its card with the same calibration and figures measured anew."""
    card = cards.load(name)
    model = quantisation.unsigned_weights(onnx.load(card.weights))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / card.file
        onnx.save(model, path)
        splits = (open_arrays(root, split) for split in ("validation", "test"))
        figures = measured(OnnxRuntime(path, 2), Preprocess.of(card), *splits, card.calibration.threshold)
        write(dataclasses.replace(card, sha256="", measured=figures), path, out)


def tensor(preprocess: Preprocess, images: np.ndarray) -> np.ndarray:
    """Return (N, 1, 48, 48) float32 for (N, 48, 48) uint8 pictures, through the package's own preprocessing."""
    return preprocess.tensor(np.stack([preprocess.whole(image) for image in images]))


@torch.no_grad()
def fit(model: nn.Module, preprocess: Preprocess, split: Fer2013) -> Pool:
    """Fit the temperatures of both heads, and the weight and temperature of their mean."""
    outputs = [model(torch.from_numpy(part)) for part in np.array_split(tensor(preprocess, split.images), 16)]
    seven, eight = (
        torch.cat([getattr(output, head) for output in outputs]).double().numpy() for head in ("fer2013", "ferplus")
    )
    distribution, kept = ferplus.targets(split.votes, "majority")
    first = fit_temperature(seven, split.label)
    second = fit_temperature(eight[kept], distribution[kept].argmax(1))
    seven, shared = softmax(seven / first), map_scores(softmax(eight / second), FERPLUS, FER2013)
    for weight in np.arange(0.5, 1.0, 0.05):
        mean = np.log(np.maximum(weight * seven + (1 - weight) * shared, 1e-9))
        last = fit_temperature(mean, split.label)
        error = expected_calibration_error(softmax(mean / last), split.label)
        print(f"weight {weight:.2f}: temperature {last:.3f}, calibration error {error:.4f}")
        if error <= CALIBRATION_ERROR:
            return Pool(first, second, round(float(weight), 2), last)
    return Pool(first, second, 1.0, 1.0)


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


def quantise(source: Path, target: Path, images: np.ndarray) -> None:
    """Write the int8 form, its ranges from calibration pictures, 32 at a time."""
    batches = [{"image": images[first : first + 32]} for first in range(0, len(images), 32)]
    onnx.save(quantisation.quantise(onnx.load(source), batches), target)


def measure(runtime: OnnxRuntime, preprocess: Preprocess, split: Fer2013) -> tuple[np.ndarray, dict[str, float]]:
    """Return (N, 7) `scores` and the accuracy of every output on a split."""
    parts = [runtime(part) for part in np.array_split(tensor(preprocess, split.images), 16)]
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in runtime.outputs}
    distribution, kept = ferplus.targets(split.votes, "majority")
    majority = distribution.argmax(1)
    seven = kept & (majority < 7)
    mapped = np.array([FER2013.index(name) if name in FER2013 else -1 for name in FERPLUS])[majority]
    return outputs["scores"], {
        "scores": float((outputs["scores"].argmax(1) == split.label).mean()),
        "fer2013": float((outputs["fer2013"].argmax(1) == split.label).mean()),
        "ferplus": float((outputs["ferplus"].argmax(1) == majority)[kept].mean()),
        "scores on FERPlus": float((outputs["scores"].argmax(1) == mapped)[seven].mean()),
        "ece scores": expected_calibration_error(outputs["scores"], split.label),
        "ece fer2013": expected_calibration_error(outputs["fer2013"], split.label),
        "ece ferplus": expected_calibration_error(outputs["ferplus"][kept], majority[kept]),
    }


def interval(right: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean of (N,) values."""
    sums = metrics.bootstrap(np.stack([right, np.ones(len(right))], 1), seed=seed)
    return metrics.interval(sums[:, 0] / sums[:, 1])


def measured(
    runtime: OnnxRuntime, preprocess: Preprocess, validation: Fer2013, test: Fer2013, threshold: float
) -> tuple[cards.Measured, ...]:
    """Measure the file that ships, on both splits, official and without leaked pictures."""
    rows: list[cards.Measured] = []

    def add(dataset: str, split: str, metric: str, values: np.ndarray, note: str) -> None:
        low, high = interval(values.astype(np.float64))
        value = cards.Measured(
            dataset=dataset,
            split=split,
            metric=metric,
            value=round(float(values.mean()), 4),
            n=len(values),
            low=round(low, 4),
            high=round(high, 4),
            note=note,
        )
        rows.append(value)
        print(value)

    for name, split in (("validation", validation), ("test", test)):
        parts = [runtime(part) for part in np.array_split(tensor(preprocess, split.images), 16)]
        outputs = {key: np.concatenate([part[key] for part in parts]) for key in runtime.outputs}
        scores = outputs["scores"]
        distribution, kept = ferplus.targets(split.votes, "majority")
        majority = distribution.argmax(1)
        add("fer2013", name, "accuracy", scores.argmax(1) == split.label, "output scores, official split, single view")
        add(
            "fer2013",
            name,
            "accuracy",
            outputs["fer2013"].argmax(1) == split.label,
            "output fer2013, official split, single view",
        )
        add(
            "fer2013",
            name,
            "accuracy",
            (scores.argmax(1) == split.label)[split.unique],
            "output scores, pictures that occur in no other split",
        )
        add(
            "ferplus",
            name,
            "accuracy",
            (outputs["ferplus"].argmax(1) == majority)[kept],
            "output ferplus, majority rule, 8 classes, single view",
        )
        certain = scores.max(1) >= threshold
        add("fer2013", name, "coverage", certain, "share of pictures on which the model does not abstain")
        add("fer2013", name, "accuracy when certain", (scores.argmax(1) == split.label)[certain], "output scores")
        counts = metrics.confusion(split.label, scores.argmax(1), len(FER2013))
        for metric, value, number, note in (
            ("UAR", metrics.uar(counts), len(split.label), "output scores"),
            ("ECE", expected_calibration_error(scores, split.label), len(split.label), "output scores, 15 bins"),
            (
                "ECE",
                expected_calibration_error(outputs["ferplus"][kept], majority[kept]),
                int(kept.sum()),
                "output ferplus, majority rule, 15 bins",
            ),
        ):
            dataset = "ferplus" if "ferplus" in note else "fer2013"
            rows.append(
                cards.Measured(dataset=dataset, split=name, metric=metric, value=round(float(value), 4), n=number, note=note)
            )
            print(rows[-1])
    return tuple(rows)


def describe(
    name: str, trained: Mapping[str, Any], pool: Pool, threshold: float, figures: tuple[cards.Measured, ...]
) -> cards.Card:
    """Return the card, all but its file's digest."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return cards.Card(
        name=name,
        kind="classifier",
        summary="Seven expressions from a 48 × 48 grey face; compact residual network, two heads, trained here from scratch.",
        file=f"{name}.onnx",
        sha256="",
        licence="Apache-2.0",
        licence_note="Trained on FER2013, web pictures gathered for research (Goodfellow et al. 2013) whose copyright stays "
        "with their photographers, and on the votes of FERPlus (MIT, Microsoft). No picture of either is in the weights.",
        origin="recipes/fer2013-mien-base.toml",
        data="FER2013 Training split without the 703 pictures that also occur in a test split; FERPlus votes as soft labels.",
        labels=FER2013,
        outputs={"scores": "scores", "fer2013": "fer2013", "ferplus": "ferplus"},
        input=INPUT,
        crop=CROP,
        calibration=cards.Calibration(
            temperature=round(pool.scores, 4), threshold=round(threshold, 4), fitted_on="fer2013 validation (PublicTest)"
        ),
        training={
            **{key: trained[key] for key in ("recipe", "seed", "epochs", "data_digests")},
            "commit": commit,
            "pool": {name: round(value, 4) for name, value in dataclasses.asdict(pool).items()},
            "scores": "weighted mean of both heads, the FERPlus head mapped to seven classes by name (contempt dropped)",
        },
        limits="An expression is not an emotion: the model names how a face looks to raters, not what a person feels. "
        "It learned from posed and web pictures without age, sex or ethnicity labels, so gaps between groups are unknown "
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
