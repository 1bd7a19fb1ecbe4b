"""Timelines as files."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mien.errors import ConfigError, MissingExtra
from mien.labels import BLENDSHAPES
from mien.types import Gaze, Pose, Result
from mien.visualization.timeline import WIDEST, Timeline
from readings import face, reading

BOX = (10, 10, 60, 60)


def video(count: int = 40) -> list[Result]:
    """Face 1 smiles more and more and is gone for a while; face 2 comes late."""
    results = []
    for number in range(count):
        blendshapes = dict.fromkeys(BLENDSHAPES, 0.0) | {"mouthSmileLeft": number / count, "jawOpen": 0.5}
        one = face(BOX, "happiness", 0.5 + number / (3 * count), track=1, blendshapes=blendshapes, valence=0.1, arousal=-0.3)
        two = face((80, 10, 130, 60), "fear", 0.9, track=2, blendshapes=blendshapes, valence=0.0, arousal=0.0)
        shown = ([] if 10 <= number < 20 else [one]) + ([two] if number >= 30 else [])
        results.append(dataclasses.replace(reading((640, 480), *shown, source="<b>clip.mp4"), time=number / 25))
    return results


def filled() -> Timeline:
    timeline = Timeline()
    for result in video():
        timeline.add(result)
    return timeline


def test_formats(tmp_path: Path) -> None:
    for suffix in (".png", ".svg", ".html"):
        filled().save(tmp_path / f"deep/clip{suffix}")
    image = np.asarray(Image.open(tmp_path / "deep/clip.png").convert("RGB")).reshape(-1, 3)
    assert len(np.unique(image, axis=0)) > 100
    ElementTree.parse(tmp_path / "deep/clip.svg")
    page = (tmp_path / "deep/clip.html").read_text()
    assert page.count("<svg") == 2 and "&lt;b&gt;clip.mp4" in page and "<b>clip" not in page
    assert not re.search(r"""(src|href)=["']https?:""", page) and "<script" not in page
    assert not list(tmp_path.glob("**/*.part"))


def test_gaps_stay_empty_and_values_are_kept() -> None:
    timeline = filled()
    line = timeline._lines["<b>clip.mp4", 1]
    times, values = line.table(np.array(timeline._frames["<b>clip.mp4"]))
    for column in values.values():
        assert np.isnan(column[10:20]).all() and np.isfinite(np.delete(column, range(10, 20), 0)).all()
    happiness = values["scores"][:, line.names["scores"].index("happiness")]
    assert happiness[30] == pytest.approx(0.5 + 30 / 120) and times[30] == pytest.approx(1.2)


def test_long_videos_are_thinned_out() -> None:
    timeline = Timeline()
    one = face(BOX, track=1)
    for number in range(4000):
        timeline.add(dataclasses.replace(reading((64, 48), one), time=number / 25))
    times, values = timeline._lines["photo.jpg", 1].table(np.array(timeline._frames["photo.jpg"]))
    assert len(times) == len(values["scores"]) <= WIDEST and values["scores"][:, 3] == pytest.approx(0.9)


def test_nothing_to_show(tmp_path: Path) -> None:
    timeline = Timeline()
    timeline.add(reading((64, 48), face(BOX)))  # an image has no time
    timeline.save(tmp_path / "none.png")
    timeline.save(tmp_path / "none.html")
    assert "No face found" in (tmp_path / "none.html").read_text()


def test_the_same_video_again(tmp_path: Path) -> None:
    timeline = filled()
    for result in video(20):
        timeline.add(result)
    timeline.save(tmp_path / "clip.html")
    page = (tmp_path / "clip.html").read_text()
    assert "40 frames, " in page and "clip.mp4 (2)</h2><p>20 frames, " in page and page.count("<svg") == 3


def test_frames_of_one_moment(tmp_path: Path) -> None:
    timeline = Timeline()
    for _ in range(2):
        timeline.add(dataclasses.replace(reading((64, 48), face(BOX, track=1)), time=1.0))
    timeline.save(tmp_path / "clip.png")


def test_unsmoothed_values_and_missing_measures(tmp_path: Path) -> None:
    """A model without valence and results without blendshapes give fewer strips; values of single frames are drawn paler."""
    timeline = Timeline()
    for number in range(5):
        alone = face(BOX, "happiness", 0.3 + 0.1 * number, track=1)
        one = dataclasses.replace(face(BOX, "happiness", 0.5, track=1), unsmoothed=alone)
        timeline.add(dataclasses.replace(reading((64, 48), one), time=number / 25))
    timeline.save(tmp_path / "one.svg")
    text = (tmp_path / "one.svg").read_text()
    assert "stroke-opacity: 0.35" in text and "valence" not in text and "mouthSmileLeft" not in text
    with pytest.raises(ConfigError, match=r"below\.svg"):
        timeline.save(tmp_path / "one.svg" / "below.svg")


def test_invalid_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"\.png, \.svg, \.pdf, \.html"):
        filled().save(tmp_path / "clip.gif")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"mien\[eval\]"):
        filled().save(tmp_path / "clip.png")


def test_pose_gaze_and_units_have_strips(tmp_path: Path) -> None:
    """A blink leaves a gap in the gaze; the units that vary most are named."""
    timeline = Timeline()
    for number in range(20):
        gaze = None if number == 10 else Gaze(5.0, 2.0, 0.0, 0.0, 5.0, True, None, None)
        units = {"AU12": 0.05 * number, "AU12_left": 0.0, "AU1": 0.1}
        pose = Pose(10.0, -30.0, 0.0, 0, 0, -60)
        shown = face((10, 10, 50, 50), track=1, pose=pose, gaze=gaze, action_units_estimated=units)
        timeline.add(dataclasses.replace(reading((640, 480), shown, source="clip.mp4"), time=number / 25))
    timeline.save(tmp_path / "clip.svg")
    drawn = (tmp_path / "clip.svg").read_text(encoding="utf-8")
    assert (
        all(f"<!-- {name} -->" in drawn for name in ("pose yaw", "gaze pitch", "AU12", "degrees")) and "AU12_left" not in drawn
    )
