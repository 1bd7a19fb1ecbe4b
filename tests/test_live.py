"""Live streams from a local RTSP server, and from a local RTMP server where there is an ffmpeg."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from clips import moving
from mien.cli import main
from mien.errors import SourceError
from mien.io.live import LiveStream, is_live
from mien.io.sources import iter_images
from mien.io.video import Sampling
from rtsp_server import camera


def test_frames_and_times_of_a_camera(sample: Path) -> None:
    sent = moving(sample, 40)
    with camera(sent) as server, LiveStream(server.url, allow_private=True, queue=100) as stream:
        assert stream.coded == (192, 160)
        found = []
        for frame in stream.frames(Sampling()):
            found.append(frame)
            if len(found) == 20:
                break
    times = [frame.time for frame in found]
    assert times[0] == 0 and times == sorted(times)
    assert min(np.abs(found[0].pixels.astype(int) - image).mean() for image in sent) < 8


def test_an_interrupted_stream_is_connected_again(sample: Path) -> None:
    with camera(moving(sample, 10)) as server, LiveStream(server.url, allow_private=True) as stream:
        times = []
        for frame in stream.frames():
            times.append(frame.time)
            if stream.reconnects >= 2 and len(times) > 20:
                break
        assert server.clients >= 3 and times == sorted(times)


def test_a_stream_that_stays_away_ends_with_an_error(sample: Path) -> None:
    with (
        camera(moving(sample, 10), limit=1) as server,
        LiveStream(server.url, allow_private=True, patience=1.0, timeout=2.0) as stream,
        pytest.raises(SourceError) as caught,
    ):
        for _ in stream.frames():
            pass
    assert caught.value.path == server.url


def test_the_queue_is_bounded_and_keeps_the_newest(sample: Path) -> None:
    with (
        camera(moving(sample, 60), rate=200, limit=1) as server,
        LiveStream(server.url, allow_private=True, queue=3, patience=1.0, timeout=2.0) as stream,
    ):
        frames = stream.frames()
        first = next(frames)
        stream._thread.join(30)  # All frames arrive while the first one is processed; then reconnecting is given up.
        with pytest.raises(SourceError):
            while True:
                last = next(frames)
        assert stream.dropped > 20 and first.index == 0 and last.index <= 3 and last.time > 0


def test_private_addresses_need_permission_and_wrong_ones_are_errors() -> None:
    with pytest.raises(SourceError) as caught:
        LiveStream("rtsp://127.0.0.1:1/x")
    assert caught.value.value == "127.0.0.1"
    with pytest.raises(SourceError) as caught:
        LiveStream("rtsp://user:secret@127.0.0.1:1/x", allow_private=True, timeout=2.0)
    assert "secret" not in str(caught.value)


def test_live_addresses_are_only_read_where_a_stream_is_expected() -> None:
    assert is_live("rtsp://camera/1") and is_live("RTMP://camera/1") and not is_live("http://camera/1")
    (frame,) = iter_images(iter(["rtsp://127.0.0.1:1/x"]), sampling=Sampling(), allow_private=True)
    assert frame.error is not None and frame.error.value == "rtsp"


def test_watch_reads_a_network_camera(sample: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    rows = tmp_path / "rows.jsonl"
    with camera(moving(sample, 40)) as server:
        assert main(["watch", "--camera", server.url, "--end", "0.5", "--jsonl", str(rows)]) == 0
    assert rows.read_text().count('"label"') >= 1
    assert capsysbinary.readouterr().out.count(b"\n") == rows.read_text().count("\n")


def test_rtmp(sample: Path, tmp_path: Path) -> None:
    binary = shutil.which("ffmpeg")
    if binary is None:
        binary = pytest.importorskip("imageio_ffmpeg", reason="needs an ffmpeg binary").get_ffmpeg_exe()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"rtmp://127.0.0.1:{port}/live/x"
    source = ["-re", "-f", "lavfi", "-i", "testsrc=size=96x80:rate=25:duration=20", "-c:v", "flv1", "-f", "flv", "-listen", "1"]
    with subprocess.Popen([binary, "-v", "quiet", *source, url], stdin=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                try:
                    stream = LiveStream(url, allow_private=True, timeout=5.0)
                    break
                except SourceError:
                    threading.Event().wait(0.1)
            with stream:
                frames = stream.frames()
                assert [next(frames).pixels.shape for _ in range(5)] == [(80, 96, 3)] * 5
        finally:
            process.kill()
