"""Files of results: whole or not at all, and read back as what was written."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mien.errors import ConfigError
from mien.inference.options import Options
from mien.inference.results import Csv, JsonLines, check_rows, columns, json_line
from mien.types import Group, Pose, Result
from mien.visualization.annotated import MARK, AnnotatedCopies
from readings import LABELS, face, mesh, reading

BOX = (10, 20, 50.126, 80)
PARTY = reading((640, 480), face(BOX), face((100, 20, 150, 90), "fear", 0.375, valence=-0.5, track=2), source="party.jpg")
EMPTY = reading((30, 20), source="wall.png")
BROKEN = Result("broken.jpg", 0, 0, (), "unreadable", "mien-base 1", message='"broken.jpg" is cut short,\nsay "no"')


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def test_json_lines_give_the_results_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "faces.jsonl"
    with JsonLines(path, points="68") as sink:
        for result in (PARTY, EMPTY, BROKEN, reading((9, 9), face(BOX, points=mesh(BOX)))):
            sink.write(result)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines[:3]] == [PARTY.to_dict(), EMPTY.to_dict(), BROKEN.to_dict()]
    assert len(json.loads(lines[3])["faces"][0]["points"]) == 68
    assert list(path.parent.iterdir()) == [path]


def test_csv_has_a_row_for_each_face_and_each_image_without(tmp_path: Path) -> None:
    path = tmp_path / "faces.csv"
    with Csv(path, LABELS) as sink:
        for result in (PARTY, EMPTY, BROKEN):
            sink.write(result)
    rows = rows_of(path)
    assert list(rows[0]) == list(columns(LABELS))
    assert [(row["source"], row["status"], row["face"]) for row in rows] == [
        ("party.jpg", "ok", "1"), ("party.jpg", "ok", "2"), ("wall.png", "no face", ""), ("broken.jpg", "unreadable", ""),
    ]  # fmt: skip
    first, second, none, broken = rows
    assert (first["left"], first["right"], first["certain"], first["confidence"]) == ("10.00", "50.13", "true", "0.900000")
    assert (first["valence"], first["track"], first["time"]) == ("", "", "")
    assert (second["valence"], second["track"], second["certain"], second["label"]) == ("-0.500000", "2", "false", "fear")
    for row, one in zip(rows, PARTY.faces, strict=False):
        assert {label: float(row[f"score_{label}"]) for label in LABELS} == pytest.approx(dict(one.scores), abs=1e-6)
    assert {none[key] for key in none if key not in ("source", "status", "width", "height", "model")} == {""}
    assert (none["width"], broken["message"]) == ("30", BROKEN.message)


def test_a_byte_order_mark_on_request(tmp_path: Path) -> None:
    with Csv(tmp_path / "a.csv", LABELS, bom=True) as sink:
        sink.write(EMPTY)
    data = (tmp_path / "a.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfsource,") and data.decode("utf-8-sig").splitlines()[1].startswith("wall.png")


def test_groups_choose_the_columns_of_every_format(tmp_path: Path) -> None:
    pose, points = Pose(1, 2, 3, 0, 0, -60), mesh(BOX)
    result = reading((640, 480), face(BOX, points=points, pose=pose, blendshapes={"jawOpen": 0.5}))
    groups: tuple[Group, ...] = ("pose", "landmarks68")
    with Csv(tmp_path / "a.csv", LABELS, groups) as table, JsonLines(tmp_path / "a.jsonl", groups=groups) as lines:
        table.write(result)
        lines.write(result)
    (row,) = rows_of(tmp_path / "a.csv")
    assert float(row["pose_yaw"]) == 2 and "label" not in row and "blendshape_jawOpen" not in row
    assert float(row["x_30"]) == pytest.approx(points[4, 0], abs=0.01)
    stored = json.loads((tmp_path / "a.jsonl").read_text())["faces"][0]
    assert stored["pose"]["yaw"] == 2 and stored["blendshapes"] is None and stored["label"] == "happiness"


def test_landmarks_of_the_json_follow_the_columns() -> None:
    assert Options(columns=("pose", "mesh")).landmarks == "all" and Options(columns=("pose",)).landmarks == "5"
    assert Options(points="68").groups[-1] == "landmarks68" and "blendshapes" not in Options(blendshapes=False).groups
    assert not set(Options(blendshapes=False, columns=("blendshapes",)).groups)


def test_the_columns_of_trained_units_replace_the_estimated_ones(tmp_path: Path) -> None:
    result = reading((640, 480), face(BOX, action_units={"AU12": 0.75}))
    with Csv(tmp_path / "a.csv", LABELS, ["units"], units=True) as table:
        table.write(result)
    (row,) = rows_of(tmp_path / "a.csv")
    assert row["unit_AU12"] == "0.750000" and not [name for name in row if name.startswith("estimated_")]


def test_csv_is_rfc_4180(tmp_path: Path) -> None:
    path = tmp_path / "faces.csv"
    with Csv(path, LABELS) as sink:
        sink.write(BROKEN)
    data = path.read_bytes()
    assert data.endswith(b"\r\n") and not data.startswith(b"\xef\xbb\xbf")
    assert b'"""broken.jpg"" is cut short,\nsay ""no"""' in data


@pytest.mark.parametrize("name", ["=1+2.jpg", "+1.jpg", "-1.jpg", "@SUM(A1).jpg", "\tx.jpg", "\rx.jpg"])
def test_no_name_becomes_a_formula(tmp_path: Path, name: str) -> None:
    with Csv(tmp_path / "a.csv", LABELS) as table, JsonLines(tmp_path / "a.jsonl") as lines:
        for sink in (table, lines):
            sink.write(reading((30, 20), source=name))
    assert rows_of(tmp_path / "a.csv")[0]["source"] == f"'{name}"
    assert json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8"))["source"] == name


@given(st.text(min_size=1))
def test_any_name_comes_back(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("names")
    result = reading((30, 20), source=name)
    with Csv(folder / "a.csv", LABELS) as table, JsonLines(folder / "a.jsonl") as lines:
        for sink in (table, lines):
            sink.write(result)
    assert json.loads((folder / "a.jsonl").read_bytes()) == result.to_dict()
    assert rows_of(folder / "a.csv")[0]["source"] == (f"'{name}" if name[0] in "=+-@\t\r" else name)


def test_a_name_that_is_no_utf_8_is_written_as_escapes(tmp_path: Path) -> None:
    """AnnotatedCopies escape such names already; the sinks must not fail on a result made elsewhere."""
    stray = os.fsdecode(b"caf\xe9.jpg")
    with Csv(tmp_path / "a.csv", LABELS) as table, JsonLines(tmp_path / "a.jsonl") as lines:
        for sink in (table, lines):
            sink.write(reading((30, 20), source=stray))
    assert json.loads((tmp_path / "a.jsonl").read_bytes())["source"] == stray
    assert rows_of(tmp_path / "a.csv")[0]["source"] == r"caf\udce9.jpg"


def test_an_error_keeps_the_old_file_and_the_rows_so_far(tmp_path: Path) -> None:
    path = tmp_path / "faces.jsonl"
    path.write_text("old")
    with pytest.raises(RuntimeError), JsonLines(path) as sink:
        sink.write(PARTY)
        raise RuntimeError
    assert path.read_text() == "old"
    assert (tmp_path / "faces.jsonl.part").read_text(encoding="utf-8") == json_line(PARTY)
    with JsonLines(path) as sink:  # the next run begins a new file
        sink.write(EMPTY)
    assert path.read_text(encoding="utf-8") == json_line(EMPTY)
    assert [entry.name for entry in tmp_path.iterdir()] == ["faces.jsonl"]


@pytest.mark.skipif(os.name == "nt", reason="kills with a POSIX signal")
def test_a_killed_run_leaves_whole_rows(tmp_path: Path) -> None:
    """The process is killed with no chance to flush, right after its third row."""
    code = """
import os, signal, sys
from mien.inference.results import JsonLines
from readings import face, mesh, reading
sinks = JsonLines(sys.argv[1] + "/short.jsonl"), JsonLines(sys.argv[1] + "/long.jsonl", points="all")
for number in range(3):
    for sink in sinks:
        sink.write(reading((9, 9), face((1, 2, 5, 8), points=mesh((1, 2, 5, 8))), source=f"{number}.jpg"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": path})
    assert run.returncode == -signal.SIGKILL
    for name in ("short", "long"):  # shorter and longer than a buffer
        lines = (tmp_path / f"{name}.jsonl.part").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["source"] for line in lines] == ["0.jpg", "1.jpg", "2.jpg"]


@pytest.mark.parametrize("kind", [JsonLines, lambda path: Csv(path, LABELS), AnnotatedCopies])
def test_places_that_cannot_be_written_are_said(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as refused:
        kind(tmp_path / "file" / "below")
    assert refused.value.path == str(tmp_path / "file" / "below")
    if kind is not AnnotatedCopies:
        with pytest.raises(ConfigError) as refused:
            kind(tmp_path)
        assert refused.value.path == str(tmp_path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with sub-folders and names that clash once all become PNG or JPEG."""
    folder = tmp_path / "photos"
    for name in ("a.jpg", "a.png", "a.webp", "deep/a.jpg", "deep/er/B.JPEG", "deep/c.bmp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (120, 90, 60)).save(folder / name)
    return folder


def annotate(photos: Path, into: Path) -> dict[str, str]:
    """Annotate every image; image → where it went, both relative to their folders."""
    with AnnotatedCopies(into, roots=[photos]) as sink:
        went = {}
        for path in sorted(path for path in photos.rglob("*") if path.is_file()):
            with Image.open(path) as image:
                result = reading(image.size, face((10, 5, 30, 30)), source=str(path))
            written = sink.write(path, result)
            assert written is not None
            went[path.relative_to(photos).as_posix()] = written.relative_to(into).as_posix()
    return went


def test_annotated_images_keep_their_folders(photos: Path, tmp_path: Path) -> None:
    wanted = {
        "a.jpg": "a.jpg", "a.png": "a.png", "a.webp": "a-2.png", "deep/a.jpg": "deep/a.jpg",
        "deep/er/B.JPEG": "deep/er/B.JPEG", "deep/c.bmp": "deep/c.png",
    }  # fmt: skip
    into = tmp_path / "annotated"
    assert annotate(photos, into) == wanted
    written = {path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()}
    assert written == set(wanted.values())  # and nothing half-written beside them
    for name in written:
        with Image.open(into / name) as image:
            image.load()
            assert image.size == (60 * 12, 40 * 12) and image.getexif()[0x0131] == MARK
            assert image.format == ("PNG" if name.endswith("png") else "JPEG")
    assert annotate(photos, into) == wanted  # a second run replaces what the first one wrote


def test_inputs_are_never_overwritten(photos: Path) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    went = annotate(photos, photos)
    assert went["a.jpg"] == "a-2.jpg" and went["a.png"] == "a-2.png" and went["a.webp"] == "a-3.png"
    assert {path: path.read_bytes() for path in before} == before


def test_images_without_a_place_get_a_name(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 40))
    sources = ["<array>", "<array>", "https://example.org/a/team%20one.jpg?size=2", "https://example.org/", "/else/where/x.gif"]
    with AnnotatedCopies(tmp_path) as sink:
        paths = [sink.write(image, reading((60, 40), source=source)) for source in sources]
    assert [path.name for path in paths if path] == ["image.png", "image-2.png", "team_one.jpg", "image-3.png", "x.png"]


def test_names_from_outside_stay_in_the_folder(tmp_path: Path) -> None:
    into, image = tmp_path / "into", Image.new("RGB", (60, 40))
    with AnnotatedCopies(into, roots=[tmp_path / "photos"]) as sink:
        for source in ("https://example.org/..%2F..%2Fx.png", "https://example.org/..", "../../y.png", "/etc/z.png"):
            path = sink.write(image, reading((60, 40), source=source))
            assert path is not None and path.resolve().parent == into.resolve() and not path.name.startswith(".")


@pytest.mark.parametrize("source", ["https://example.org/" + "ä" * 300 + ".jpg?size=2", "/photos/" + "名" * 83 + ".webp"])
def test_names_that_no_file_can_have_are_cut(source: str, tmp_path: Path) -> None:
    image, result = Image.new("RGB", (60, 40)), reading((60, 40), source=source)
    with AnnotatedCopies(tmp_path) as sink:
        paths = [sink.write(image, result) for _ in range(2)]
    assert sorted(filter(None, paths)) == sorted(tmp_path.iterdir()) and len({*paths}) == 2


def test_what_could_not_be_read_is_not_drawn(tmp_path: Path) -> None:
    with AnnotatedCopies(tmp_path / "into") as sink:
        assert sink.write("broken.jpg", BROKEN) is None
    assert list((tmp_path / "into").iterdir()) == []


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Image.Image, path: Path, *__: Any, **___: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with AnnotatedCopies(tmp_path) as sink, pytest.raises(ConfigError, match=os.strerror(28)):
        sink.write(np.zeros((40, 60, 3), np.uint8), reading((60, 40), source="<array>"))
    assert list(tmp_path.iterdir()) == []


def test_an_error_before_the_first_row_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), JsonLines(tmp_path / "faces.jsonl"), Csv(tmp_path / "faces.csv", LABELS):
        1 / 0  # noqa: B018
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_files_of_others_are_not_replaced(kind: str, tmp_path: Path) -> None:
    photo, other, ours = tmp_path / "photo.jpg", tmp_path / f"notes.{kind}", tmp_path / f"ours.{kind}"
    photo.write_bytes(b"photo")
    other.write_text("my notes\n")
    with Csv(ours, LABELS) if kind == "csv" else JsonLines(ours) as sink:
        sink.write(PARTY)
    for path, overwrite in ((photo, True), (photo, False), (other, False)):
        with pytest.raises(ConfigError) as caught:
            check_rows(path, kind, overwrite=overwrite)
        assert caught.value.path == str(path)
    with pytest.raises(ConfigError):
        check_rows(other, kind, inputs=[str(other)], overwrite=True)
    for path, overwrite in ((other, True), (ours, False), (tmp_path / f"new.{kind}", False)):
        check_rows(path, kind, overwrite=overwrite)
