import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mien.data.preparation import Regions
from mien.errors import UnknownName
from mien.faces.landmarks import Landmarker
from mien.faces.regions import clamp, find_boxes, global_roi_boxes, region_boxes, region_crops
from mien.types import points68


def test_published_boxes(shared):
    faces = json.loads((shared / "golden" / "roi_boxes.json").read_text())
    assert len(faces) == 5
    for face in faces:
        found = global_roi_boxes(np.array(face["landmarks"]))
        assert found == {name: tuple(face[name]) for name in ("eye", "nose", "mouth")}


def face(x=0.0, y=0.0, size=1.0):
    """68 points: a row of brows and eyes above a nose above a mouth."""
    points = np.zeros((68, 2))
    points[17:27] = [[20 + 10 * i, 30] for i in range(10)]
    points[36:48] = [[25 + 8 * i, 45] for i in range(12)]
    points[27:31] = [[65, 40 + 10 * i] for i in range(4)]
    points[31:36] = [[55 + 5 * i, 75] for i in range(5)]
    points[48:60] = [[40 + 4 * i, 95 + i % 6] for i in range(12)]
    points[60:68] = [[50 + 3 * i, 99] for i in range(8)]
    return points * size + [x, y]


def test_published_margins():
    boxes = global_roi_boxes(face())
    assert boxes["eye"] == (17, 27, 116, 51)  # 3 around, 6 below
    assert boxes["nose"] == (50, 36, 80, 79)  # half of each nostril's width beside, 4 above and below
    assert boxes["mouth"] == (34, 89, 90, 106)  # the outer lip alone, 6 around


def test_published_boxes_are_not_clamped():
    assert global_roi_boxes(face(x=-30, y=-40))["eye"][:2] == (-13, -13)


@pytest.mark.parametrize("size", [0.5, 1.0, 3.0])
def test_scaled_boxes_grow_with_the_face(size):
    box = region_boxes(face(size=size), 1000, 1000)["eye"]
    assert np.allclose(
        np.array(box) / size, [66.5 - 46.5 * 1.3, 37.5 - 7.5 * 1.3, 66.5 + 46.5 * 1.3, 37.5 + 7.5 * 1.3], atol=1 / size
    )


@given(st.tuples(*[st.integers(-300, 300)] * 4), st.integers(1, 200), st.integers(1, 200))
def test_clamped_boxes_cut_at_least_a_pixel(box, height, width):
    x0, y0, x1, y1 = clamp(box, height, width)
    assert np.zeros((height, width))[y0:y1, x0:x1].size > 0
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height


def test_clamp_leaves_inner_boxes_alone():
    assert clamp((3, 4, 20, 30), 40, 50) == (3, 4, 20, 30)
    assert clamp((-3, -4, 60, 70), 40, 50) == (0, 0, 50, 40)


def test_crops_are_those_that_are_prepared(sample: Path) -> None:
    """`mien prepare regions --aligned` writes the same regions before they are brought to their size."""
    face = np.asarray(Image.open(sample).convert("RGB"))[40:264, 110:334]
    made = Regions(aligned=True).open()(face)
    assert made.status == "ok"
    boxes = made.facts["boxes"]
    points = points68(Landmarker().crops([face]).points[0].astype(float))
    assert all(np.abs(np.array(boxes[name]) - box).max() <= 12 for name, box in (find_boxes(face, points) or {}).items())
    crops = region_crops(face, points, {"mouth": 90, "eye": 60})
    assert list(crops) == ["mouth", "eye"] and crops["mouth"].shape == (90, 90, 3) and crops["eye"].shape == (60, 60, 3)
    x0, y0, x1, y1 = (find_boxes(face, points) or {})["mouth"]
    wanted = Image.fromarray(face[y0:y1, x0:x1]).resize((90, 90), Image.Resampling.BILINEAR)
    assert np.array_equal(crops["mouth"], np.asarray(wanted))


def test_crops_do_not_depend_on_the_size_of_the_image(sample: Path) -> None:
    face = Image.open(sample).convert("RGB").crop((110, 40, 334, 264))
    points = points68(Landmarker().crops([np.asarray(face)]).points[0].astype(float))
    half = np.asarray(face.resize((112, 112), Image.Resampling.BILINEAR))
    whole, small = (find_boxes(image, p) for image, p in ((np.asarray(face), points), (half, (points + 0.5) / 2 - 0.5)))
    assert whole == small
    pair = [
        region_crops(*each, {"eye": 90})["eye"].astype(float)
        for each in ((np.asarray(face), points), (half, points / 2 - 0.25))
    ]
    assert np.corrcoef(pair[0].ravel(), pair[1].ravel())[0, 1] > 0.97


def test_without_points_regions_are_cut_where_they_lie_on_average() -> None:
    face = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    crops = region_crops(face, None, {"eye": 90, "nose": 90, "mouth": 90})
    assert all(crop.shape == (90, 90) for crop in crops.values())
    collapsed = np.zeros((68, 2)) - 500.0  # all outside: no region is left
    assert find_boxes(face, collapsed) is None
    assert all(
        np.array_equal(crops[name], crop) for name, crop in region_crops(face, collapsed, {"eye": 90, "nose": 90}).items()
    )
    with pytest.raises(UnknownName, match="'ear'"):
        region_crops(face, None, {"ear": 90})
