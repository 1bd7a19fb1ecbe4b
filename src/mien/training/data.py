"""Training and validation splits as decoded images and target tensors.

Images are decoded and resized once, by the same `Preprocess` that inference uses, and kept in memory or, with `data.cache`, in
memory-mapped files. `loader` augments them for training.
"""

import contextlib
import dataclasses
import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cards import VALUE_RANGES, Crop, Input
from ..data.datasets import Dataset, Draw, open_dataset
from ..data.labeled_faces import FaceFinder
from ..errors import ConfigError, DatasetError, SourceError
from ..faces.finder import open_finder
from ..faces.preprocessing import Preprocess
from ..io.images import read_image
from ..labels import index_map, label_set
from .config import DataConfig, InputConfig, Relabel, TrainConfig

MEMORY_SHARE = 0.4  # maximum fraction of the machine's memory for the decoded images of a split


def card_input(config: InputConfig) -> Input:
    """Return the card's input format; raises ConfigError for ImageNet normalization of gray images."""
    if config.normalize == "imagenet" and config.color == "gray":
        message = "input.normalize = 'imagenet' requires RGB; use 'half' or 'unit' for gray images"
        raise ConfigError(message, value="imagenet")
    size = (config.size, config.size)
    return Input(size=size, color=config.color, resize=config.resize, **VALUE_RANGES[config.normalize])


def card_crop(config: InputConfig) -> Crop | None:
    """Return the card's crop, or None."""
    return Crop(template=config.crop, margin=config.margin) if config.crop else None


class Images:
    """The images of a split, each decoded at most once, and kept at their original size if `native`.

    With `chosen.faces = "detect"` they are photos, whose faces are cropped by `config.crop`. Names and reasons of unreadable
    images are in `skipped`. Raises ConfigError: face detection without a crop, with regions, or with native sizes.
    """

    def __init__(self, data: Dataset, config: InputConfig, chosen: DataConfig, *, native: bool = False) -> None:
        self.data, self.strict, detects = data, chosen.strict, chosen.faces == "detect"
        if detects and (native or config.regions or not config.crop):
            raise ConfigError("data.faces = 'detect' requires input.crop, and excludes input.regions and input.native")
        self.find = FaceFinder("detect", chosen.detector) if detects else None
        self.skipped: dict[str, str] = {}
        contract = card_input(config)
        if config.color == "gray" or (data.pixels is not None and data.pixels.ndim == 3):
            # Gray images are stored with one channel and expanded when they are normalized.
            contract = dataclasses.replace(contract, color="gray", offset=(0.0,), std=())
        self.native = _native_side(data) if native else None
        side = self.native or contract.size[:2]
        self.preprocess = Preprocess(dataclasses.replace(contract, size=side), card_crop(config), config.regions)
        self.mesh = open_finder("whole", mesh="mesh468") if config.regions else None
        channels = self.preprocess.channels
        shapes = {"image": (*side, channels), **{name: (s, s, channels) for name, s in config.regions.items()}}
        self._store = {name: self._allocate(name, shape, chosen.cache) for name, shape in shapes.items()}
        self._state = np.zeros(len(data), np.int8)  # 1 decoded, −1 unreadable

    def __call__(self, rows: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return name → (n, h, w, 1 or 3) uint8, and (n,) whether readable; SourceError if not, and `strict` is set."""
        for row in rows[self._state[rows] == 0]:
            self._decode(int(row))
        return {name: store[rows] for name, store in self._store.items()}, self._state[rows] > 0

    def _decode(self, row: int) -> None:
        try:
            pixels = read_image(self.data.images[row]).pixels
            if self.native and (size := pixels.shape[:2]) != self.native:
                message = f"is {size[1]} × {size[0]} pixels, other images are {self.native[1]} × {self.native[0]}"
                raise SourceError(f"{message}; input.native requires one size", value=size, expected=self.native)
            if self.find is not None:
                images = self._face(self.find, row, pixels)
            else:  # The image is a face; its regions are those of an average face if no mesh is found.
                images = self.preprocess.take(pixels, self.mesh([pixels])[0][0].mesh if self.mesh else None)
        except SourceError as error:
            if self.strict:
                raise
            self.skipped[str(self.data.names[row])] = str(error)
            self._state[row] = -1
            return
        for name, image in images.items():
            self._store[name][row] = image
        self._state[row] = 1

    def _face(self, find: FaceFinder, row: int, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Return the aligned crop of the face in a photo, of the annotated one if the dataset has bounding boxes."""
        box = None if self.data.boxes is None or np.isnan(self.data.boxes[row]).any() else self.data.boxes[row].tolist()
        face = find.found(row, str(self.data.names[row]), pixels, box)
        if face is None or face.mesh is None:
            raise SourceError("no face detected; exclude the image, or set data.faces to 'whole'")
        return self.preprocess.cut(face.pixels, face.mesh)

    def _allocate(self, name: str, shape: tuple[int, ...], cache: str) -> np.ndarray:
        """Return (N, *shape) uint8: lazily committed memory, or a memory-mapped file that is deleted with the process."""
        rows = len(self.data)
        if cache:
            facts = f"{self.data.digest}/{name}/{shape}/{self.preprocess.input.resize}/{bool(self.native)}"
            path = Path(cache) / f"{hashlib.sha256(facts.encode()).hexdigest()[:24]}-{os.getpid()}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            array = np.lib.format.open_memmap(path, "w+", np.uint8, (rows, *shape))
            with contextlib.suppress(PermissionError):  # Windows cannot delete an open file.
                path.unlink()  # The mapping keeps the data until the process ends, however it ends.
            return array
        size, memory = rows * int(np.prod(shape)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if size > MEMORY_SHARE * memory:
            advice = "set data.cache to a folder on a fast disk with that much free space"
            message = f"{rows} decoded images need {size / 2**30:.0f} GB of memory; {advice}"
            raise ConfigError(message, value=size, expected=int(MEMORY_SHARE * memory))
        return np.empty((rows, *shape), np.uint8)


def _native_side(data: Dataset) -> tuple[int, int]:
    for row in range(min(len(data), 20)):
        try:
            height, width = read_image(data.images[row]).pixels.shape[:2]
            return height, width
        except SourceError:
            continue
    raise DatasetError(f"the first 20 images of {data.name} are unreadable; check its folder")


@dataclass(frozen=True, slots=True)
class Split:
    """A split of one dataset, for training or validation."""

    name: str  # of the dataset in this run
    data: Dataset
    labels: tuple[str, ...]  # in the order of the network
    targets: dict[str, Tensor]  # see `mien.training.criterion`
    images: Images
    rates: np.ndarray  # (N,) float64: mean number of times that an epoch shows each sample
    leaks: int = 0  # images that were excluded because they occur in another split

    def __len__(self) -> int:
        return len(self.data)

    @property
    def counts(self) -> Tensor:
        """(classes,) samples of each class; soft labels count fractionally."""
        label = self.targets["label"]
        if "soft" in self.targets and not (label >= 0).any():
            return self.targets["soft"].sum(0)
        return torch.bincount(label[label >= 0], minlength=len(self.labels)).float()


# Value of targets that a dataset does not have; 0 for all others.
UNKNOWN: dict[str, float] = {"label": -1, "valence_arousal": math.nan, "action_units": -1}


class Mixture:
    """The splits of all datasets of a run, as one sequence of samples: those of the first dataset, then of the second, …

    Targets that only some of the datasets have are unknown for the samples of the others. With several datasets the target
    `dataset`, (N,) int64, is the index of each sample's dataset.
    """

    def __init__(self, parts: Sequence[Split]) -> None:
        self.parts = tuple(parts)
        # The classes of the network are those of the first dataset.
        self.data, self.labels = parts[0].data, parts[0].labels
        self.starts = np.cumsum([0, *map(len, self.parts)])
        if len(self.parts) == 1:
            self.targets = self.parts[0].targets
        else:
            names = dict.fromkeys(name for part in self.parts for name in part.targets)
            self.targets = {name: _joined(name, [part.targets.get(name) for part in self.parts], self.parts) for name in names}
            self.targets["dataset"] = torch.repeat_interleave(torch.tensor([len(part) for part in self.parts]))
        self.rates = np.concatenate([part.rates for part in self.parts])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def counts(self) -> Tensor:
        """(classes,) samples of each class in the first dataset."""
        return self.parts[0].counts

    @property
    def names(self) -> np.ndarray:
        """(N,) str."""
        return np.concatenate([part.data.names for part in self.parts])

    @property
    def skipped(self) -> dict[str, str]:
        """Name → reason, of unreadable images."""
        return {name: reason for part in self.parts for name, reason in part.images.skipped.items()}

    @property
    def digests(self) -> list[str]:
        """Digest of each dataset's split."""
        return [part.data.digest for part in self.parts]

    def rows(self, index: int) -> slice:
        """Return the rows of a dataset, by its index."""
        return slice(int(self.starts[index]), int(self.starts[index + 1]))

    def images(self, rows: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return images by row number, and whether each is readable; raises ConfigError for different shapes."""
        if len(self.parts) == 1:
            return self.parts[0].images(rows)
        of = np.searchsorted(self.starts, rows, side="right") - 1
        images: dict[str, np.ndarray] = {}
        readable = np.zeros(len(rows), bool)
        for index in np.unique(of).tolist():
            here = of == index
            stored, readable[here] = self.parts[index].images(rows[here] - self.starts[index])
            for name, store in stored.items():
                shape = store.shape[1:]
                whole = images.setdefault(name, np.zeros((len(rows), *shape), np.uint8))
                if (expected := whole.shape[1:]) != shape:
                    message = f"data: images of {self.parts[index].name} have shape {shape}, those of the first {expected}"
                    advice = "remove input.native, and use gray or color images in all datasets"
                    raise ConfigError(f"{message}; {advice}", value=shape, expected=expected)
                whole[here] = store
        return images, readable


def _joined(name: str, values: Sequence[Tensor | None], parts: Sequence[Split]) -> Tensor:
    """Return one target of all datasets, padded to the largest width."""
    known = [value for value in values if value is not None]
    width = max(value.shape[1] if value.ndim > 1 else 0 for value in known)
    joined = known[0].new_full((sum(map(len, parts)), *((width,) if width else ())), UNKNOWN.get(name, 0))
    start = 0
    for value, part in zip(values, parts, strict=True):
        if value is not None:
            joined[start : start + len(part), ..., *((slice(value.shape[1]),) if width else ())] = value
        start += len(part)
    return joined


def open_splits(config: TrainConfig) -> tuple[Mixture, Mixture]:
    """Open the training and validation splits of a run; ConfigError, DatasetError: equal names, or a missing or empty split."""
    opened = [_open_splits(config, data) for data in config.data]
    names = [train.name for train, _ in opened]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"data: several datasets are called {', '.join(sorted(twice))}; set data.name", value=tuple(twice))
    return Mixture([train for train, _ in opened]), Mixture([validation for _, validation in opened])


def _open_splits(config: TrainConfig, data: DataConfig) -> tuple[Split, Split]:
    train, validation = (open_split(data, name) for name in ("train", "validation"))
    before = len(train)
    if data.leak_free:
        others = [validation]
        with contextlib.suppress(DatasetError):  # Some datasets have no public test split.
            others.append(open_split(data, "test"))
        train = without_leaks(train, others)
    leaks = before - len(train)
    train, validation = train.of_each_class(data.limit), validation.of_each_class(data.validation_limit)
    for split in (train, validation):
        if not len(split):
            copies = leaks and split is train
            reason = f", since each of its {before:,} images also occurs in another split (data.leak_free)" if copies else ""
            message = f"{split.name}: the split {split.split!r} is empty{reason}"
            raise DatasetError(f"{message}; choose another protocol (data.protocol)", value=split.split)
    opened = split_of(train, config, data, native=config.input.native)
    return dataclasses.replace(opened, leaks=leaks), split_of(validation, config, data)


def split_of(data: Dataset, config: TrainConfig, chosen: DataConfig, *, native: bool = False) -> Split:
    """Return a dataset as tensors in the label order of its config; samples of classes that this order lacks are unlabeled."""
    labels = label_set(chosen.labels) if chosen.labels else data.labels
    places = index_map(data.labels, labels)
    label = np.where(data.label >= 0, places[data.label], -1)
    soft = None
    if data.distribution is not None:
        soft = np.zeros((len(data), len(labels)), np.float32)
        soft[:, places[places >= 0]] = data.distribution[:, places >= 0]
        if (places < 0).any():
            soft /= np.maximum(soft.sum(1, keepdims=True), np.finfo(np.float32).tiny)
    if chosen.relabel:
        label, soft = _relabeled(data, labels, label, soft, chosen.relabel)
    valence, arousal = data.valence, data.arousal
    affect = None if valence is None or arousal is None else np.stack([valence, arousal], 1)
    known = {"soft": soft, "votes": data.votes, "valence_arousal": affect, "action_units": data.action_units}
    targets = {"label": torch.from_numpy(label)}
    targets |= {name: torch.from_numpy(each.astype(np.float32)) for name, each in known.items() if each is not None}
    images = Images(data, config.input, chosen, native=native)
    rates = sample_rates(label, chosen.weight, chosen.balance)
    return Split(chosen.name or chosen.dataset, data, tuple(labels), targets, images, rates)


def sample_rates(label: np.ndarray, weight: float, balance: float) -> np.ndarray:
    """Return rates (N,) float64 with mean `weight`, proportional to (size of the class) ** -`balance`; unlabeled: the mean."""
    known = label >= 0
    if not balance or not known.any():
        return np.full(len(label), weight)
    rates = np.ones(len(label))
    rates[known] = np.bincount(label[known])[label[known]] ** -float(balance)
    rates[known] /= rates[known].mean()
    return rates * weight


def _relabeled(
    data: Dataset, labels: Sequence[str], label: np.ndarray, soft: np.ndarray | None, rules: Sequence[Relabel]
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (N,) and probabilities (N, classes) after the rules; raises ConfigError for an invalid rule."""
    label = label.copy()
    if soft is None:
        soft = np.zeros((len(data), len(labels)), np.float32)
        soft[label >= 0, label[label >= 0]] = 1
    free = np.ones(len(data), bool)
    for index, rule in enumerate(rules):
        place = f"data.relabel [{index}]"
        checks = [(rule.label, ("", *data.labels))] + [(name, data.groups) for name in rule.where]
        for name, known in [*checks, *((name, labels) for name in rule.shares)]:
            if name not in known:
                message = f"{place}: {data.name} has no {name!r}; known: {', '.join(filter(None, known))}"
                raise ConfigError(message, value=name, expected=tuple(known))
        shares = np.array([rule.shares.get(name, 0.0) for name in labels], np.float32)
        if rule.shares and not shares.sum() > 0:
            raise ConfigError(f"{place}: at least one share must be above 0, got {dict(rule.shares)}", value=rule.shares)
        chosen = free & ((data.label == data.labels.index(rule.label)) if rule.label else True)
        for name, value in rule.where.items():
            chosen &= data.groups[name] == value
        soft[chosen] = shares / max(float(shares.sum()), 1e-9)
        if np.count_nonzero(shares) < 2:
            label[chosen] = shares.argmax() if rule.shares else -1
        free &= ~chosen
    return label, soft


def open_split(config: DataConfig, split: str) -> Dataset:
    """Return a split of a dataset; errors as in `open_dataset`."""
    draw = Draw(seed=config.draw, fraction=config.fraction, folds=config.folds, fold=config.fold)
    return open_dataset(config.dataset, config.root, split, config.protocol, draw=draw, damaged="skip", **config.options)


def without_leaks(train: Dataset, others: Sequence[Dataset]) -> Dataset:
    """Return the training images that do not occur, byte for byte, in the other splits."""
    known = {digest for other in others for digest in _contents(other)}
    return train.take(np.flatnonzero(np.array([digest not in known for digest in _contents(train)], bool)))


def _contents(data: Dataset) -> Iterator[bytes]:
    for image in data.images:
        content = image.tobytes() if isinstance(image, np.ndarray) else image.read_bytes() if image.exists() else b""
        yield hashlib.blake2b(content, digest_size=16).digest() if content else os.urandom(16)


def evaluation_batches(
    split: Mixture, preprocess: Preprocess, batch: int, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, dict[str, Tensor], np.ndarray]]:
    """Yield (row numbers, images, readable), preprocessed as in inference."""
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        stored, readable = split.images(part)
        yield part, {name: evaluation_tensor(store, preprocess) for name, store in stored.items()}, readable


def evaluation_tensor(store_NHWC: np.ndarray, preprocess: Preprocess) -> Tensor:
    """Return stored images, (N, H, W, 1 or 3) uint8, preprocessed by `Preprocess.tensor` to (N, channels, H, W)."""
    if store_NHWC.shape[3] != preprocess.channels:
        store_NHWC = np.repeat(store_NHWC, preprocess.channels, 3)
    return torch.from_numpy(preprocess.tensor(store_NHWC))


def placed(image_NCHW: Tensor, device: torch.device, config: TrainConfig) -> Tensor:
    """Return images on a device, in the memory format of a run."""
    image_NCHW = image_NCHW.to(device, non_blocking=True)
    return image_NCHW.contiguous(memory_format=torch.channels_last) if config.channels_last else image_NCHW
