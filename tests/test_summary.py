"""Summary of videos, blinks and the per-person baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mien
from mien.errors import ConfigError
from mien.inference.baseline import subtract
from mien.inference.summary import Summary, summarize
from mien.types import Pose, Result
from readings import face, reading

BOX = (10, 10, 90, 90)
RATE = 25


def video(lids: Sequence[float], track: int = 1, smile: float = 0.2, source: str = "a.mp4") -> list[Result]:
    """One face with these eyelids, at 25 frames per second."""
    results = []
    for number, value in enumerate(lids):
        shown = face(
            BOX,
            "happiness" if number % 2 else "fear",
            track=track,
            pose=Pose(2, 4, 6, 0, 0, -60),
            blendshapes={"eyeBlinkLeft": value, "eyeBlinkRight": value, "jawOpen": smile + 0.001 * number},
            action_units_estimated={"AU26": 0.5},
        )
        results.append(dataclasses.replace(reading((100, 100), shown, source=source), time=number / RATE, frame=number))
    return results


def test_blinks_have_onset_duration_and_rate() -> None:
    lids = [0.1] * 10 + [0.5, 0.9, 0.6, 0.4] + [0.1] * 20 + [0.8] * 3 + [0.1] * 13 + [0.9] * 20 + [0.1] * 5
    (one,) = summarize(video(lids))
    assert [(blink.onset, blink.duration) for blink in one.blinks] == [
        (pytest.approx(10 / RATE), pytest.approx(4 / RATE)), (pytest.approx(34 / RATE), pytest.approx(3 / RATE)),
    ]  # fmt: skip
    assert one.blink_rate == pytest.approx(2 * 60 / one.seconds)


def test_smoothing_does_not_hide_blinks() -> None:
    raw = video([0.1] * 5 + [0.9] * 3 + [0.1] * 5)
    smoothed = [
        dataclasses.replace(
            result, faces=(dataclasses.replace(one, blendshapes=dict.fromkeys(one.blendshapes or {}, 0.3), unsmoothed=one),)
        )
        for result in raw
        for one in result.faces
    ]
    assert len(summarize(smoothed)[0].blinks) == 1


def test_the_summary_of_a_face() -> None:
    summary = Summary()
    first, second = video([0.1] * 30), video([0.1] * 10, track=2)
    for result in [*first, *(dataclasses.replace(each, time=(each.time or 0) + 5) for each in second)]:
        summary.add(result)
    summary.add(reading((100, 100), face(BOX)))  # an image has no time
    one, other = summary.faces
    assert (one.track, one.frames, one.first, one.last) == (1, 30, 0.0, pytest.approx(29 / RATE))
    assert one.seconds == pytest.approx(29 / RATE) and other.seconds == pytest.approx(9 / RATE) and other.first == 5
    assert one.expressions == {"fear": 0.5, "happiness": 0.5}
    assert (one.pitch, one.yaw, one.roll, one.at_camera) == (2, 4, 6, None)


def test_the_median_of_a_track_is_subtracted() -> None:
    results = [*video([0.1] * 9), *video([0.3] * 5, source="b.mp4", smile=0.7)]
    done = list(subtract(results, "median", mien.load()))
    assert [result.source for result in done] == [result.source for result in results]
    for part in (done[:9], done[9:]):
        jaw = [face.blendshapes["jawOpen"] for result in part for face in result.faces if face.blendshapes]
        assert np.median(jaw) == pytest.approx(0, abs=1e-9) and min(jaw) < 0 < max(jaw)
        assert all(face.action_units_estimated == {"AU26": 0.0} for result in part for face in result.faces)
    assert all(len(result.notes) == 1 for result in done)


def test_the_first_seconds_are_enough_and_later_results_do_not_wait() -> None:
    results = video([0.1] * 40)
    given = subtract(iter(results), "first 0.2 s", mien.load())
    first = next(given)
    assert first.faces[0].blendshapes is not None
    assert first.faces[0].blendshapes["jawOpen"] == pytest.approx(-0.0025, abs=0.001)  # the median of the first six frames
    assert len(list(given)) == 39


@pytest.mark.shared
def test_a_neutral_image_is_the_baseline(shared: Path) -> None:
    folder = shared / "data" / "london" / "images"
    read = mien.load()
    neutral, smiling = folder / "001_03.jpg", folder / "001_08.jpg"
    (before,), (after,) = read(smiling).faces, next(subtract([read(smiling)], str(neutral), read)).faces
    (zero,) = next(subtract([read(neutral)], str(neutral), read)).faces
    assert before.action_units_estimated is not None and after.action_units_estimated is not None
    assert zero.action_units_estimated is not None and set(zero.action_units_estimated.values()) == {0.0}
    own = (read(neutral).faces[0].action_units_estimated or {})["AU12"]
    assert after.action_units_estimated["AU12"] == pytest.approx(before.action_units_estimated["AU12"] - own)


def test_invalid_baselines(tmp_path: Path) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "wall.png")
    for kind in ("mean", "first s", str(tmp_path / "wall.png")):
        with pytest.raises(ConfigError) as refused:
            list(subtract([], kind, mien.load()))
        assert kind in (refused.value.value, refused.value.path)
