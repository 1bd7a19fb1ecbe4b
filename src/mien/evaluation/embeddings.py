"""Features of a dataset: the input of a network's last layer for each face, as a table and as a plot by class.

Several models are shown side by side in one plot, for example with and without a loss that pulls classes together
(affinity, DSF, LGM). The number in each title is the silhouette of the features themselves (Rousseeuw 1987; 1: separated
classes, 0: touching ones), because a t-SNE may show clusters that the features do not have.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..data.datasets import Dataset
from ..data.labeled_faces import Mode, found_faces
from ..errors import ConfigError, DatasetError, needs
from ..io.files import csv_text, write_file
from ..runtime.devices import Device, use
from ..runtime.open_model import open_model
from ..visualization.plotting import Figure, new_figure, styled
from .predict import finder_for
from .predictors import CardPredictor

Method = Literal["pca", "t-sne"]
FEATURE = "feature"
SMALLEST = 1e-7
"""Lower bound of probabilities before their logarithm."""
JUDGED = 2000
"""Maximum number of faces in a silhouette, whose cost is quadratic."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The features (N, D) float32 of the faces of one split; `model` and `dataset` are names with version and split.

    `output` is the output of the network, or `"scores, as logarithms"` for one without a feature output. For each face there
    are the name of its image, `label` (N,) int64, an index into the dataset's `labels`, −1 where unlabeled, and the predicted
    class (N,) str. Images without a face and unreadable ones have no row; `missed` has their names.
    """

    model: str
    dataset: str
    output: str
    features: np.ndarray
    names: np.ndarray
    label: np.ndarray
    labels: tuple[str, ...]
    predicted: np.ndarray
    missed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.features)


def embed(
    model: str | Path,
    data: Dataset,
    *,
    limit: int = 0,
    faces: Mode = "auto",
    detector: str = "blazeface",
    batch: int = 64,
    threads: int = 1,
    device: str | Device | None = None,
    progress: Callable[[int], None] = lambda number: None,
) -> Embedding:
    """Compute the features of a dataset, with the arguments of `mien.evaluate`.

    The model is any that `mien.load` opens; networks without an output `feature` give the logarithms of their probabilities,
    and `output` says so. `limit` uses only about that many images, the same share of each class, evenly spread. `progress` is
    called with the number of images done since the last call. Raises WeightsError: the model cannot be opened; DatasetError:
    the split is empty, or no face is found.
    """
    data = data.of_each_class(limit)
    if not len(data):
        raise DatasetError(f"{data.name} {data.split} is empty; choose another split", value=data.split)
    with use(device):
        card, runtime = open_model(model, threads)
        predictor = CardPredictor(card, runtime)
        find = finder_for(predictor, data, faces, detector, threads=threads)
    rows, features, predicted, missed = [], [], [], []
    output = next((name for name in (card.outputs.get(FEATURE), FEATURE) if name in runtime.outputs), None)
    for start in range(0, len(data), batch):
        part = range(start, min(start + batch, len(data)))
        found = found_faces(data, find, part)
        missed += [str(data.names[row]) for row in part if row not in found]
        if found:
            outputs = runtime(predictor.preprocess.batch([predictor.crop(face) for face in found.values()]))
            scores = np.asarray(outputs[card.outputs["scores"]])
            values = np.log(np.maximum(scores, SMALLEST)) if output is None else np.asarray(outputs[output])
            features.append(values.reshape(len(found), -1).astype(np.float32))
            predicted += [card.labels[index] for index in scores.argmax(1).tolist()]
            rows += list(found)
        progress(len(part))
    if not rows:
        where = f"{len(data)} images of {data.name} {data.split}"
        raise DatasetError(f"no face found in {where}; if each image is a face, give --faces whole")
    return Embedding(
        model=f"{card.name} {card.version}",
        dataset=f"{data.name} {data.split}",
        output=output or "scores, as logarithms",
        features=np.concatenate(features),
        names=data.names[rows],
        label=data.label[rows],
        labels=data.labels,
        predicted=np.array(predicted),
        missed=tuple(missed),
    )


def save(embedding: Embedding, path: str | Path) -> Path:
    """Write features with names, labels and predictions to a file, atomically.

    `.npz` holds `features`, `names`, `label`, `labels`, `predicted`, `model`, `dataset`, `output`; `.csv` and `.parquet` have a
    row for each face and the columns `name`, `label`, `predicted`, `f0` … Raises ConfigError: another suffix, a full disk, or a
    folder that is not writable; MissingExtra: `.parquet` needs pyarrow.
    """
    path = Path(path)
    write = WRITERS.get(path.suffix.lower())
    if write is None:
        message = f"{path}: the suffix of a features file must be {', '.join(WRITERS)}"
        raise ConfigError(message, value=path.suffix, expected=tuple(WRITERS))
    write_file(path, write(embedding))
    return path


def _npz(embedding: Embedding) -> bytes:
    file = io.BytesIO()
    texts = {"model": embedding.model, "dataset": embedding.dataset, "output": embedding.output}
    arrays = {"features": embedding.features, "names": embedding.names.astype(str), "label": embedding.label}
    np.savez_compressed(file, **arrays, labels=np.array(embedding.labels), predicted=embedding.predicted, **texts)
    return file.getvalue()


def _columns(embedding: Embedding) -> dict[str, np.ndarray]:
    label = np.array([*embedding.labels, ""])[embedding.label]
    columns = {"name": embedding.names.astype(str), "label": label, "predicted": embedding.predicted}
    return columns | {f"f{index}": column for index, column in enumerate(embedding.features.T)}


def _csv(embedding: Embedding) -> bytes:
    columns = _columns(embedding)  # numbers get the shortest decimals that give the same float32
    return csv_text([columns, *zip(*columns.values(), strict=True)]).encode()


def _parquet(embedding: Embedding) -> bytes:
    with needs("parquet", "pyarrow"):
        import pyarrow  # pyrefly: ignore
        import pyarrow.parquet  # pyrefly: ignore
    columns = {name: np.ascontiguousarray(column) for name, column in _columns(embedding).items()}
    about = {"model": embedding.model, "dataset": embedding.dataset, "output": embedding.output}
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(about), file)
    return file.getvalue()


WRITERS: Mapping[str, Callable[[Embedding], bytes]] = {".npz": _npz, ".csv": _csv, ".parquet": _parquet}
"""Suffix → function that makes the content."""


def project(features: np.ndarray, method: Method = "t-sne", seed: int = 0) -> np.ndarray:
    """Return a projection (N, 2) of features (N, D): two principal components, or a t-SNE of the first fifty.

    Raises ConfigError: fewer than five faces, or an unknown method; MissingExtra: scikit-learn is not installed.
    """
    if len(features) < 5:
        raise ConfigError(f"a plot of features needs 5 faces or more, got {len(features)}", value=len(features), expected=5)
    require_scikit_learn()
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    wide = np.asarray(features, np.float64)
    if method == "pca":
        return PCA(2, svd_solver="full").fit_transform(wide)
    if method != "t-sne":
        raise ConfigError(f"unknown projection {method!r} (expected pca or t-sne)", value=method, expected=("pca", "t-sne"))
    fewer = PCA(min(50, *wide.shape), random_state=seed).fit_transform(wide)
    return TSNE(2, perplexity=min(30, (len(wide) - 1) / 3), init="pca", random_state=seed).fit_transform(fewer)


def require_scikit_learn() -> None:
    """Fail early, with MissingExtra, if silhouettes and plots cannot be computed."""
    with needs("eval", "scikit-learn"):
        import sklearn.metrics  # noqa: F401


def silhouette(embedding: Embedding, seed: int = 0) -> float:
    """Return the mean silhouette of the classes in the features, −1 … 1; NaN with fewer than two classes.

    Raises MissingExtra without scikit-learn.
    """
    require_scikit_learn()
    from sklearn.metrics import silhouette_score

    known = embedding.label >= 0
    features, label = embedding.features[known], embedding.label[known]
    if not 2 <= len(np.unique(label)) < len(label):
        return float("nan")
    return float(silhouette_score(features, label, sample_size=JUDGED if len(label) > JUDGED else None, random_state=seed))


COLORS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#B8A800")
"""The eight colors of Okabe and Ito, with yellow darkened for white paper."""
MARKERS = "o^sDvPX*"
ORDER = ("neutral", "happiness", "surprise", "disgust", "anger", "sadness", "fear", "contempt")
"""Classes with a fixed color and marker; others take the remaining ones."""


def style_of(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return class → color and marker. Beyond eight classes colors repeat with other markers."""
    known = list(dict.fromkeys([*ORDER, *labels]))
    places, count = {name: known.index(name) for name in labels}, len(COLORS)
    return {name: (COLORS[k % count], MARKERS[(k + k // count) % len(MARKERS)]) for name, k in places.items()}


def plot(embeddings: Sequence[Embedding], method: Method = "t-sne", seed: int = 0, titles: Sequence[str] = ()) -> Figure:
    """Return a matplotlib figure with a panel for each embedding, faces colored by class.

    The embeddings are of one dataset by several models, or of several datasets; `titles` replace the models' names. The t-SNE
    follows from `seed`. Raises MissingExtra without matplotlib or scikit-learn, ConfigError for too few faces, or no labels.
    """
    if not embeddings:
        raise ValueError("no embeddings to plot")
    labels = list(dict.fromkeys(name for each in embeddings for name in each.labels))
    styles = style_of(labels)
    seen: set[str] = set()
    with styled():
        figure, (panels,) = new_figure(4.3 * len(embeddings), 4.9, 1, len(embeddings), squeeze=False)
        for number, (panel, each) in enumerate(zip(panels, embeddings, strict=True)):
            if not (each.label >= 0).any():
                raise ConfigError(f"{each.dataset} has no labels to color the features by; omit the plot")
            points = project(each.features, method, seed)
            size = float(np.clip(9000 / len(points), 4, 28))
            for index, name in enumerate(each.labels):
                if len(here := points[each.label == index]):
                    seen.add(name)
                    look = {"c": styles[name][0], "marker": styles[name][1], "alpha": 0.75, "linewidths": 0}
                    panel.scatter(*here.T, s=size, **look, rasterized=len(points) > 2000)
            name = titles[number] if titles else each.model
            panel.set_title(f"{name}\nsilhouette {silhouette(each, seed):.3f}, {len(each):,} faces", fontsize=9)
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set(visible=True, color="#c8ccd2")
            panel.set_xlabel(f"{'t-SNE' if method == 't-sne' else 'principal components'} of {each.output}", color="#555555")
        marks = [panels[0].scatter([], [], s=30, c=styles[n][0], marker=styles[n][1], label=n) for n in labels if n in seen]
        figure.legend(handles=marks, loc="outside lower center", ncols=min(len(marks), 4 * len(embeddings)), fontsize=8)
    return figure
