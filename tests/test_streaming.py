"""Videos read as streams: the same numbers as image by image, ids that hold, few searches, and nothing invented."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import threading
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mien
import scripted
from clips import cut_short, moving, turn, write_clip
from mien.errors import ConfigError, UnknownName
from mien.faces.detection import Detections
from mien.inference.following import Seen, distinct, is_cut, shape_change, shrink
from mien.inference.recognizer import Recognizer, Stream
from mien.io.images import DecodedImage, read_image
from mien.io.sources import Clip, Frame, iter_images
from mien.io.video import Sampling
from mien.runtime.onnx import OnnxRuntime
from mien.types import Result


@pytest.fixture(scope="module")
def read() -> Recognizer:
    return mien.load(blendshapes=False)


class Counting:
    """The real detector, and how often it was asked."""

    def __init__(self, detector: Any) -> None:
        self.detector, self.calls, self.thorough = detector, 0, 0

    def __call__(self, pixels: np.ndarray) -> Detections:
        self.calls += 1
        self.thorough += 1
        return self.detector(pixels)

    def quick(self, pixels: np.ndarray) -> Detections:
        self.calls += 1
        return self.detector.quick(pixels)


@pytest.fixture
def counted(read: Recognizer) -> Iterator[Counting]:
    inner = read.finder.detector
    assert inner is not None
    read.finder.detector = Counting(inner)
    yield read.finder.detector
    read.finder.detector = inner


def tracks(results: list[Result]) -> list[list[int | None]]:
    return [[face.track for face in result.faces] for result in results]


def test_searching_each_frame_gives_what_single_images_give(read: Recognizer, shared: Path) -> None:
    clip = shared / "data" / "video" / "pyfeat_single_face.mp4"
    for frame, result in read.stream(clip, every=24, detect_every=1, smooth=None):
        assert frame.image is not None
        single = read(frame.image)
        (face,), (wanted,) = result.faces, single.faces
        assert face.scores == pytest.approx(wanted.scores, abs=1e-5)
        assert dataclasses.astuple(face.box) == pytest.approx(dataclasses.astuple(wanted.box), abs=1e-3)
        assert (result.time, result.status, face.track, face.unsmoothed) == (frame.time, "ok", 1, None)


def test_following_gives_nearly_the_same_and_searches_rarely(read: Recognizer, shared: Path, counted: Counting) -> None:
    clip = shared / "data" / "video" / "pyfeat_single_face.mp4"
    followed = list(read.stream(clip, end=1.0, smooth=None))
    assert counted.calls == 3 and tracks([result for _, result in followed]) == [[1]] * 30
    for frame, result in followed[::10]:
        wanted = read(frame.image).faces[0]
        assert result.faces[0].scores == pytest.approx(wanted.scores, abs=0.05)
        assert dataclasses.astuple(result.faces[0].box) == pytest.approx(dataclasses.astuple(wanted.box), abs=8)


def test_a_small_face_that_appears_is_found_by_the_third_search(read: Recognizer, shared: Path, counted: Counting) -> None:
    """The searches before, which confirm the large face, miss it."""
    (large,), (small,) = scripted.cutouts(shared, 260, ("003",)), scripted.cutouts(shared, 50, ("013",))
    one, both = (
        scripted.paint(heads, [(400, 360), (1000, 300)][: len(heads)], (1280, 720), seed=1).pixels
        for heads in ([large], [large, small])
    )
    frames = [Frame(n, "x", DecodedImage(one if n < 1 else both, "x"), time=n / 25) for n in range(8)]
    found = [len(result.faces) for _, result in read.stream(iter(frames), smooth=None, detect_every=2)]
    assert found == [1] * 6 + [2] * 2 and (counted.calls, counted.thorough) == (4, 2)


def test_persons_after_cuts_are_others(read: Recognizer, shared: Path) -> None:
    clip = shared / "data" / "video" / "london_crossfade_neutral_happy.mp4"
    told = [(frame.index, result.faces[0].track) for frame, result in read.stream(clip, start=2.2, end=7.4, every=2)]
    assert {track for _, track in told} == {1, 2, 3, 4}
    assert all(track == (index + 55) // 60 + 1 for index, track in told)


def test_persons_who_come_back_after_a_cut_are_the_same(read: Recognizer, shared: Path) -> None:
    truths: list[list[scripted.Truth]] = []
    scenes = scripted.as_frames(scripted.cuts(shared, length=4), truths)
    found = [scripted.numbered(result) for _, result in read.stream(scenes, smooth=None)]
    score = scripted.score(truths, found)
    assert (score.switches, score.numbers, score.coverage) == (0, 4, 1)


@pytest.mark.slow
def test_four_who_cross(read: Recognizer, shared: Path) -> None:
    """A part of the scene that the benchmark reads whole."""
    truths: list[list[scripted.Truth]] = []
    scenes = scripted.as_frames(scripted.crossing(shared, 60, (640, 360)), truths)
    found = [scripted.numbered(result) for _, result in read.stream(scenes, smooth=None)]
    score = scripted.score(truths, found)
    assert score.switches <= 2 and score.coverage > 0.85


def test_every_frame_has_a_status_and_nothing_is_invented(read: Recognizer, sample: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving(sample, 12, empty=range(4, 8)))
    results = [result for _, result in read.stream(path)]
    assert [result.status for result in results] == ["ok"] * 4 + ["no face"] * 4 + ["ok"] * 4
    assert [result.time for result in results] == pytest.approx([number / 25 for number in range(12)])
    assert tracks(results) == [[1]] * 4 + [[]] * 4 + [[1]] * 4
    for result in results:
        for face in result.faces:
            assert face.unsmoothed is not None and face.unsmoothed.track == 1
            assert all(np.isfinite(value) for value in face.scores.values())


def test_a_truncated_video_ends_with_a_row_that_says_so(read: Recognizer, sample: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", moving(sample, 30))
    cut_short(path, 0.5)
    *results, last = [result for _, result in read.stream(path, every=4)]
    assert results and all(result.status == "ok" for result in results)
    assert last.status == "unreadable" and "truncated" in (last.message or "") and last.faces == ()
    assert last.time is not None and last.time >= (results[-1].time or 0)


def test_a_turned_video_is_read_upright(read: Recognizer, sample: Path, tmp_path: Path) -> None:
    lying = [np.ascontiguousarray(np.rot90(frame)) for frame in moving(sample, 2)]
    path = write_clip(tmp_path / "clip.mp4", lying)
    turn(path, 90)
    (_, result), *_ = read.stream(path)
    assert (result.width, result.height) == (192, 160) and result.faces[0].label == "happiness"


def test_a_video_of_one_face_needs_no_search(sample: Path, tmp_path: Path) -> None:
    """Detector `whole`: each frame is the face, and the face is one person."""
    clip = write_clip(tmp_path / "clip.mp4", moving(sample, 4))
    read = mien.load(detector="whole", points=False, blendshapes=False)
    results = [result for _, result in read.stream(clip, smooth=None)]
    assert tracks(results) == [[1]] * 4
    first = next(iter(iter_images(clip, sampling=Sampling()))).image
    assert first is not None and results[0].faces[0].scores == read(first).faces[0].scores


def test_how_many_frames_are_wanted_is_known_before(sample: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", moving(sample, 50))
    (tmp_path / "none.mp4").write_bytes(b"no video at all")
    for sampling, number in ((Sampling(), 50), (Sampling(every=5), 10), (Sampling(fps=5), 10), (Sampling(start=1.0), 25)):
        assert len(iter_images(clip, sampling=sampling)) == number
    assert len(iter_images([sample, tmp_path / "none.mp4", clip], sampling=Sampling())) == 52


class Silent(SimpleHTTPRequestHandler):
    """Serves a folder, and tells nobody."""

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_video_is_fetched_from_its_address(read: Recognizer, sample: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(sample, 2))
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/clip.mp4?t=1"
            results = [result for _, result in read.stream(address, allow_private=True)]
            ((_, refused),) = read.stream(address, allow_private=True, max_bytes=100)
        finally:
            server.shutdown()
    assert [(result.source, result.time, result.status) for result in results] == [(address, 0.0, "ok"), (address, 0.04, "ok")]
    assert refused.status == "unreadable" and "100 bytes" in (refused.message or "")


def test_images_and_videos_mixed(read: Recognizer, sample: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(sample.read_bytes())
    write_clip(tmp_path / "b.mp4", moving(sample, 3))
    (tmp_path / "c.jpg").write_text("no image")
    write_clip(tmp_path / "d.mp4", moving(sample, 2))
    told = [(Path(result.source).name, result.time, result.status) for _, result in read.stream(tmp_path)]
    assert told == [
        ("a.png", None, "ok"), ("b.mp4", 0.0, "ok"), ("b.mp4", 0.04, "ok"), ("b.mp4", 0.08, "ok"),
        ("c.jpg", None, "unreadable"), ("d.mp4", 0.0, "ok"), ("d.mp4", 0.04, "ok"),
    ]  # fmt: skip


def test_the_same_video_twice_is_two_videos(read: Recognizer, sample: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving(sample, 4))
    for twice in ([path, path], [path.read_bytes(), path.read_bytes()]):
        for smooth in ("ema", "box"):
            results = [result for _, result in read.stream(twice, smooth=smooth)]
            assert len(results) == 8 and results[:4] == results[4:]


def test_frames_without_a_time_are_smoothed_too(read: Recognizer, sample: Path) -> None:
    """They are taken to come 25 a second."""
    pixels = moving(sample, 3)

    def faces(*times: float | None, smooth: str) -> list[Any]:
        stream = Stream(read, smooth=smooth)
        given = [
            stream.push(Frame(n, "x", DecodedImage(p, "x"), time=t)) for n, (p, t) in enumerate(zip(pixels, times, strict=True))
        ]
        done = [*itertools.chain.from_iterable(given), *stream.close()]
        assert [result.time for _, result in done] == list(times)
        return [result.faces for _, result in done]

    for smooth in ("ema", "box"):
        timed = faces(0.0, 0.04, 0.08, smooth=smooth)
        assert all(timed) and faces(None, None, None, smooth=smooth) == timed


@pytest.mark.parametrize(("smooth", "every"), [("ema", 10), ("ema", 1), (None, 10)])
def test_only_where_results_are_smoothed_the_mirror_image_is_left_out(
    read: Recognizer, sample: Path, smooth: str | None, every: int
) -> None:
    photo, run = read_image(sample), read.runtime
    ((_, result),) = Stream(read, smooth=smooth, detect_every=every).push(Frame(0, "photo", photo, time=0.0))
    found = result.faces[0].unsmoothed or result.faces[0]
    assert found.points is not None and isinstance(run, OnnxRuntime)
    batch = read.preprocess.batch([read.preprocess.cut(photo.pixels, found.points)])
    one, both = (each(batch)["scores"][0].tolist() for each in (run.one_view, run))
    wanted, other = (one, both) if smooth and every > 1 else (both, one)
    assert list(found.scores.values()) == pytest.approx(wanted, abs=1e-6) != pytest.approx(other, abs=1e-3)


@pytest.mark.parametrize(
    ("smooth", "fps", "fresh"), [("ema", 25, [0, 4]), ("ema", 10, [0, 2, 4]), ("ema", 5, range(6)), (None, 25, range(6))]
)
def test_predictions_hold_for_125_ms_where_results_are_smoothed(
    sample: Path, smooth: str | None, fps: int, fresh: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mien.inference.recognizer.STILL", 0.02)  # the mesh settles in the first frames, up to 0.008
    photo = read_image(sample)
    stream, faces = Stream(mien.load(), smooth=smooth), []
    for number in range(6):
        moved = dataclasses.replace(photo, pixels=np.roll(photo.pixels, 3 * number, 1))
        ((_, result),) = stream.push(Frame(number, "photo", moved, time=number / fps))
        faces.append(result.faces[0].unsmoothed or result.faces[0])
    for number, (before, face) in enumerate(itertools.pairwise(faces), 1):
        assert (face.blendshapes != before.blendshapes) == (face.scores != before.scores) == (number in fresh), number
        assert face.pose != before.pose and face.points is not None and (face.points != before.points).any()


def test_predictions_end_when_the_face_changes(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Position, size and rotation in the image are no change; a wider mouth and a turn of the head are."""
    photo, stream = read_image(sample), Stream(mien.load())
    ((_, first),) = stream.push(Frame(0, "photo", photo, time=0))
    points = first.faces[0].points
    assert points is not None and shape_change(points, points) == 0 and shape_change(None, points) > 1
    turned = points @ np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]], np.float32) * 1.3 + 7
    assert shape_change(points, turned) < 1e-3
    wide = points.copy()
    wide[[61, 291], 0] += [-4, 4]
    assert 0 < shape_change(points, wide) < shape_change(points, points * [0.95, 1, 1])
    monkeypatch.setattr("mien.inference.recognizer.shape_change", lambda *_: 0.009)
    ((_, second),) = stream.push(Frame(1, "photo", dataclasses.replace(photo, pixels=photo.pixels // 2), time=0.04))
    before, after = (result.faces[0].unsmoothed for result in (first, second))
    assert before and after and before.scores != after.scores and before.blendshapes != after.blendshapes


def test_a_video_behind_an_address_is_fetched_once(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not also to tell how many frames are wanted."""
    monkeypatch.setattr("mien.io.sources.fetch", lambda *_, **__: pytest.fail("it was fetched"))
    assert len(iter_images(["https://example.org/clip.mp4", sample], sampling=Sampling())) == 1


def test_a_name_too_long_stops_no_others(read: Recognizer, sample: Path) -> None:
    results = [result for _, result in read.stream(["x" * 300 + ".mp4", sample])]
    assert [result.status for result in results] == ["unreadable", "ok"]


def test_videos_with_too_many_pixels_are_not_decoded(read: Recognizer, sample: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving(sample, 1))
    ((_, result),) = read.stream(path, max_pixels=1000)
    assert result.status == "unreadable" and "more than the limit of 1,000" in (result.message or "")


def test_frames_far_apart_are_searched(read: Recognizer, sample: Path, counted: Counting) -> None:
    frames = [Frame(n, "x", DecodedImage(pixels, "x"), time=float(n)) for n, pixels in enumerate(moving(sample, 3))]
    assert tracks([result for _, result in read.stream(iter(frames))]) == [[1]] * 3
    assert counted.calls == 3


def test_cuts() -> None:
    random = np.random.default_rng(0)
    scene, other = (random.integers(0, 255, (9, 12, 3)).astype(np.uint8).repeat(20, 0).repeat(20, 1) for _ in range(2))
    noisy = np.clip(scene + random.normal(0, 12, scene.shape), 0, 255).astype(np.uint8)
    assert is_cut(shrink(scene), shrink(other))
    for same in (noisy, scene // 2, np.roll(scene, 2, 1)):
        assert not is_cut(shrink(scene), shrink(same))
    assert is_cut(shrink(scene), shrink(scene[:10, :10]))  # another size is another scene
    assert shrink(scene[:3, :5]).shape == (3, 5)


def test_senseless_options(read: Recognizer, sample: Path) -> None:
    frame = Frame(0, "x", read_image(sample), time=0.0)
    for options, error in (
        ({"smooth": "median"}, UnknownName),
        ({"detect_every": 0}, ConfigError),
        ({"window": -1}, ConfigError),
    ):
        with pytest.raises(error):
            list(read.stream(iter([frame]), **options))


def test_a_face_that_is_lost_is_searched_at_once(read: Recognizer, sample: Path, counted: Counting) -> None:
    whole = read_image(sample).pixels
    covered = whole.copy()
    covered[60:190, 165:290] = covered[60, 165]
    frames = [Frame(n, "x", DecodedImage(pixels, "x"), time=n / 25) for n, pixels in enumerate([whole, whole, covered, whole])]
    assert [len(result.faces) for _, result in read.stream(iter(frames), smooth=None)] == [1, 1, 0, 1]
    assert counted.calls == 3


def test_of_two_faces_that_have_become_one_the_clearer_stays() -> None:
    here, there = np.array([50.0, 50, 60, 0]), np.array([250.0, 50, 60, 0])
    seen = [
        Seen(np.zeros((478, 3)), place, score, np.zeros(4)) for place, score in ((here, 0.7), (here + 2, 0.9), (there, 0.6))
    ]
    assert distinct(seen) == seen[1:]


def running() -> set[str]:
    """Names of the threads that read ahead."""
    known = {"mien decoder", "mien follower"}
    return known & {thread.name.rstrip("_0") for thread in threading.enumerate()}


def test_a_file_gives_what_its_frames_pushed_one_by_one_give(read: Recognizer, shared: Path) -> None:
    clip = shared / "data" / "video" / "london_crossfade_neutral_happy.mp4"
    stream, pushed = Stream(read, smooth="box"), []
    for frame in iter_images(clip, sampling=Sampling(start=2.2, end=3.4)):
        pushed += stream.push(frame)
    pushed += stream.close()
    found = list(read.stream(clip, start=2.2, end=3.4, smooth="box"))
    assert [frame.index for frame, _ in found] == [frame.index for frame, _ in pushed]
    for (_, result), (_, wanted) in zip(found, pushed, strict=True):
        assert result.to_dict("all") == wanted.to_dict("all")


def test_frames_that_arrive_one_by_one_are_not_awaited(read: Recognizer, sample: Path) -> None:
    given = []

    def camera() -> Iterator[Frame]:
        for number, pixels in enumerate(itertools.cycle(moving(sample, 4))):
            given.append(number)
            yield Frame(number, "camera", DecodedImage(pixels, "camera"), time=number / 25)

    for source in (camera(), iter_images(camera(), sampling=Sampling())):
        given.clear()
        with contextlib.closing(read.stream(source)) as results:
            for number in range(3):
                assert next(results)[0].index == number and given[-1] == number


def test_few_frames_of_a_file_are_read_ahead(read: Recognizer, sample: Path, tmp_path: Path) -> None:
    decoded = []

    class Counted(Clip):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                decoded.append(frame.index)
                yield frame

    path = str(write_clip(tmp_path / "clip.mp4", moving(sample, 30)))
    for source in (Counted(path, Sampling()), [Counted(path, Sampling())]):
        decoded.clear()
        results = read.stream(source)
        assert next(results)[0].index == 0 and running() == {"mien decoder", "mien follower"}
        results.close()  # type: ignore[attr-defined]
        assert len(decoded) <= 4 and not running()


def test_an_error_comes_after_the_frames_before_it(sample: Path, tmp_path: Path) -> None:
    """In either half of the pipeline."""
    path = write_clip(tmp_path / "clip.mp4", moving(sample, 12))
    for part in ("detector", "classifier"):
        read = mien.load("mien-nano", points=False, blendshapes=False)
        inner: Any = read.finder.detector if part == "detector" else read.runtime
        calls = itertools.count(1)

        def third(value: Any, inner: Any = inner, calls: Iterator[int] = calls) -> Any:
            if next(calls) == 3:
                raise MemoryError("the third call")
            return inner(value)

        if part == "detector":
            read.finder.detector = third
        else:
            read.runtime = third
        found = []
        with pytest.raises(MemoryError, match="the third call"):
            for frame, _ in read.stream(path, smooth=None, detect_every=2):
                found.append(frame.index)
        assert found == list(range(4 if part == "detector" else 2)) and not running()
