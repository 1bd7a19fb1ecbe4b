"""A worker that hangs is killed, and the responsible file is reported and skipped."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_runs import bytes_of, children, failures, rows, trapping
from command import mien
from PIL import Image

from mien.batch import Options, batch, supervising
from mien.errors import ConfigError, MienError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and ps as POSIX has them")

QUICK = Options(points="none", blendshapes=False, allow_private=True)
LIMIT = 4.0
"""Seconds: far above what a small image takes here, even beside other work."""


@pytest.fixture
def tar_pit(album: Path) -> Iterator[str]:
    """Address of a server that stops (SIGSTOP) a worker that requests an image called "pit"."""
    with trapping(album, "pit", signal.SIGSTOP) as address:
        yield address


@pytest.mark.slow
def test_an_image_that_stops_its_worker_is_reported(tar_pit: str, tmp_path: Path) -> None:
    names = [f"{tar_pit}/{'pit' if number == 10 else 'good'}{number}.jpg" for number in range(16)]
    summary = batch(names, tmp_path / "out", QUICK, workers=1, timeout=LIMIT)
    assert summary.status == {"ok": 15, "unreadable": 1}
    assert failures(tmp_path / "out") == {names[10]: "timed out after 4 seconds (--timeout)"}
    assert [row["source"] for row in rows(tmp_path / "out")] == names
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["run"]["lost_workers"] == 3
    assert not children(os.getpid())


@pytest.mark.slow
def test_a_worker_stopped_from_outside_is_replaced_without_a_failure(album: Path, whole: Path, tmp_path: Path) -> None:
    stopped: list[int] = []

    def progress(done: int, total: int, failed: int) -> None:
        if done > 10 and not stopped:
            stopped.extend(children(os.getpid()))
            for worker in stopped:
                os.kill(worker, signal.SIGSTOP)

    batch([str(album)], tmp_path / "out", QUICK, workers=1, shard_size=8, timeout=LIMIT, progress=progress)
    assert stopped and bytes_of(tmp_path / "out") == bytes_of(whole)


@pytest.mark.slow
def test_an_image_that_hangs_inference_is_found_in_its_batch(album: Path, tmp_path: Path) -> None:
    """By the command, with a detector that never returns for one of eight images."""
    (tmp_path / "endless.py").write_text(
        "import signal\nfrom mien.faces.detection.blazeface import BlazeFace\n"
        "class Endless(BlazeFace):\n"
        "    def __call__(self, image):\n"
        "        while image.shape[0] == 77:\n"
        "            signal.pause()\n"
        "        return super().__call__(image)\n"
    )
    images = tmp_path / "images"
    images.mkdir()
    for number in range(8):
        (images / f"{number}.jpg").write_bytes((album / "face 1.jpg").read_bytes())
    Image.new("RGB", (64, 77), "green").save(images / "3.jpg")
    os.mkfifo(images / "8.jpg")
    done = mien(
        "batch", images, "--out", "out", "--workers", 1, "--timeout", LIMIT, "--points", "none", "--no-blendshapes",
        "--detector", "endless:Endless", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == {"ok": 7, "unreadable": 2}
    found = {Path(name).name: why for name, why in failures(tmp_path / "out").items()}
    assert found["3.jpg"] == "timed out after 4 seconds (--timeout)" and "pipe" in found["8.jpg"]


def test_storage_that_does_not_respond_ends_the_run(album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's storage never finishes a write; the run can be resumed."""
    slow = tmp_path / "slow"
    slow.mkdir()
    code = "import signal\nimport mien.batch.worker as worker\nworker.write_part = lambda *part: signal.pause()\n"
    (slow / "sitecustomize.py").write_text(code)

    def once_it_reads(*progress: int) -> None:
        if children(os.getpid()):
            monkeypatch.setattr(supervising, "PATIENCE", 0.1)

    names = [str(album / "face 1.jpg")]
    with monkeypatch.context() as patch:
        patch.syspath_prepend(slow)
        with pytest.raises(MienError) as stopped:
            batch(names, tmp_path / "out", QUICK, workers=1, timeout=LIMIT, progress=once_it_reads)
        assert (stopped.value.path, stopped.value.value) == (str(tmp_path / "out"), 0)
    assert not children(os.getpid())
    assert batch(names, tmp_path / "out", QUICK, workers=1, resume=True).new == 1


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_invalid_timeouts_are_refused(seconds: float, album: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        batch([str(album)], tmp_path / "out", QUICK, timeout=seconds)
    assert refused.value.value is seconds
    assert not (tmp_path / "out").exists()


def test_no_timeout(album: Path, tmp_path: Path) -> None:
    assert batch([str(album / "face 1.jpg")], tmp_path / "out", QUICK, workers=1, timeout=float("inf")).faces == 1
