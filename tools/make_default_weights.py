"""Turn a training run into the bundled classifier: calibrate, export, measure, write the card.

    python tools/make_default_weights.py runs/photos-mien-base/1 --version 5
    python tools/make_default_weights.py --name mien-base      # measure the bundled file and write its card again

The run has two datasets: FER2013 with the votes of FERPlus, and photographs. The file has three outputs, all probabilities:
`fer2013` (7) and `ferplus` (8) from the network's heads, and `scores` (7), the judgment of crowds: the head `ferplus` without
contempt, with a temperature and an offset for each class. Everything is fitted on the validation splits of both datasets with
equal weight; the test split is only measured. With `validation.views = 2` in the recipe the file averages the logits of images
and mirror images, unless its optional input `views` is 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tomli_w
import torch
from safetensors.torch import load_file
from scipy.optimize import minimize
from torch import Tensor, nn

from mien import cards, metrics, models
from mien.cards import CARDS, WEIGHTS, sha256
from mien.data.datasets import fer2013, open_dataset
from mien.exporting.graphs import trace
from mien.exporting.precision import halved, quantize, with_convolutions
from mien.faces.preprocessing import Preprocess
from mien.labels import FER2013, FERPLUS
from mien.metrics.calibration import abstention_threshold, expected_calibration_error, fit_temperature
from mien.models.mien_base import MienBaseOutput
from mien.runtime.onnx import VIEWS, OnnxRuntime
from mien.training.building import some_images
from mien.training.config import DataConfig, TrainConfig
from mien.training.data import Mixture, Split, card_crop, card_input, open_splits, split_of

ACCURACY_WHEN_CERTAIN = 0.95
"""Of both validation splits together, equally weighted; the threshold of abstention follows from it."""
RARE = 0.5
"""How far rare classes count more in the fit of `scores`: 0 as often as they occur, 1 as much as frequent ones."""
SEVEN = [FERPLUS.index(name) for name in FER2013]
"""Where the classes of `scores` are in the head `ferplus`."""
OUTPUTS = ("scores", "fer2013", "ferplus")
Outputs = Mapping[str, np.ndarray]
"""Output → (N, classes) probabilities."""

SUMMARIES = {
    "mien-base": "MobileNetV1 with PReLU and two heads, initialized with SFace, OpenCV's face recognition network.",
    "mien-nano": "tiny residual network with two heads, distilled from mien-base, for where speed or size matters.",
}
DATA = (
    "FER2013 training split without the 703 images that also occur in a test split, with FERPlus votes as soft labels; news "
    "photographs of 3,059 people (Labeled Faces in the Wild) with the expression labels of muxspace/facial_expressions "
    "(Apache-2.0), softened by the smile annotation of hromi/SMILEsmileD. Calibrated on FER2013's PublicTest and on 896 other "
    "people of LFW."
)
STARTS = {
    "mien-base": " It was initialized with SFace (OpenCV model zoo, Apache-2.0), which was trained to recognize people in "
    "images collected for research.",
    "mien-nano": " It was initialized with mien-nano 2 and distilled from mien-base, which was initialized with SFace (OpenCV "
    "model zoo, Apache-2.0).",
}


@dataclass(frozen=True, slots=True)
class Measurable:
    """A split as the network is fed, with what is known about it."""

    image: np.ndarray
    """(N, 1, H, W) float32."""
    label: np.ndarray
    """(N,) index into FER2013, −1 unknown."""
    crowd: np.ndarray
    """(N,) index into FERPLUS, −1 unknown."""
    unique: np.ndarray
    """(N,) bool: the same image occurs in no other split."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How logits become probabilities."""

    fer2013: float
    """Temperature of the head `fer2013`."""
    ferplus: float
    """Temperature of the head `ferplus`."""
    factor: float
    """Of the logarithm of the head's probabilities in `scores`."""
    offset: tuple[float, ...]
    """Added to it, in the order of FER2013."""


class Mirrored(nn.Module):
    """A network that averages its logits over the image and its mirror image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image_NCHW: Tensor) -> MienBaseOutput:
        both = self.model(torch.cat([image_NCHW, image_NCHW.flip(3)]))
        return MienBaseOutput(*(value.unflatten(0, (2, -1)).mean(0) for value in both))


class Calibrated(nn.Module):
    """The network with its calibration: (N, 1, H, W) → probabilities `scores`, `fer2013`, `ferplus`."""

    def __init__(self, model: nn.Module, calibration: Calibration) -> None:
        super().__init__()
        self.model, self.calibration = model, calibration
        self.register_buffer("order", torch.tensor(SEVEN))
        self.register_buffer("offset", torch.tensor(calibration.offset))

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output, calibration = self.model(image_NCHW), self.calibration
        crowd = output.ferplus[:, self.order] * calibration.factor + self.offset
        return (
            crowd.softmax(1),
            (output.fer2013 / calibration.fer2013).softmax(1),
            (output.ferplus / calibration.ferplus).softmax(1),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="folder of the run, with best.safetensors and config.toml")
    parser.add_argument("--version", default="1", help="version on the card")
    parser.add_argument("--name", default="mien-base", choices=SUMMARIES)
    parser.add_argument("--out", type=Path, help="folder for the file and its card instead of the package's assets")
    parser.add_argument("--root", type=Path, help="folder of FER2013, instead of the run's")
    args = parser.parse_args()
    if args.run is None:
        card = cards.load(args.name)
        recipe = Path("recipes") / f"{card.training['recipe']}.toml"
        splits = measurable(TrainConfig.load(recipe), Preprocess.of(card), args.root)
        figures = tuple(measured(outputs_of(OnnxRuntime(card.weights), splits), splits, card.calibration.threshold))
        write(dataclasses.replace(card, sha256="", measured=figures), Path(card.weights), args.out)
        return

    config = TrainConfig.of(tomllib.loads((args.run / "config.toml").read_text()))
    trained = cards.read(args.run / "best.toml").training
    model = models.build(config.model.name, **config.model.options)
    model.load_state_dict(load_file(args.run / "best.safetensors"))
    train, _ = open_splits(config)
    averaged = Mirrored(model) if config.validation.views > 1 else model
    splits = measurable(config, Preprocess(card_input(config.input)), args.root)
    calibration = fit(averaged.eval(), splits["fer2013", "validation"], splits["photos", "validation"])
    print(calibration)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "final.onnx"
        in_8_bits = not any(isinstance(part, nn.PReLU) for part in model.modules())  # PReLU gains no speed by it.
        networks = [Calibrated(each, calibration).eval() for each in (model, averaged)]
        export(*networks, config.input.size, path, some_images(config, train, 512) if in_8_bits else None)
        outputs = outputs_of(OnnxRuntime(path), splits)
        threshold = certain(outputs, splits)
        card = describe(args.name, config, trained, calibration, threshold, args.version)
        figures = tuple(measured(outputs, splits, threshold))
        write(dataclasses.replace(card, measured=figures), path, args.out)


def measurable(config: TrainConfig, preprocess: Preprocess, root: Path | None) -> dict[tuple[str, str], Measurable]:
    """Return (name of the dataset, split) → its images and labels: validation of both datasets, test of FER2013."""
    first, second = config.data
    first = dataclasses.replace(first, root=str(root or first.root))
    _, validation = open_splits(dataclasses.replace(config, data=(first, second)))
    images = open_dataset(first.dataset, first.root, "test", first.protocol).of_each_class(first.validation_limit)
    test = split_of(images, config, first)
    found = {}
    for split, part in (("validation", validation.parts[0]), ("test", test)):
        distribution, kept = fer2013.label_votes(part.targets["votes"].numpy(), "majority")
        crowd = np.where(kept, distribution.argmax(1), -1)
        found["fer2013", split] = _fed(
            Mixture([part]), preprocess, part.targets["label"].numpy(), crowd, _unique(part, first, split)
        )
    photos = validation.parts[1].targets["label"].numpy()
    found["photos", "validation"] = _fed(Mixture([validation.parts[1]]), preprocess, np.full(len(photos), -1), photos, None)
    return found


def _fed(split: Mixture, preprocess: Preprocess, label: np.ndarray, crowd: np.ndarray, unique: np.ndarray | None) -> Measurable:
    images, readable = split.images(np.arange(len(split)))
    print(f"{split.data.name} {split.data.split}: {len(split)} images, {int((~readable).sum())} without a face")
    everywhere = np.zeros(len(label), bool) if unique is None else unique
    return Measurable(preprocess.tensor(images["image"]), label, crowd, everywhere)


def _unique(part: Split, data: DataConfig, split: str) -> np.ndarray:
    """Return which images of a split of FER2013 occur in no other split."""
    others = [name for name in ("train", "validation", "test") if name != split]
    opened = [open_dataset(data.dataset, data.root, name, data.protocol).pixels for name in others]
    known = {image.tobytes() for images in opened for image in images}
    return np.array([image.tobytes() not in known for image in part.data.pixels])


@torch.no_grad()
def fit(model: nn.Module, crops: Measurable, photos: Measurable) -> Calibration:
    """Fit the temperatures of both heads on FER2013's validation split, and `scores` on both validation splits."""
    seven, eight = logits(model, crops)
    groups = []
    for split, values in ((crops, eight), (photos, logits(model, photos)[1])):
        # Contempt is no class of `scores`.
        places = {crowd: place for place, crowd in enumerate(SEVEN)}
        label = np.array([places.get(crowd, -1) for crowd in split.crowd.tolist()])
        groups.append((values[label >= 0][:, SEVEN], label[label >= 0]))

    def loss(values: np.ndarray, rare: float) -> float:
        own = (_log_loss(scores * values[0] + [*values[1:], 0.0], label, rare) for scores, label in groups)
        return sum(own) / 2

    start = np.array([1.0, *[0.0] * 6])
    best = minimize(lambda values: loss(values, RARE) + 3e-2 * (values[1:] ** 2).sum(), start, method="L-BFGS-B").x
    # Weighting makes the probabilities too flat. One factor for all of them does not change the answers.
    best *= minimize(lambda factor: loss(best * factor, 0.0), [1.0]).x
    factor, *offset = np.round(best, 4).tolist()
    known = crops.crowd >= 0
    return Calibration(
        round(fit_temperature(seven, crops.label), 4),
        round(fit_temperature(eight[known], crops.crowd[known]), 4),
        factor,
        (*offset, 0.0),
    )


def logits(model: nn.Module, split: Measurable) -> tuple[np.ndarray, np.ndarray]:
    """Return what both heads give, (N, 7) and (N, 8) float64."""
    outputs = [model(torch.from_numpy(part)) for part in np.array_split(split.image, max(len(split.image) // 128, 1))]
    seven, eight = (torch.cat([getattr(output, head) for output in outputs]) for head in ("fer2013", "ferplus"))
    return seven.double().numpy(), eight.double().numpy()


def _log_loss(scores: np.ndarray, label: np.ndarray, rare: float) -> float:
    """Return the mean log loss, classes weighted by (samples, at least 15) to the power of −`rare`."""
    weight = np.maximum(np.bincount(label, minlength=scores.shape[1]), 15.0)[label] ** -rare
    top = scores.max(1)
    total = top + np.log(np.exp(scores - top[:, None]).sum(1))
    return float(np.average(total - scores[np.arange(len(label)), label], weights=weight))


def certain(outputs: Mapping[tuple[str, str], Outputs], splits: Mapping[tuple[str, str], Measurable]) -> float:
    """Return the confidence from which `scores` is right often enough, on as many crops as photographs."""
    scores, right = [], []
    for name in ("fer2013", "photos"):
        found, wanted = _judged(outputs[name, "validation"], splits[name, "validation"])
        scores.append(found)
        right.append(wanted)
    rows = np.random.default_rng(0).permutation(len(right[0]))[: len(right[1])]
    threshold = abstention_threshold(
        np.concatenate([scores[0][rows], scores[1]]), np.concatenate([right[0][rows], right[1]]), ACCURACY_WHEN_CERTAIN
    )
    return round(threshold, 4)


def outputs_of(runtime: OnnxRuntime, splits: Mapping[tuple[str, str], Measurable]) -> dict[tuple[str, str], Outputs]:
    """Return split → output → (N, classes) probabilities."""
    found = {}
    for key, split in splits.items():
        parts = [runtime(part) for part in np.array_split(split.image, max(len(split.image) // 64, 1))]
        found[key] = {name: np.concatenate([part[name] for part in parts]) for name in OUTPUTS}
    return found


def _judged(outputs: Outputs, split: Measurable) -> tuple[np.ndarray, np.ndarray]:
    """Return `scores` and labels of the samples whose crowd names one of its classes."""
    places = np.full(len(FERPLUS) + 1, -1)
    places[SEVEN] = np.arange(len(SEVEN))
    label = places[split.crowd]
    return outputs["scores"][label >= 0], label[label >= 0]


def measured(
    outputs: Mapping[tuple[str, str], Outputs], splits: Mapping[tuple[str, str], Measurable], threshold: float
) -> Iterator[cards.Measured]:
    """Yield the figures of the card, printed too."""
    for (name, split), data in splits.items():
        known = "lfw_expressions" if name == "photos" else name
        for row in _figures(known, split, data, outputs[name, split], threshold):
            print(row)
            yield row


def _figures(name: str, split: str, data: Measurable, outputs: Outputs, threshold: float) -> Iterator[cards.Measured]:
    scores, label = _judged(outputs, data)
    crowd = "ferplus" if name == "fer2013" else name
    sure = scores.max(1) >= threshold
    right = scores.argmax(1) == label
    shares: list[tuple[str, str, np.ndarray, str]] = []
    if name == "fer2013":
        own = outputs["fer2013"].argmax(1) == data.label
        eight = (outputs["ferplus"].argmax(1) == data.crowd)[data.crowd >= 0]
        shares = [
            (name, "accuracy", own, "output fer2013, official split, mean with the mirror image"),
            (name, "accuracy", own[data.unique], "output fer2013, images that occur in no other split"),
            (crowd, "accuracy", eight, "output ferplus, majority rule, 8 classes, mean with the mirror image"),
        ]
    shares += [
        (crowd, "accuracy", right, f"output scores, 7 classes{', majority rule' if name == 'fer2013' else ', aligned crops'}"),
        (crowd, "recall of neutral", right[label == FER2013.index("neutral")], "output scores"),
        (crowd, "coverage", sure, "share of images on which the model does not abstain"),
        (crowd, "accuracy when certain", right[sure], "output scores"),
    ]
    for dataset, metric, values, note in shares:
        low, high = interval(values.astype(np.float64))
        ends = {"low": round(low, 4), "high": round(high, 4)}
        value = round(float(values.mean()), 4)
        yield cards.Measured(dataset=dataset, split=split, metric=metric, value=value, n=len(values), note=note, **ends)
    frequent = [k for k in range(len(FER2013)) if np.count_nonzero(label == k) >= 15]
    balanced = float(np.mean([right[label == k].mean() for k in frequent]))
    error = expected_calibration_error(scores, label)
    for metric, value, note in (
        ("UAR", balanced, f"output scores, the {len(frequent)} classes with 15 images or more"),
        ("ECE", error, "output scores, 15 bins"),
    ):
        yield cards.Measured(dataset=crowd, split=split, metric=metric, value=round(value, 4), n=len(label), note=note)


def interval(right: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean of (N,) values."""
    sums = metrics.bootstrap(np.stack([right, np.ones(len(right))], 1), seed=seed)
    return metrics.interval(sums[:, 0] / sums[:, 1])


def export(network: nn.Module, averaged: nn.Module, side: int, path: Path, images: Tensor | None) -> None:
    """Write the network as ONNX with a dynamic batch and check it against torch.

    Args:
        network: the network for one view.
        averaged: what the file must predict: the same network, or its mean over mirror images.
        side: of its input.
        path: the file.
        images: (N, 1, H, W) training images, for weights and activations in 8 bits; None: weights as float16.
    """
    graph = trace(network, {"image": torch.zeros(2, 1, side, side)}, list(OUTPUTS))
    mirrored = isinstance(averaged.model, Mirrored)
    if images is None:
        graph = halved(with_convolutions(graph))
    else:
        views = (images, images.flip(3)) if mirrored else (images,)
        graph = quantize(graph, [{"image": part.numpy()} for view in views for part in view.split(32)])
    onnx.save(with_views(graph) if mirrored else graph, path)
    for batch in (1, 2, 7):
        image = torch.rand(batch, 1, side, side) * 2 - 1
        runtime = OnnxRuntime(path)
        for run, model in ((runtime, averaged), (runtime.one_view, network)):
            with torch.no_grad():
                expected = model(image)
            found = run(image.numpy())
            for name, value in zip(OUTPUTS, expected, strict=True):
                if (error := np.abs(found[name] - value.numpy()).max()) > (0.01 if images is None else 0.2):
                    raise SystemExit(f"{name} differs by {error:.1e} between torch and ONNX at batch {batch}")


def with_views(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a network for images (N, C, H, W) that averages its logits over the images and their mirror images.

    The outputs come from Softmax. The optional input `views` is (1,) int64: with 1 instead of 2 the mirror images are left out.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph, (image,) = changed.graph, (value.name for value in model.graph.input)
    added: list[onnx.NodeProto] = []

    def node(kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"views/{kind}_{len(added)}"
        added.append(onnx.helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def constant(name: str, values: Sequence[int]) -> str:
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    constant(VIEWS, [2])
    graph.input.append(onnx.helper.make_tensor_value_info(VIEWS, onnx.TensorProto.INT64, [1]))
    zero, one, across = (constant(f"views/{value}", [value]) for value in (0, 1, 3))
    last, before_first = constant("views/last", [-1]), constant("views/before_first", [-(2**31)])
    mirrored = node("Slice", image, last, before_first, across, last)
    count = node("Mul", node("Shape", image, start=0, end=1), node("Sub", VIEWS, one))
    both = node("Concat", image, node("Slice", mirrored, zero, count, zero), axis=0)
    for each in graph.node:
        each.input[:] = [both if name == image else name for name in each.input]
    names, first = {value.name for value in graph.output}, len(added)
    inner = [each for each in graph.node if each.output[0] not in names]
    outputs = [each for each in graph.node if each.output[0] in names]
    for each in outputs:
        assert each.op_type == "Softmax"
        shape = node("Concat", VIEWS, last, node("Shape", each.input[0], start=1), axis=0)
        each.input[0] = node("ReduceMean", node("Reshape", each.input[0], shape), axes=[0], keepdims=0)
    nodes = [*added[:first], *inner, *added[first:], *outputs]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(changed, full_check=True)
    return changed


def describe(
    name: str, config: TrainConfig, trained: Mapping[str, Any], calibration: Calibration, threshold: float, version: str
) -> cards.Card:
    """Return the card, all but its file's digest and figures."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    side = config.input.size
    about: Sequence[str] = [key for key in ("recipe", "seed", "epoch", "epochs", "data_digests", "made_by") if key in trained]
    return cards.Card(
        name=name,
        kind="classifier",
        summary=f"Seven expressions from a {side} × {side} gray face; {SUMMARIES[name]}",
        file=f"{name}.onnx",
        sha256="",
        license="Apache-2.0",
        license_note="Trained on FER2013 (Goodfellow et al. 2013) and Labeled Faces in the Wild (Huang et al. 2007), web and "
        "press images gathered for research whose copyright stays with their photographers, on the votes of FERPlus (MIT, "
        "Microsoft) and on expression labels under Apache-2.0. The weights contain no images. SFace, the initial "
        "weights, is under Apache-2.0 and was trained on face images collected for research.",
        origin=f"recipes/{trained['recipe']}.toml",
        data=DATA + STARTS[name],
        labels=FER2013,
        outputs={name: name for name in OUTPUTS},
        input=card_input(config.input),
        crop=card_crop(config.input),
        version=version,
        calibration=cards.Calibration(
            threshold=threshold, fitted_on="fer2013 validation (FERPlus majority) and lfw_expressions validation"
        ),
        training={
            **{key: trained[key] for key in about},
            "views": config.validation.views,
            "commit": commit,
            "calibration": {**dataclasses.asdict(calibration), "offset": list(calibration.offset)},
            "scores": "judgment of crowds: the head ferplus without contempt, times `factor` plus `offset`",
        },
        limits="An expression is not an emotion: the model predicts how a face looks to annotators, not what a person feels. "
        "It was trained on posed, web and press images without labels of age, sex or ethnicity, so accuracy gaps between "
        "groups are unknown beyond the datasets measured here. Disgust, fear and contempt are rare in its training "
        "photographs. Not for decisions about people; emotion inference at work and in education is prohibited in the EU "
        "(AI Act, article 5).",
    )


def write(card: cards.Card, network: Path, out: Path | None) -> None:
    """Write the network with its card inside, and the card beside it."""
    weights, folder = (out, out) if out else (WEIGHTS, CARDS)
    weights.mkdir(parents=True, exist_ok=True)
    model = onnx.load(network)
    table = card.to_dict()
    onnx.helper.set_model_props(model, {cards.METADATA_KEY: tomli_w.dumps({**table, "sha256": ""})})
    path = weights / card.file
    onnx.save(model, path)
    table["sha256"] = sha256(path)
    text = tomli_w.dumps(table)
    cards.parse(text, card.name)
    (folder / f"{card.name}.toml").write_text(text, encoding="utf-8")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
