"""Smoothing over time, against means written out in full."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mien.errors import ConfigError, UnknownName
from mien.inference.smoothing import open_smoother
from mien.types import Result
from readings import LABELS, face, mesh, reading

TIMES = np.cumsum([0.0, 0.04, 0.04, 0.01, 0.1, 0.04, 0.04, 0.02, 0.04, 0.12, 0.04, 0.04])
WINDOW = 0.2


def video(track: int = 1) -> list[Result]:
    """One face whose probabilities, points, affect and box vary from frame to frame."""
    random, results = np.random.default_rng(track), []
    for number, time in enumerate(TIMES.tolist()):
        weights = random.dirichlet(np.ones(len(LABELS)))
        scores = dict(zip(LABELS, weights.tolist(), strict=True))
        label = max(scores, key=lambda name: scores[name])
        shown = face((100 + number, 50, 180 + number, 130), label, track=track, points=mesh((100, 50, 180, 130), number))
        shown = dataclasses.replace(
            shown,
            scores=scores,
            confidence=scores[label],
            valence=float(random.uniform(-1, 1)),
            blendshapes={"jawOpen": scores["fear"]},
        )
        results.append(dataclasses.replace(reading((640, 480), shown), time=time))
    return results


def smooth(kind: str, results: list[Result], threshold: float = 0.0) -> list[Result]:
    smoother, done = open_smoother(kind, WINDOW, threshold), []
    for number, result in enumerate(results):
        done += smoother.push(number, result)
    done += smoother.close()
    assert [number for number, _ in done] == list(range(len(results)))
    return [result for _, result in done]


def weights(kind: str) -> np.ndarray:
    """(T, T) row by row what each frame counts, by the definitions."""
    apart = TIMES[None] - TIMES[:, None]
    if kind == "ema":
        table = np.zeros((len(TIMES), len(TIMES)))
        table[0, 0] = 1
        for now in range(1, len(TIMES)):
            share = 1 - np.exp(-2 * (TIMES[now] - TIMES[now - 1]) / WINDOW)
            table[now] = (1 - share) * table[now - 1]
            table[now, now] += share
        return table
    near = np.abs(apart) <= WINDOW / 2 + 1e-6
    table = near * (1.0 if kind == "box" else np.exp(-0.5 * (apart / (WINDOW / 4)) ** 2))
    return table / table.sum(1, keepdims=True)


@pytest.mark.parametrize("kind", ["ema", "box", "gaussian"])
def test_means_are_as_defined(kind: str) -> None:
    raw, table = video(), weights(kind)
    done = smooth(kind, raw)
    scores = np.array([list(result.faces[0].scores.values()) for result in raw])
    valence = np.array([result.faces[0].valence for result in raw])
    left = np.array([result.faces[0].box.left for result in raw])
    points = np.array([result.faces[0].points for result in raw])
    found = [result.faces[0] for result in done]
    assert np.array([list(one.scores.values()) for one in found]) == pytest.approx(table @ scores)
    assert np.array([one.valence for one in found]) == pytest.approx(table @ valence)
    assert np.array([one.box.left for one in found]) == pytest.approx(table @ left)
    wanted = np.einsum("ts,spc->tpc", table, points)
    assert np.array([one.points for one in found]) == pytest.approx(wanted, rel=1e-5)
    for one, before in zip(found, raw, strict=True):
        assert sum(one.scores.values()) == pytest.approx(1)
        assert one.label == max(one.scores, key=lambda name: one.scores[name]) and one.confidence == one.scores[one.label]
        assert one.blendshapes == pytest.approx({"jawOpen": one.scores["fear"]})
        assert one.unsmoothed == before.faces[0]


def test_certain_is_computed_from_smoothed_scores() -> None:
    for result in smooth("box", video(), threshold=0.35):
        assert result.faces[0].certain == (result.faces[0].confidence >= 0.35)


@pytest.mark.parametrize("kind", ["ema", "box", "gaussian"])
def test_nothing_is_averaged_across_faces_gaps_and_jumps(kind: str) -> None:
    first, second = video(1), video(2)
    both = [dataclasses.replace(a, faces=(*b.faces, *a.faces)) for a, b in zip(first, second, strict=True)]
    alone, together = smooth(kind, first), smooth(kind, both)
    assert [result.faces[0] for result in alone] == [result.faces[1] for result in together]
    moved = face(
        (400, 50, 480, 130), "anger", track=1, points=mesh((400, 50, 480, 130)), valence=0.0, blendshapes={"jawOpen": 0.0}
    )
    for time, box in ((TIMES[-1] + 0.02, moved), (TIMES[-1] + 5, first[-1].faces[0])):
        later = dataclasses.replace(first[-1], time=float(time), faces=(box,))
        last = smooth(kind, [*first, later])[-1].faces[0]
        assert last.scores == pytest.approx(box.scores)


def test_faces_long_gone_are_forgotten() -> None:
    """A camera runs for months: who was there once is not remembered for ever, and who is there stays one stretch."""
    from mien.inference.smoothing import _Stretches

    stretches = _Stretches(gap=0.5)
    stays = face((50, 50, 130, 130), "anger", track=1)
    for number in range(1500):
        passing = face((400, 50, 480, 130), "anger", track=2 + number)
        result = dataclasses.replace(reading((640, 480)), time=number * 0.1, faces=(stays, passing))
        assert stretches(result) == [(1, 0), (2 + number, 0)]
    assert len(stretches._last) < 1000


def test_frames_without_faces_stay_as_they_are() -> None:
    empty = [dataclasses.replace(reading((640, 480)), time=number / 25) for number in range(4)]
    assert smooth("gaussian", empty) == empty and empty[0].status == "no face"


def test_senseless_options() -> None:
    with pytest.raises(UnknownName):
        open_smoother("boxes")
    with pytest.raises(ConfigError) as refused:
        open_smoother("ema", 0)
    assert refused.value.value == 0
