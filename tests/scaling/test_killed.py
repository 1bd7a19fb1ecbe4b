"""Processes are killed with signal 9, at any moment: nothing is lost, nothing doubled, and the file that kills is found."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_runs import bytes_of, children, failures, rows, trapping
from command import environment, mien

from mien.batch import Options, batch

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and ps as POSIX has them")

QUICK = Options(points="none", blendshapes=False)
SLOW = ["--shard-size", 8, "--points", "none", "--no-blendshapes"]


def test_workers_that_are_killed_are_replaced(album: Path, whole: Path, tmp_path: Path) -> None:
    """Also: two workers give the same bytes as one."""
    chance, lock = random.Random(1), threading.Lock()
    moments = sorted(chance.sample(range(1, 36), 2))  # a third might hit the same image, which would then be suspected
    killed: list[int] = []

    def kill(done: int, total: int, failed: int) -> None:
        with lock:
            if len(killed) < 2 and done >= moments[len(killed)]:
                killed.append(chance.choice(children(os.getpid())))
                os.kill(killed[-1], signal.SIGKILL)

    summary = batch([str(album)], tmp_path / "out", QUICK, workers=2, shard_size=8, progress=kill)
    assert len(killed) == 2 and summary.failures == 5 and summary.parts == 6
    assert bytes_of(tmp_path / "out") == bytes_of(whole)
    report = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert report["run"]["lost_workers"] >= 1
    assert not children(os.getpid())


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux tells of the end of another's child")
def test_a_killed_driver_leaves_no_workers_and_resumes(album: Path, whole: Path, tmp_path: Path) -> None:
    out, seen, killed = tmp_path / "out", [], 0
    for attempt in range(3):
        with driver(album, out, workers=2) as (process, progress):
            assert any(len(parts_in(out)) > attempt for _ in progress)
            workers = [os.pidfd_open(worker) for worker in children(process.pid)]
        assert not (out / "summary.json").exists()
        for worker in workers:
            assert select.select([worker], [], [], 60)[0]  # it ends with its driver
            os.close(worker)
        killed += len(workers)  # Workers do not wait for the driver's reports, so that they may have done all parts.
        seen.append(parts_in(out))
    assert killed and seen[0] <= seen[1] <= seen[2] and len(seen[2]) >= 3  # finished parts are kept

    refused = mien("batch", album, "--out", out, *SLOW)
    assert refused.returncode == 1 and all(fact in refused.stderr for fact in ("--resume", str(out), str(len(seen[2]))))
    times = {name: (out / "rows" / name).stat().st_mtime_ns for name in seen[2]}
    done = mien("batch", album, "--out", out, *SLOW, "--resume")
    assert done.returncode == 0, done.stderr
    assert all((out / "rows" / name).stat().st_mtime_ns == then for name, then in times.items())  # no part was written again
    assert bytes_of(out) == bytes_of(whole)
    assert not [path for path in (out / "rows").iterdir() if path.name.startswith(".")]


def test_another_process_does_not_write_beside_us(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["batch", album, "--out", out, *SLOW, "--workers", 1]
    with driver(album, out, workers=1) as (process, progress):
        assert next(progress)
        process.send_signal(signal.SIGSTOP)
        refused = mien(*arguments, "--resume")
        assert refused.returncode == 1 and str(out) in refused.stderr.splitlines()[-1]
    assert mien(*arguments, "--resume").returncode == 0  # the lock ended with its holder
    assert (out / "summary.json").is_file() and not (out / ".lock").exists()


def test_a_corrupt_part_is_written_again(album: Path, whole: Path, tmp_path: Path) -> None:
    """As after a full disk or a power failure."""
    out = shutil.copytree(whole, tmp_path / "out")
    (out / "rows" / "part-00002.parquet").write_bytes((whole / "rows" / "part-00002.parquet").read_bytes()[:500])
    (out / "rows" / "part-00004.parquet").unlink()
    assert batch([str(album)], out, QUICK, workers=1, shard_size=8, resume=True).new == 2
    assert bytes_of(out) == bytes_of(whole)


@pytest.fixture
def trap(album: Path) -> Iterator[str]:
    """Address of a server whose images called "poison" kill the workers that request them."""
    with trapping(album, "poison", signal.SIGKILL) as address:
        yield address


def test_files_that_crash_their_worker_are_reported(trap: str, album: Path, tmp_path: Path) -> None:
    """One in the middle of a group and one at the end of the shard; the others are processed."""
    names = [f"{trap}/{'poison' if number in (10, 23) else 'good'}{number}.jpg" for number in range(24)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    options = Options(points="none", blendshapes=False, allow_private=True)
    summary = batch([f"@{tmp_path}/names.txt"], tmp_path / "out", options, workers=1, shard_size=24)
    assert summary.status == {"ok": 22, "unreadable": 2}
    bad = failures(tmp_path / "out")
    assert list(bad) == [names[10], names[23]]
    assert len(set(bad.values())) == 1 and "SIGKILL" in bad[names[10]]
    found = rows(tmp_path / "out")
    assert [row["source"] for row in found] == names
    lone = batch([str(album / "face 1.jpg")], tmp_path / "lone", options, workers=1)
    assert lone.faces == 1
    scores = rows(tmp_path / "lone")[0]["score_happiness"]
    assert all(abs(row["score_happiness"] - scores) < 1e-5 for row in found if row["status"] == "ok")


def parts_in(out: Path) -> set[str]:
    return {path.name for path in (out / "rows").glob("part-*.parquet")}


DRIVER = """
import sys
from mien.batch import Options, batch

options, workers = Options(points="none", blendshapes=False), int(sys.argv[3])


def report(done, *more):
    print(done, flush=True)
    sys.stdin.readline()


batch([sys.argv[1]], sys.argv[2], options, workers=workers, shard_size=8, resume=True, progress=report)
"""


@contextlib.contextmanager
def driver(album: Path, out: Path, workers: int) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[bytes]]]:
    """A process that does what `mien batch` does, waiting after each report until the next is read; killed at the end."""
    command = [sys.executable, "-c", DRIVER, album, out, str(workers)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:

        def progress() -> Iterator[bytes]:
            assert process.stdin and process.stdout
            for line in process.stdout:
                yield line
                process.stdin.write(b"\n")
                process.stdin.flush()

        try:
            yield process, progress()
        finally:
            process.kill()
