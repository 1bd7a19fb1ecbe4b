"""Copies of videos: the times of the frames and the sound are those of the original."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from clips import frames, moving, packets, write_clip
from mien.errors import ConfigError, SourceError
from mien.io.video import Video
from mien.io.video_writer import Recorder, suffix
from mien.visualization.annotated import MARK, AnnotatedCopies
from readings import face, reading


def copy(source: Path, target: Path, **options: float | None) -> None:
    with Recorder(target, sound=source, **options) as recorder:
        for frame in frames(source, start=options.get("start"), end=options.get("end")):
            recorder.write(frame.pixels, frame.time)


def test_times_size_and_sound(sample: Path, tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.05, 0.2, 0.233, 0.5, 0.51, 0.9]
    source = write_clip(tmp_path / "clip.mkv", moving(sample, 8, (63, 49 + 1)), times, sound="aac", codec="mpeg4")
    copy(source, tmp_path / "copy.mp4")
    read = list(frames(tmp_path / "copy.mp4"))
    originals = list(frames(source))
    assert [frame.time for frame in read] == pytest.approx([frame.time for frame in originals], abs=2e-3)
    assert np.diff([frame.time for frame in read]) == pytest.approx(np.diff(times), abs=2e-3)
    assert read[3].pixels.shape == (50, 64, 3)  # an odd side grows by a pixel
    assert np.abs(read[3].pixels[:, :63].astype(int) - originals[3].pixels).mean() < 6
    assert packets(tmp_path / "copy.mp4", "audio") == packets(source, "audio")
    assert not list(tmp_path.glob("*.part"))


def test_a_stretch_begins_at_zero_with_its_sound(sample: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", moving(sample, 50, (64, 48)), sound="aac")
    copy(source, tmp_path / "copy.mp4", start=0.8, end=1.6)
    with av.open(str(tmp_path / "copy.mp4")) as file:
        heard = [packet for packet in file.demux(audio=0) if packet.size]
        assert float(heard[0].pts * heard[0].time_base) == pytest.approx(0, abs=0.05)
        assert len(heard) == pytest.approx(0.8 * 44100 / 1024, abs=2)
    assert [frame.time for frame in frames(tmp_path / "copy.mp4")] == pytest.approx([n / 25 for n in range(20)], abs=1e-3)


def test_sound_that_mp4_cannot_hold(sample: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.avi", moving(sample, 4, (64, 48)), codec="mpeg4", sound="pcm_s16le")
    assert suffix(source) == ".mkv" and suffix(write_clip(tmp_path / "silent.mp4", moving(sample, 1))) == ".mp4"
    copy(source, tmp_path / "copy.mkv")
    assert b"".join(packets(tmp_path / "copy.mkv", "audio")) == b"".join(packets(source, "audio"))


def test_an_error_leaves_the_older_file(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.mp4").write_text("older")
    with pytest.raises(RuntimeError), Recorder(tmp_path / "copy.mp4") as recorder:
        recorder.write(moving(sample, 1)[0], 0.0)
        raise RuntimeError
    assert (tmp_path / "copy.mp4").read_text() == "older"
    with Recorder(tmp_path / "none.mp4"):
        pass
    assert not list(tmp_path.glob("none*"))  # no frame, no file
    with pytest.raises(ConfigError):
        Recorder(tmp_path / "copy.mp4" / "below.mp4")


def test_sound_that_is_none_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(SourceError):
        Recorder(tmp_path / "copy.mp4", sound=tmp_path / "text.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]


FULL = """
import resource, signal, sys
import numpy as np
from mien.io.video_writer import Recorder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
try:
    with Recorder(sys.argv[1]) as recorder:
        for number in range(int(sys.argv[2])):
            recorder.write(np.roll(noise, 7 * number, 1), number / 25)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("count", [8, 150])
def test_a_full_disk_is_reported(count: int, tmp_path: Path) -> None:
    """While frames are written, and while what the encoder holds is."""
    (tmp_path / "copy.mp4").write_text("older")
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path / "copy.mp4", str(count)], capture_output=True, text=True)
    assert done.stdout.startswith("ConfigError") and "cannot be written: File too large; free some space" in done.stdout
    assert (tmp_path / "copy.mp4").read_text() == "older"


def test_a_video_whose_address_is_longer_than_a_name(sample: Path, tmp_path: Path) -> None:
    result = dataclasses.replace(reading((192, 160), source=f"https://example.org/{'a' * 300}.mp4"), time=0.0)
    with AnnotatedCopies(tmp_path) as sink:
        path = sink.write(moving(sample, 1)[0], result)
    assert [path] == list(tmp_path.iterdir())


def test_the_sink_names_and_replaces_only_its_own(sample: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", moving(sample, 3))
    result = reading((192, 160), face((40, 30, 110, 100), track=1), source=str(source))
    out = tmp_path / "out"
    out.mkdir()
    (out / "clip.mp4").write_text("not ours")
    for _ in range(2):
        with AnnotatedCopies(out) as sink:
            for frame in frames(source):
                path = sink.write(frame.pixels, dataclasses.replace(result, time=frame.time))
        assert path == out / "clip-2.mp4"
    assert sorted(found.name for found in out.iterdir()) == ["clip-2.mp4", "clip.mp4"]
    assert (out / "clip.mp4").read_text() == "not ours"
    with Video(out / "clip-2.mp4") as video:
        assert video.container.metadata["comment"] == MARK
        shown = next(iter(video)).pixels
    assert np.abs(shown.astype(int) - next(frames(source)).pixels).mean() > 2  # something was drawn


def test_the_sink_begins_a_copy_for_each_video(sample: Path, tmp_path: Path) -> None:
    one = reading((192, 160), face((40, 30, 110, 100), track=1))
    unreadable = dataclasses.replace(one, status="unreadable", faces=())
    with AnnotatedCopies(tmp_path / "out") as sink:
        for name, count in (("one.mp4", 3), ("two.mp4", 2)):
            for frame in frames(write_clip(tmp_path / name, moving(sample, count))):
                sink.write(frame.pixels, dataclasses.replace(one, source=str(tmp_path / name), time=frame.time))
            assert sink.write(frame.pixels, dataclasses.replace(unreadable, source=str(tmp_path / name), time=9.0)) is None
    assert {path.name: len(list(frames(path))) for path in (tmp_path / "out").iterdir()} == {"one.mp4": 3, "two.mp4": 2}


def test_frames_that_change_their_size_are_brought_to_the_first(sample: Path, tmp_path: Path) -> None:
    with Recorder(tmp_path / "copy.mp4") as recorder:
        for number, side in enumerate((64, 48, 80)):
            recorder.write(np.full((side, side, 3), 90, np.uint8), number / 25)
    assert [frame.pixels.shape for frame in frames(tmp_path / "copy.mp4")] == [(64, 64, 3)] * 3
    (tmp_path / "none.mp4").write_bytes(b"no video")
    assert suffix(tmp_path / "none.mp4") == ".mp4"
