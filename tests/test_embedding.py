"""Features of a dataset: the right vector beside the right name, the same plot for the same seed."""

from __future__ import annotations

import csv
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import make_blobs

from mien.cards import Crop
from mien.data.datasets import Dataset, open_dataset
from mien.data.datasets.dataset import Pixels
from mien.errors import ConfigError, DatasetError, MissingExtra
from mien.evaluation.embeddings import COLORS, ORDER, Embedding, embed, plot, project, silhouette, style_of
from mien.evaluation.embeddings import save as write
from mien.faces.preprocessing import Preprocess
from mien.labels import LABEL_SETS
from mien.runtime.open_model import open_model
from mien.visualization.plotting import write_figure
from small_networks import BASE, SMALL, save


@pytest.fixture(scope="module")
def faces() -> Dataset:
    return open_dataset("synthetic", split="test")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"), "mien-base", SMALL, **BASE)


@pytest.fixture(scope="module")
def small(weights: Path, faces: Dataset) -> Embedding:
    return embed(weights, faces, limit=30, batch=8)


def test_each_row_is_the_feature_of_its_image(small: Embedding, weights: Path, faces: Dataset) -> None:
    card, runtime = open_model(weights)
    preprocess = Preprocess.of(card)
    assert small.output == "feature" and small.features.shape == (len(small), 32) and small.features.dtype == np.float32
    place = {str(name): row for row, name in enumerate(faces.names)}
    for row in (0, 9, len(small) - 1):
        sample = faces[place[str(small.names[row])]]
        answer = runtime(preprocess.batch([preprocess.take(sample.read())]))
        assert small.features[row] == pytest.approx(answer["feature"][0], abs=1e-4)
        assert small.labels[small.label[row]] == sample.label
        assert small.predicted[row] == card.labels[int(answer["fer2013"][0].argmax())]


def test_a_limit_takes_of_every_class(small: Embedding, faces: Dataset) -> None:
    assert len(small) == 30 and set(small.label.tolist()) == set(range(len(faces.labels)))
    assert len(set(small.names.tolist())) == 30


def test_an_exported_network_without_features_gives_scores(faces: Dataset) -> None:
    found = embed("mien-base", faces, limit=12)
    assert found.output == "scores, as logarithms" and found.features.shape == (12, 7)
    assert np.exp(found.features).sum(1) == pytest.approx(1, abs=1e-4)


def test_images_without_a_face_have_no_row(sample: Path, tmp_path: Path) -> None:
    """A photograph with a face, a lawn, and a file that is not an image."""
    folder = tmp_path / "photos"
    for name in ("happiness", "neutral"):
        (folder / name).mkdir(parents=True)
    shutil.copy(sample, folder / "happiness" / "a.png")
    Image.new("RGB", (400, 300), (90, 120, 90)).save(folder / "neutral" / "lawn.png")
    (folder / "neutral" / "note.png").write_text("buy milk")
    found = embed("mien-base", open_dataset("folder", folder, "all"), faces="detect")
    assert len(found) == 1 and found.predicted.tolist() == ["happiness"] and found.labels[found.label[0]] == "happiness"
    assert sorted(Path(name).name for name in found.missed) == ["lawn.png", "note.png"]


@pytest.mark.parametrize("ending", [".npz", ".csv"])
def test_files_hold_what_was_found(small: Embedding, tmp_path: Path, ending: str) -> None:
    path = write(small, tmp_path / "deep" / f"features{ending}")
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    if ending == ".npz":
        with np.load(path) as file:
            assert np.array_equal(file["features"], small.features) and file["label"].tolist() == small.label.tolist()
            assert file["names"].tolist() == small.names.tolist() and str(file["output"]) == "feature"
            assert tuple(file["labels"]) == small.labels and file["predicted"].tolist() == small.predicted.tolist()
        return
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][:4] == ["name", "label", "predicted", "f0"] and len(rows) == len(small) + 1
    assert np.array_equal(np.array([row[3:] for row in rows[1:]], np.float32), small.features)
    assert [row[1] for row in rows[1:]] == [small.labels[index] for index in small.label]


def test_parquet_says_what_it_needs(small: Embedding, tmp_path: Path) -> None:
    try:
        import pyarrow.parquet  # pyrefly: ignore
    except ModuleNotFoundError:
        with pytest.raises(MissingExtra, match="pyarrow"):
            write(small, tmp_path / "features.parquet")
        assert not list(tmp_path.iterdir())
    else:
        table = pyarrow.parquet.read_table(write(small, tmp_path / "features.parquet"))
        assert table.column("name").to_pylist() == small.names.tolist()
        assert np.array_equal(np.array(table.column("f3")), small.features[:, 3])


def test_what_cannot_be_embedded(small: Embedding, faces: Dataset, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="test"):
        embed(weights, faces.take(np.arange(0)))
    with pytest.raises(DatasetError, match="3 images"):
        path = save(tmp_path, "mien-base", SMALL, **BASE, crop=Crop(template="fer2013"))
        blank = Pixels(np.full((3, 60, 60, 3), 90, np.uint8), np.arange(3))
        gray = dataclasses.replace(faces.take(np.arange(3)), images=blank)
        embed(path, gray, faces="detect")
    with pytest.raises(ConfigError, match="pkl"):
        write(small, tmp_path / "features.pkl")
    with pytest.raises(ConfigError, match="4"):
        project(np.zeros((4, 3)))
    with pytest.raises(ConfigError, match="umap"):
        project(np.random.default_rng(0).normal(size=(9, 3)), "umap")  # pyrefly: ignore


def blobs(spread: float) -> Embedding:
    points, label = make_blobs([40] * 4, 12, cluster_std=spread, random_state=0)
    names = np.array([f"{row}.png" for row in range(len(label))])
    labels = ("anger", "fear", "happiness", "neutral")
    return Embedding("blobs 1", "made up test", "feature", points.astype(np.float32), names, label, labels, names)


def test_projections() -> None:
    apart = blobs(1.0)
    flat = project(apart.features, "pca")
    wide = apart.features.astype(float) - apart.features.mean(0, dtype=float)
    _, _, axes = np.linalg.svd(wide, full_matrices=False)
    assert np.abs(flat) == pytest.approx(np.abs(wide @ axes[:2].T), abs=1e-6)
    one, two = (project(apart.features, "t-sne", seed=0) for _ in range(2))
    assert np.array_equal(one, two)
    centers = np.stack([one[apart.label == index].mean(0) for index in range(4)])
    assert (np.linalg.norm(one[:, None] - centers, axis=2).argmin(1) == apart.label).mean() > 0.95


def test_silhouette_tells_tight_from_loose() -> None:
    tight, loose = silhouette(blobs(0.5)), silhouette(blobs(6.0))
    assert tight > 0.8 > 0.5 > loose
    single = blobs(1.0)
    alone = Embedding("m", "d", "feature", single.features, single.names, np.zeros(160, int), ("anger",), single.names)
    assert np.isnan(silhouette(alone))


def test_the_plot(tmp_path: Path) -> None:
    figure = plot([blobs(0.5), blobs(6.0)], "pca", titles=("with", "without"))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0].startswith("with\nsilhouette 0.9") and titles[1].startswith("without\n") and "160 faces" in titles[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["anger", "fear", "happiness", "neutral"]
    for ending in ("png", "svg", "pdf"):
        first, again = (write_figure(plot([blobs(1.0)], "pca"), tmp_path / f"{each}.{ending}") for each in "ab")
        assert first.read_bytes() == again.read_bytes() and first.stat().st_size > 4000
    with pytest.raises(ConfigError, match="gif"):
        write_figure(figure, tmp_path / "plot.gif")


def test_every_class_has_color_and_marker_of_its_own() -> None:
    for labels in LABEL_SETS.values():
        styles = style_of(labels)
        assert len(set(styles.values())) == len(labels)
        if set(labels) <= set(ORDER):
            assert len({color for color, _ in styles.values()}) == len(labels)
    assert style_of(["fear"])["fear"] == style_of(LABEL_SETS["ferplus"])["fear"] and len(set(COLORS)) == 8


def test_features_of_an_exported_file_need_no_torch() -> None:
    code = """
import sys
for name in ("torch", "sklearn", "matplotlib"):
    sys.modules[name] = None
from mien.data.datasets import open_dataset
from mien.evaluation.embeddings import embed
print(embed("mien-base", open_dataset("synthetic", split="test"), limit=8).features.shape)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.split() == ["(8,", "7)"], run.stderr
