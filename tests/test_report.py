"""Reports: a pure function of their files, whole in one page, and quick for many rows."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluations import Knowing, drawings
from mien import cards
from mien.errors import DatasetError
from mien.evaluation import evaluate
from mien.evaluation.report import Report
from mien.evaluation.report.metrics import measure
from mien.evaluation.report.predictions import Predictions, read_predictions


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = drawings(140)
    out = tmp_path_factory.mktemp("report")
    data = dataclasses.replace(data, groups={"tone": np.where(np.arange(140) % 3 == 0, "dark", "light")})
    evaluate(Knowing(data, 0.7, 0.7), data, out=out, command=["mien", "evaluate", "a model", "--out", "o"])
    return out


def test_the_same_files_give_the_same_report(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("predictions.csv", "evaluation.json", "mistakes"):
        source = finished / name
        shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy)
    Report.read(copy).write()
    written = sorted(path.relative_to(finished) for path in finished.rglob("*") if path.is_file())
    assert written == sorted(path.relative_to(copy) for path in copy.rglob("*") if path.is_file())
    for path in written:
        assert (copy / path).read_bytes() == (finished / path).read_bytes(), path


def test_a_changed_prediction_changes_the_report(finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    before = Report.read(copy).figures["official"]["accuracy"]["value"]
    lines = (copy / "predictions.csv").read_text().splitlines()
    wrong = next(row for row, text in enumerate(lines) if ",anger,all" in text or text.startswith("00000,anger"))
    lines[wrong] = lines[wrong].replace(",anger,", ",fear,", 1)
    (copy / "predictions.csv").write_text("\n".join(lines) + "\n")
    assert Report.read(copy).figures["official"]["accuracy"]["value"] == pytest.approx(before - 1 / 140, abs=1e-6)


class Links(html.parser.HTMLParser):
    """Everything that a page asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "srcset", "data")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


def test_the_page_needs_nothing_else(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    links = Links()
    links.feed(text)
    assert links.open == [] and links.found
    assert all(link.startswith(("data:", "#")) for link in links.found)
    assert "<script" not in text and not re.search(r"url\((?!#)", text) and "@import" not in text
    for wanted in (
        "prefers-color-scheme:dark",
        "@media print",
        "width=device-width",
        "tone",
        "mien evaluate &#39;a model&#39;",
    ):
        assert wanted in text, wanted
    identifiers = re.findall(r'\bid="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(identifiers)


def test_figures_for_papers(finished: Path) -> None:
    kinds = {path.name for path in (finished / "figures").iterdir()}
    assert kinds == {
        f"{name}.{form}"
        for name in ("confusion", "per_class", "reliability", "risk_coverage", "groups")
        for form in ("png", "svg", "pdf")
    }
    for path in (finished / "figures").glob("*.png"):
        pixels = np.asarray(Image.open(path).convert("L"))
        assert pixels.std() > 5 and min(pixels.shape) > 300, path


def test_images_of_other_code(finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    report = Report.read(copy)
    png = (finished / "figures" / "confusion.png").read_bytes()
    report.add_image("Features", "t-SNE", png, "colored by <class>")
    report.add_image("Grad-CAM", "surprise", png)
    report.add_image("Features", "PCA", png)
    report.add_image("Features", "t-SNE", png, "again")
    text = report.html()
    places = [text.index(word) for word in ("<h2>Features", "<h3>t-SNE", "<h3>PCA", "<h2>Grad-CAM", "<h3>surprise")]
    assert places == sorted(places) and text.count("<h3>t-SNE") == 1 and "again" in text and "colored" not in text
    with pytest.raises(ValueError):
        report.add_image("Features", "broken", b"GIF89a")


def test_names_are_not_markup(tmp_path: Path) -> None:
    data = drawings(70)
    groups = {"<b>group</b>": np.where(np.arange(70) % 2, "<script>x</script>", "&amp;")}
    evaluate(Knowing(data, 0.5), dataclasses.replace(data, groups=groups, notes=("<i>note",)), out=tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "<script>x" not in text and "<b>group" not in text and "<i>note" not in text and "&lt;script&gt;x" in text


def test_learning_curves_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    rows = [{"epoch": n, "loss": 2 / n, "accuracy": 1 - 1 / n, "lr": 0.1, "note": "x"} for n in (1, 2, 3)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "mine.onnx").write_bytes(cards.load("mien-base").weights.read_bytes())
    text = cards.CARDS.joinpath("mien-base.toml").read_text().replace('file = "mien-base.onnx"', 'file = "mine.onnx"')
    (run / "mine.toml").write_text(text)
    evaluate(run / "mine.toml", drawings(14), out=tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "learning_curves.pdf").is_file()
    assert "Learning curves" in (tmp_path / "out" / "report.html").read_text()


def test_many_rows_are_read_back_as_written(tmp_path: Path) -> None:
    table = many(500)
    with (tmp_path / "p.csv").open("w", newline="") as file:
        table.write(file)
    back = read_predictions(tmp_path / "p.csv")
    for name in ("sample", "label", "part", "status", "subject", "certain", "predicted", "truth"):
        assert (getattr(back, name) == getattr(table, name)).all(), name
    assert back.probabilities == pytest.approx(table.probabilities, rel=1e-6, nan_ok=True)
    assert back.slices["yaw"] == pytest.approx(table.slices["yaw"], rel=1e-6, nan_ok=True)
    assert back.units is not None and table.units is not None and (back.units == table.units).all()


def test_slices_by_pose_and_gaze() -> None:
    """Angles count to either side, are cut at 10 and 25 degrees, and all images of a slice are resampled together."""
    angle = np.repeat([-3.0, 3.0, -12.0, 12.0, 40.0, np.nan], 20)
    right = np.tile([True] * 12 + [False] * 8, 6) | (np.abs(angle) < 10)
    known = many(120)
    columns = dict(known.columns) | {
        "label": np.where(right, "anger", "fear, or so"),
        "status": np.full(120, "ok"),
        **{f"p:{name}": np.full(120, value) for name, value in zip(known.classes, (0.8, 0.1, 0.1), strict=True)},
        "slice:yaw": angle,
        "slice:gaze": np.abs(angle),
    }
    slices = measure(Predictions(columns))["slices"]
    assert slices["yaw"] == slices["gaze"]
    assert [(row["low"], row["high"], row["n"]) for row in slices["yaw"]] == [(3, 10, 40), (10, 25, 40), (25, 40, 20)]
    assert [row["accuracy"]["value"] for row in slices["yaw"]] == [1, 0.6, 0.6]
    assert slices["yaw"][0]["accuracy"]["low"] == 1 and 0.25 < slices["yaw"][1]["accuracy"]["low"] < 0.6


def many(number: int) -> Predictions:
    random = np.random.default_rng(0)
    classes = ("anger", "fear, or so", 'a "third"')
    probabilities = random.dirichlet(np.ones(3), number)
    status = np.where(random.random(number) < 0.1, "no face", "ok")
    probabilities[status != "ok"] = np.nan
    units, predicted = random.integers(-1, 2, (number, 2)), random.random((number, 2))
    return Predictions(
        {
            "sample": np.array([f"é/\r{row}.jpg" for row in range(number)]),
            "label": np.array([*classes, ""])[random.integers(0, 4, number)],
            "part": np.full(number, "test"),
            "status": status,
            "certain": (random.random(number) < 0.5) & (status == "ok"),
            "subject": np.array([f"s{row % 20}" for row in range(number)]),
            **{f"p:{name}": column for name, column in zip(classes, probabilities.T, strict=True)},
            "valence": random.uniform(-1, 1, number),
            "predicted:valence": random.uniform(-1, 1, number),
            **{name: units[:, place] for place, name in enumerate(("AU1", "AU12"))},
            **{f"p:{name}": predicted[:, place] for place, name in enumerate(("AU1", "AU12"))},
            "group:who, what": np.where(random.random(number) < 0.5, "x", ""),
            "slice:yaw": np.where(random.random(number) < 0.5, np.nan, random.normal(size=number)),
        }
    )


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda text: text.replace("status", "state", 1), {}),
        (lambda text: text.replace(",ok,", ",fine,", 1), {"value": "fine"}),
        (lambda text: text + "half,a,row\n", {"line": 142, "value": 3}),
        (lambda text: re.sub(r"(,ok,\w+,0\.7,\w+,[^,]*,)[0-9.]+", r"\1", text, count=1), {"line": 2}),
        (lambda text: re.sub(r"(,ok,\w+,0\.7,\w+,[^,]*,)[0-9.]+", r"\1much", text, count=1), {"line": 2}),
    ],
)
def test_corrupt_tables(finished: Path, tmp_path: Path, change: Callable[[str], str], facts: dict) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(change((finished / "predictions.csv").read_text()))
    with pytest.raises(DatasetError) as caught:
        read_predictions(path)
    assert caught.value.path == str(path) and vars(caught.value) | facts == vars(caught.value)


def test_a_folder_without_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        Report.read(tmp_path)
    assert caught.value.path == str(tmp_path)
