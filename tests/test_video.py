"""Frames of videos: exact times, turned and stretched as shown, thinned out, and what happens to files that are no good."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from clips import cut_short, frames, moving, turn, write_clip
from mien.errors import ConfigError, MissingExtra, SourceError
from mien.io.sources import iter_images
from mien.io.video import Sampling, Video, is_video

REAL = ("london_crossfade_neutral_happy.mp4", "pyfeat_single_face.mp4")
VARIABLE = [0.0, 0.04, 0.05, 0.2, 0.233, 0.5, 0.51, 0.52, 0.9, 1.4]


@pytest.mark.parametrize("name", REAL)
def test_times_and_pixels_are_those_of_the_file(shared: Path, name: str) -> None:
    path = shared / "data" / "video" / name
    with av.open(str(path)) as file:
        wanted = [(frame.pts * Fraction(frame.time_base), frame) for frame in file.decode(video=0)]
        read = list(frames(path))
        assert [frame.time for frame in read] == [float(time) for time, _ in wanted]
        assert [frame.index for frame in read] == list(range(len(wanted)))
        assert (read[-1].pixels == wanted[-1][1].to_ndarray(format="rgb24")).all()
    assert read[0].pixels.flags.c_contiguous and not read[0].pixels.flags.writeable


def test_variable_frame_rates(sample: Path, tmp_path: Path) -> None:
    for name in ("clip.mp4", "clip.mkv", "clip.webm"):
        codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
        path = write_clip(tmp_path / name, moving(sample, 10, (64, 48)), VARIABLE, codec=codec)
        assert [frame.time for frame in frames(path)] == pytest.approx(VARIABLE, abs=1e-9)


def test_times_count_from_the_start_of_the_file(sample: Path, tmp_path: Path) -> None:
    """A transport stream begins at any time, here 1.4 s."""
    path = write_clip(tmp_path / "clip.mts", moving(sample, 5, (64, 48)), codec="libx264")
    with av.open(str(path)) as file:
        assert file.start_time and file.start_time > 0
    assert [frame.time for frame in frames(path)] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16], abs=1e-3)


def test_no_time_lies_before_the_start(sample: Path, tmp_path: Path) -> None:
    """FFmpeg rounds the start of a file to microseconds, and half of them up: a tick here is 100 / 9 of those."""
    rounded_up = 0
    for ticks in range(9):
        stamps = [ticks / 90_000, 0.04, 0.08]
        path = write_clip(tmp_path / f"{ticks}.mts", moving(sample, 3, (64, 48)), stamps, clock=90_000)
        with av.open(str(path)) as file:
            first = next(file.decode(video=0))
            rounded_up += file.start_time > first.pts * first.time_base * 1_000_000
        assert 0 <= next(iter(frames(path))).time < 1e-6
    assert rounded_up


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"every": 3}, [0, 3, 6, 9]),
        ({"fps": 5}, [0, 3, 5, 8, 9]),  # ticks at 0, .2, .4, .6, .8, 1.0
        ({"fps": 1}, [0, 9]),
        ({"start": 0.2}, [3, 4, 5, 6, 7, 8, 9]),
        ({"start": 0.21, "end": 0.52}, [4, 5, 6]),
        ({"start": 0.04, "every": 4}, [1, 5, 9]),
        ({"end": 0.04}, [0]),
        ({"start": 0.91, "fps": 2}, [9]),
    ],
)
def test_sampling(sample: Path, tmp_path: Path, options: dict[str, float], wanted: list[int]) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving(sample, 10, (64, 48)), VARIABLE)
    given = frames(path, **options)  # pyrefly: ignore
    assert [frame.time for frame in given] == pytest.approx([VARIABLE[number] for number in wanted])


@pytest.mark.parametrize(
    "options",
    [
        {"every": 0},
        {"fps": 0},
        {"every": 2, "fps": 5},
        {"start": 3, "end": 2},
        {"start": -1},
        {"start": math.nan},
        {"end": math.nan},
        {"every": math.inf},
    ],
)
def test_senseless_sampling(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        Sampling(**options)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_display_matrix(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    """A quarter turn clockwise takes a red corner from the upper left to the upper right; front cameras mirror before."""
    image = np.full((48, 80, 3), 40, np.uint8)
    image[:20, :30] = (230, 20, 20)
    path = write_clip(tmp_path / "clip.mp4", [image] * 3)
    turn(path, degrees, mirrored=mirrored)
    shown = next(frames(path)).pixels
    wanted = np.rot90(image[:, ::-1] if mirrored else image, -degrees // 90)
    assert shown.shape == wanted.shape
    assert np.abs(shown.astype(int) - wanted)[4:-4, 4:-4].mean() < 8


def test_oblong_pixels_are_stretched(sample: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", moving(sample, 2, (60, 96)), aspect=Fraction(4, 3))
    assert next(frames(path)).pixels.shape == (96, 80, 3)


def test_a_truncated_video_gives_what_there_is_and_says_so(sample: Path, tmp_path: Path) -> None:
    for name, options in (("clip.mp4", {"movflags": "faststart"}), ("clip.mkv", {})):
        path = write_clip(tmp_path / name, moving(sample, 50), codec="mpeg4", options=options)
        cut_short(path, 0.6)
        got: list[float] = []
        with pytest.raises(SourceError):
            for frame in frames(path):
                got.append(frame.time)  # noqa: PERF401 - what came before the error counts
        assert 15 < len(got) < 45 and got == pytest.approx([number / 25 for number in range(len(got))], abs=1e-3)


def test_a_truncated_video_with_sound(sample: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", moving(sample, 50), codec="mpeg4", sound="aac")
    assert len(list(frames(path))) == 50
    cut_short(path, 0.6)
    with pytest.raises(SourceError):
        list(frames(path))


def test_a_video_whose_end_cannot_be_decoded(sample: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving(sample, 50), encoder={"g": "100", "bf": "0"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        spans = [(packet.pos, packet.pos + packet.size) for packet in file.demux(video=0) if packet.size]
    data[spans[20][0] : spans[-1][1]] = bytes(spans[-1][1] - spans[20][0])
    path.write_bytes(data)
    got = 0
    with pytest.raises(SourceError):
        for _ in frames(path):
            got += 1
    assert 15 < got < 50


def test_what_is_no_video(sample: Path, tmp_path: Path) -> None:
    headless = write_clip(tmp_path / "headless.mp4", moving(sample, 20))
    cut_short(headless, 0.5)  # its index stood at the end
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all\n" * 100)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nclip.ts\n")
    with av.open(str(tmp_path / "sound.m4a"), "w") as file:
        tone = file.add_stream("aac", rate=44100)
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
        heard.sample_rate = 44100
        file.mux(tone.encode(heard))
        file.mux(tone.encode(None))
    for name in (
        "headless.mp4",
        "empty.mp4",
        "text.mp4",
        "list.m3u8",  # play lists name other files and hosts
        "sound.m4a",
        "missing.mp4",
        "concat:a.ts|b.ts",  # a protocol of FFmpeg's
    ):
        with pytest.raises(SourceError):
            list(frames(tmp_path / name))
    with pytest.raises(SourceError):
        Video(tmp_path)
    with pytest.raises(SourceError):
        Video("x" * 300 + ".mp4")


def test_a_video_without_frames(sample: Path, tmp_path: Path) -> None:
    """A header, and no packet that gives an image."""
    path = write_clip(tmp_path / "clip.mkv", moving(sample, 1))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # up to the first cluster
    with pytest.raises(SourceError):
        list(frames(path))


def test_a_codec_that_nobody_knows(sample: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", moving(sample, 2))
    data, known = path.read_bytes(), b"V_MPEG4/ISO/AVC"
    assert known in data
    path.write_bytes(data.replace(known, b"V_MPEG4/ISO/XYZ"))
    with pytest.raises(SourceError):
        Video(path)


def test_colors_that_cannot_be_brought_to_rgb(sample: Path, tmp_path: Path) -> None:
    """Found by fuzzing: FFmpeg decodes these frames and then refuses to convert them."""
    path = write_clip(tmp_path / "clip.mp4", moving(sample, 2, (64, 48)), encoder={"x264-params": "colormatrix=ICtCp"})
    with pytest.raises(SourceError):
        next(frames(path)).pixels  # noqa: B018
    (told,) = iter_images(str(path), sampling=Sampling())
    assert told.image is None and told.error is not None


def test_timestamps_that_restart_continue(sample: Path, tmp_path: Path) -> None:
    """Transport streams may be put together like text files; each brings its own stamps."""
    part = write_clip(tmp_path / "part.ts", moving(sample, 10)).read_bytes()
    whole = tmp_path / "whole.mts"
    whole.write_bytes(part + part)
    assert [frame.time for frame in frames(whole)] == pytest.approx([number / 25 for number in range(20)])
    assert [frame.index for frame in frames(whole, fps=5)] == [0, 5, 10, 15]


def test_bytes_and_open_files(sample: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving(sample, 3))
    assert len(list(frames(path.read_bytes()))) == len(list(frames(io.BytesIO(path.read_bytes())))) == 3


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(SourceError):
        Video(77)


def test_without_pyav(monkeypatch: pytest.MonkeyPatch, sample: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra):
        Video(sample)


def test_pyav_is_imported_only_for_videos() -> None:
    code = "import sys, mien; read = mien.load(); read(mien.sample()); assert 'av' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_content_tells_before_the_extension(sample: Path, tmp_path: Path) -> None:
    real = write_clip(tmp_path / "real.mp4", moving(sample, 1))
    (tmp_path / "named.jpg").write_bytes(real.read_bytes())
    (tmp_path / "named.mp4").write_bytes(sample.read_bytes())
    (tmp_path / "phone.mp4").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "odd.mp4").write_bytes(b"?" * 600)
    told = {
        name: is_video(tmp_path / name) for name in ("real.mp4", "named.jpg", "named.mp4", "phone.mp4", "odd.mp4", "gone.mkv")
    }
    wanted = {"real.mp4": True, "named.jpg": True, "named.mp4": False, "phone.mp4": False, "odd.mp4": True, "gone.mkv": True}
    assert told == wanted
    assert is_video(real.read_bytes()) and not is_video(sample.read_bytes()) and not is_video(b"")


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_memory_stays_flat(sample: Path, tmp_path: Path) -> None:
    """The length of an hour is in the benchmarks; 1,500 frames of 0.2 MB would be 300 MB if they were kept."""
    path = write_clip(tmp_path / "clip.mp4", moving(sample, 30, (320, 240)) * 50)
    code = f"""
from mien.io.video import Video
early = 0.0
for frame in Video({str(path)!r}):
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * 4096 / 1e6
    early = resident if frame.index <= 200 else early
print(resident - early)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 25


def test_what_begins_like_a_video_is_one() -> None:
    heads = {
        "moov": b"\0\0\0\x08moov", "avi": b"RIFF\0\0\0\0AVI ", "stream": (b"\x47" + b"\0" * 187) * 3,
        "webp": b"RIFF\0\0\0\0WEBP", "heic": b"\0\0\0\x18ftypheic",
    }  # fmt: skip
    assert {name for name, head in heads.items() if is_video(head)} == {"moov", "avi", "stream"}


def test_what_is_not_known_before(sample: Path, tmp_path: Path) -> None:
    assert Sampling().frames(None, 25) is None and Sampling(fps=5).frames(2, None) is None
    path = write_clip(tmp_path / "clip.mp4", moving(sample, 4))
    with Video(path, threads=2) as several, Video(path) as one:
        assert [frame.time for frame in several] == [frame.time for frame in one]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.webm"])
def test_a_last_frame_that_is_held_is_no_truncation(name: str, sample: Path, tmp_path: Path) -> None:
    path, codec = tmp_path / name, "libvpx" if name.endswith("webm") else "libx264"
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        coded = []
        for number, pixels in enumerate(moving(sample, 12, (96, 80))):
            frame: Any = av.VideoFrame.from_ndarray(pixels)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            coded += stream.encode(frame)
        coded += stream.encode(None)
        for packet in coded:
            if packet.pts == max(one.pts for one in coded):
                packet.duration = round(2 / packet.time_base)
            file.mux(packet)
    assert len(list(frames(path))) == 12
    data = path.read_bytes()
    if not name.endswith("mp4"):  # Its index is at the end.
        with pytest.raises(SourceError):
            list(frames(data[: len(data) * 2 // 3]))


def test_of_several_video_streams_the_largest_is_read(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as file:
        small: Any = file.add_stream("libx264", rate=25)
        large: Any = file.add_stream("libx264", rate=25)
        for stream, size in ((small, (64, 48)), (large, (192, 160))):
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(3):
            for stream in (small, large):
                pixels = np.zeros((stream.height, stream.width, 3), np.uint8)
                frame: Any = av.VideoFrame.from_ndarray(pixels)
                frame.pts, frame.time_base = number, Fraction(1, 25)
                file.mux(stream.encode(frame))
        for stream in (small, large):
            file.mux(stream.encode(None))
    found = list(iter_images(path, sampling=Sampling()))
    assert [frame.image and frame.image.width for frame in found] == [192] * 3
    assert found[0].image and len(found[0].image.notes) == 1 and found[1].image and not found[1].image.notes
    assert next(frames(path, stream=0)).size == (64, 48)
    with pytest.raises(SourceError) as caught:
        next(frames(path, stream=2))
    assert (caught.value.value, caught.value.expected) == (2, 1)


@pytest.mark.parametrize("extension", [".h264", ".264", ".avc", ".h265", ".265", ".hevc"])
def test_raw_streams_by_any_name_or_as_bytes(extension: str, sample: Path, tmp_path: Path) -> None:
    codec = "libx264" if "264" in extension or extension == ".avc" else "libx265"
    path = tmp_path / f"clip{extension}"
    container = "h264" if codec == "libx264" else "hevc"
    with av.open(str(path), "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=25, options={"x265-params": "log-level=none"} if codec == "libx265" else {})
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        for pixels in moving(sample, 4, (96, 80)):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        file.mux(stream.encode(None))
    assert is_video(path) and is_video(path.read_bytes())
    assert len(list(frames(path))) == len(list(frames(path.read_bytes()))) == 4
