"""The page: the same bytes from the same files, nothing from elsewhere, everything that was found on it."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.datasets import open_dataset
from mien.errors import DatasetError
from mien.evaluation import evaluate
from mien.report import Report

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    data = open_dataset("synthetic", split="test", number="280")
    groups = {"hair <b>": np.where(np.arange(len(data)) % 2 == 0, "grey & long", "none")}
    named = data.take(np.arange(len(data)))
    object.__setattr__(named, "groups", groups)
    evaluate("mien-base", named, out=out, command=["mien", "evaluate", "mien-base", "--out", "a folder"])
    return out


class Links(HTMLParser):
    """What a page would fetch or run, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")]
        if tag not in ("meta", "img", "br", "hr", "link", "input", "col"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert not links.open and "script" not in links.tags and "link" not in links.tags
    assert all(link.startswith(("data:", "#")) for link in links.found)
    assert not re.search(r"url\((?!['\"]?(#|data:))|@import", text)
    assert "prefers-color-scheme" in text and "@media print" in text and "width=device-width" in text


def test_the_same_files_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for name in ("predictions.csv", "evaluation.json"):
        shutil.copy(folder / name, tmp_path)
    shutil.copytree(folder / "mistakes", tmp_path / "mistakes")
    Report.read(tmp_path).write()
    assert (tmp_path / "report.html").read_bytes() == (folder / "report.html").read_bytes()
    for one in sorted((folder / "figures").glob("*.*")):
        assert (tmp_path / "figures" / one.name).read_bytes() == one.read_bytes(), one.name


def test_the_page_says_what_was_found(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    report = Report.read(folder)
    accuracy = report.figures["official"]["accuracy"]
    assert f"{accuracy['value']:.3f}" in text or f"{100 * accuracy['value']:.1f}" in text
    assert report.about["dataset"]["digest"][:12] in text and report.about["model"]["sha256"][:12] in text
    assert "mien evaluate mien-base --out &#39;a folder&#39;" in text
    assert "hair &lt;b&gt;" in text and "grey &amp; long" in text and "hair <b>" not in text
    for label in report.predictions.classes:
        assert label in text


def test_figures_are_written_for_papers(folder: Path) -> None:
    names = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"confusion", "per_class", "reliability", "risk_coverage"} <= names
    for name in names:
        with Image.open(folder / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 300
        assert (folder / "figures" / f"{name}.svg").stat().st_size and (folder / "figures" / f"{name}.pdf").stat().st_size


def test_mistakes_are_shown_the_surest_first(folder: Path) -> None:
    report = Report.read(folder)
    table = report.predictions
    place = {name: row for row, name in enumerate(table.sample.tolist())}
    shown = [place[each["sample"]] for each in report.about["mistakes"]]
    assert shown and all(table.answer[row] != table.truth[row] for row in shown)
    sure = table.confidence[shown]
    assert (np.diff(sure) <= 0).all()
    wrong = table.answer != table.truth
    assert sure[0] == table.confidence[wrong].max()


def test_pictures_of_others_join(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "red.png")
    report = Report.read(tmp_path / "copy")
    report.add_picture("Where it looks", "surprise", (tmp_path / "red.png").read_bytes(), "Grad-CAM")
    text = report.html()
    assert "Where it looks" in text and "Grad-CAM" in text
    with pytest.raises(ValueError, match="no PNG"):
        report.add_picture("Where it looks", "fear", b"GIF89a")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: "", "lacks the columns"),
        (lambda text: text.replace("sample,", "name,", 1), "lacks the columns sample"),
        (lambda text: text.rsplit(",", 4)[0] + "\n", "cells instead of"),
        (lambda text: re.sub(r"(ok,([^,]*,){4})[^,]*", r"\1many", text, count=1), "no number"),
        (lambda text: re.sub(r"(ok,([^,]*,){4})[^,]*", r"\1", text, count=1), "missing or NaN"),
    ],
)
def test_damaged_tables_are_refused(damage: object, says: str, folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "evaluation.json", tmp_path)
    text = (folder / "predictions.csv").read_text()
    (tmp_path / "predictions.csv").write_text(damage(text))  # type: ignore[operator]
    with pytest.raises(DatasetError, match=says):
        Report.read(tmp_path)


def test_a_folder_without_an_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no finished evaluation"):
        Report.read(tmp_path)
