"""What a drawn result shows, on large, small, crowded and empty images."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien import draw
from mien.labels import AFFECTNET8, AFFWILD2, FERPLUS
from mien.metrics.boxes import intersection
from mien.visualization.faces import COLORS, DARK, TEXT, UNCERTAIN, UNKNOWN, Bars, Label, arrange, color
from readings import LABELS, SOLVAY, face, mesh, reading

GRAY = (120, 120, 120)
BOX = (40, 30, 100, 110)


def blank(width: int, height: int, ink: tuple[int, int, int] = GRAY) -> Image.Image:
    return Image.new("RGB", (width, height), ink)


def boxes(*faces: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(faces, float)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((4000, 3000), (4000, 3000)), ((600, 800), (600, 800)), ((720, 400), (720, 400)), ((719, 400), (1438, 800)),
        ((512, 512), (1024, 1024)), ((300, 200), (900, 600)), ((48, 48), (720, 720)), ((1, 1), (16, 16)),
    ],
)  # fmt: skip
def test_small_images_are_enlarged_by_a_whole_number(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    width, height = size
    shown = face((width * 0.3, height * 0.2, width * 0.6, height * 0.7))
    assert draw(blank(*size), reading(size, shown)).size == wanted
    assert draw(blank(*size), reading(size)).size == wanted


def test_an_image_too_small_for_words_gets_none() -> None:
    assert (np.asarray(draw(blank(1, 1), reading((1, 1)))) == GRAY).all()
    assert (np.asarray(draw(blank(48, 48), reading((48, 48)))) != GRAY).any()


def test_the_image_given_stays_as_it_was() -> None:
    for width in (200, 900):
        image = np.full((200, width, 3), 90, np.uint8)
        drawn = np.asarray(draw(image, reading((width, 200), face(BOX))))
        assert (image == 90).all() and (drawn != 90).any()


def test_a_result_of_another_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"640×480.*300×200"):
        draw(blank(300, 200), reading((640, 480), face(BOX)))


def test_the_box_lies_where_the_face_is() -> None:
    shown = face((1000, 800, 1400, 1300))
    drawn = np.asarray(draw(blank(3000, 2000), reading((3000, 2000), shown)))
    for x, y in ((1000, 1050), (1400, 1200), (1200, 1300)):
        assert tuple(drawn[y, x]) == COLORS["happiness"]
    assert tuple(drawn[1000, 1200]) == GRAY  # the face itself is not painted over


def test_the_box_is_enlarged_with_the_image() -> None:
    drawn = np.asarray(draw(blank(300, 200), reading((300, 200), face(BOX))))  # three times
    assert tuple(drawn[210, 120]) == COLORS["happiness"]
    assert tuple(drawn[210, 60]) == GRAY


def test_an_uncertain_face_is_dashed_gray_and_named_so() -> None:
    sure, unsure = face((1000, 800, 1400, 1300)), face((1000, 800, 1400, 1300), confidence=0.4)
    solid, dashed = (np.asarray(draw(blank(3000, 2000), reading((3000, 2000), one)))[900:1200, 1000] for one in (sure, unsure))
    assert (solid == COLORS["happiness"]).all()
    inked, gaps = (dashed == UNCERTAIN).all(1), (dashed == GRAY).all(1)
    assert 0.4 < inked.mean() < 0.8 and gaps.mean() > 0.1
    assert color(unsure) == UNCERTAIN and color(sure) == COLORS["happiness"]
    assert Label(unsure, 20).name == "uncertain: happiness" and Label(sure, 20).name == "happiness"
    assert Bars(unsure, 20).title == "uncertain: happiness" and Bars(unsure, 20).share == ""


def test_bars_stand_in_the_order_of_the_card() -> None:
    assert [name for name, _ in Bars(face(BOX), 20).rows] == list(LABELS)
    many = {f"class{i:02}": (i + 1) / 55 for i in range(10)}
    likely = max(many, key=lambda name: many[name])
    shown = Bars(dataclasses.replace(face(BOX), scores=many, label=likely, confidence=many[likely]), 20).rows
    assert [name for name, _ in shown] == [f"class{i:02}" for i in range(2, 10)]  # the two least likely are left out


def test_longer_bars_mean_more() -> None:
    """Count the pixels in each class's color: happiness at 60 %, the others at 6.7 % each."""
    drawn = np.asarray(draw(blank(3000, 2000), reading((3000, 2000), face((300, 300, 700, 800), confidence=0.6))))
    panel = drawn[:, 720:]
    inked = {name: int((panel == COLORS[name]).all(-1).sum()) for name in LABELS}
    others = [inked[name] for name in LABELS if name != "happiness"]
    assert min(others) > 0 and max(others) < 1.1 * min(others)
    assert 3 < inked["happiness"] / max(others) < 9


def test_few_faces_get_bars_a_crowd_gets_labels() -> None:
    one, _ = arrange([face(BOX)], boxes((400, 300, 600, 560)), (1600, 1200))
    assert isinstance(one[0], Bars)
    apart = [(x, y, x + 200, y + 240) for x in (500, 2000, 3500) for y in (400, 1400, 2400)]
    nine, _ = arrange([face(box) for box in apart], boxes(*apart), (4000, 3000))
    assert all(isinstance(plate, Label) for plate in nine)
    crowd, found = arrange([face(box) for box in SOLVAY], boxes(*SOLVAY), (1600, 806))
    assert all(isinstance(plate, Label) for plate in crowd)
    assert np.triu(intersection(found.plates[:, None], found.plates), 1).sum() == 0
    assert intersection(found.plates[:, None], boxes(*SOLVAY)).sum() == 0


def test_the_largest_faces_keep_their_bars_when_room_is_short() -> None:
    faces = [(20, 400, 320, 780), *((400 + 70 * i, 20 + 60 * (i % 2), 440 + 70 * i, 70 + 60 * (i % 2)) for i in range(5))]
    plates, found = arrange([face(box) for box in faces], boxes(*faces), (800, 800))
    assert isinstance(plates[0], Bars)
    assert any(isinstance(plate, Label) for plate in plates) and found.clean.all()


def test_a_close_up_keeps_its_eyes_nose_and_mouth_free() -> None:
    close = (20, 10, 580, 790)
    plates, found = arrange([face(close)], boxes(close), (600, 800))
    assert isinstance(plates[0], Bars)
    assert intersection(found.plates[:, None], boxes((150, 250, 450, 700))).sum() == 0


def test_text_stays_readable_on_any_size() -> None:
    """Text is at least 10 pixels high, and at least a hundredth of the image's side."""
    for width, height in ((720, 720), (1600, 806), (4000, 3000), (8000, 1000)):
        side = (width * height) ** 0.5
        for scale in (0.02, 0.1, 0.5):
            box = (100, 100, 100 + scale * height, 100 + scale * height)
            for count in (1, 8):
                plates, _ = arrange([face(box)] * count, boxes(*[box] * count), (width, height))
                assert all(plate.em >= max(10, side / 100) for plate in plates)


@pytest.mark.parametrize("name", ["no face", "a face outside", "a face without area", "a face over all", "a sliver"])
def test_odd_images_are_drawn(name: str) -> None:
    size, shown = {
        "no face": ((300, 200), []),
        "a face outside": ((300, 200), [face((400, 300, 500, 400)), face((-90, -90, -20, -20))]),
        "a face without area": ((300, 200), [face((50, 50, 50, 50))]),
        "a face over all": ((300, 200), [face((-50, -50, 400, 300))]),
        "a sliver": ((2000, 3), [face((50, 0, 53, 3))]),
    }[name]
    drawn = np.asarray(draw(blank(*size), reading(size, *shown)))
    assert (drawn != GRAY).any()


def test_no_face_is_said_in_a_corner() -> None:
    drawn = np.asarray(draw(blank(1600, 1200), reading((1600, 1200)))).astype(int)
    rows, columns = np.nonzero((drawn != GRAY).any(-1))
    assert rows.min() > 1100 and columns.max() < 400
    assert (drawn == TEXT).all(-1).any()


def test_mesh_points_are_drawn_on_request() -> None:
    for box, inked in (((300, 200, 700, 700), 478), ((300, 200, 400, 320), 68)):
        shown = reading((1000, 1000), face(box, points=mesh(box)))
        without, with_points = (np.asarray(draw(blank(1000, 1000), shown, layers=layers)) for layers in ((), ("mesh",)))
        changed = (without != with_points).any(-1)
        rows, columns = np.nonzero(changed)
        assert changed.sum() > inked and rows.min() > box[1] - 10 and columns.max() < box[2] + 10
    assert draw(blank(1000, 1000), reading((1000, 1000), face(BOX)), layers=("pose", "gaze", "mesh")).size == (1000, 1000)


def test_every_basic_expression_has_a_color() -> None:
    assert {*FERPLUS, *AFFECTNET8, *AFFWILD2} == set(COLORS)
    assert color(dataclasses.replace(face(BOX), label="delight")) == UNKNOWN


VISION = {
    "usual": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}
"""Linear RGB as seen: Machado, Oliveira and Fernandes, A physiologically-based model for simulation of color vision deficiency
(2009), severity 1."""


@pytest.mark.parametrize("vision", VISION)
def test_colors_keep_apart_for_every_kind_of_sight(vision: str) -> None:
    """CIE 1976 distance of each pair, 2.3 being just noticeable."""
    seen = {name: _lab(VISION[vision] @ _linear(ink)) for name, ink in COLORS.items()}
    distances = {(a, b): np.linalg.norm(seen[a] - seen[b]) for a, b in itertools.combinations(seen, 2)}
    assert min(distances.values()) > 14, min(distances, key=lambda pair: distances[pair])


def test_colors_stand_out_from_plates() -> None:
    """WCAG 2.2: 3:1 for graphics, 4.5:1 for text."""
    for name, ink in COLORS.items():
        assert _contrast(ink, DARK) > 4, name
    assert _contrast(TEXT, DARK) > 4.5 and _contrast(UNCERTAIN, DARK) > 4.5


def _linear(ink: tuple[int, int, int]) -> np.ndarray:
    share = np.array(ink) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear.clip(0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    bright, dim = sorted((float(_linear(ink) @ [0.2126, 0.7152, 0.0722]) for ink in (one, other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_no_font_of_the_system_is_needed(tmp_path: Path) -> None:
    """With every font folder pointed at an empty one, the same image comes out."""
    code = """
import sys
from PIL import Image
from readings import face, reading
from mien import draw
draw(Image.new("RGB", (300, 200), (120, 120, 120)), reading((300, 200), face((40, 30, 100, 110)))).save(sys.argv[1])
"""
    empty, drawn = tmp_path / "empty", tmp_path / "drawn.png"
    empty.mkdir()
    settings = {"HOME": str(empty), "XDG_DATA_HOME": str(empty), "XDG_DATA_DIRS": str(empty), "WINDIR": str(empty)}
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run([sys.executable, "-c", code, drawn], check=True, env={**os.environ, **settings, "PYTHONPATH": path})
    here = draw(blank(300, 200), reading((300, 200), face(BOX)))
    assert np.array_equal(np.asarray(Image.open(drawn)), np.asarray(here))
