"""What threads and processes of a server share: the queue of images, and the numbers that are added up."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mien.serving.batcher import Batcher, _Waiting
from mien.serving.bodies import Budget, File
from mien.serving.metrics import Metrics, Shared, lives
from mien.serving.options import Options
from mien.serving.problems import Problem
from mien.serving.readers import Key
from mien.serving.settings import Limits, Settings


def test_numbers_are_written_by_several_threads(tmp_path: Path) -> None:
    """Those who ask for metrics, while the process writes them for the others."""
    shared = Shared(tmp_path, Metrics())
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: shared.render(), range(400)))
    assert all("process_cpu_seconds_total" in text for text in texts)


def test_of_a_process_that_has_ended_counts_stay_and_gauges_go(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    metrics = Metrics()
    metrics.count("mien_images_total", 3, status="ok")
    metrics.gauge("mien_queue_images", lambda: 5)
    (tmp_path / f"metrics-{ended.pid}.json").write_text(json.dumps(metrics.to_dict()))
    metrics = Metrics()
    metrics.count("mien_images_total", 4, status="ok")
    metrics.gauge("mien_queue_images", lambda: 2)
    lines = Shared(tmp_path, metrics).render().splitlines()
    assert 'mien_images_total{status="ok"} 7' in lines and "mien_queue_images 2" in lines


def test_a_process_is_not_ended_to_see_whether_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows `os.kill` ends it, whatever the signal."""
    monkeypatch.setattr("mien.serving.metrics.sys.platform", "win32")
    monkeypatch.setattr("mien.serving.metrics.os.kill", lambda *_: pytest.fail("killed"))
    monkeypatch.setattr("mien.serving.metrics._lives_on_windows", lambda process: process == 7)
    assert lives(7) and not lives(8)


def test_fetches_that_were_given_up_keep_no_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go on in their threads, which are not those that other work is done in."""
    go_on, fetching = threading.Event(), []

    def slow(url: str, **_: Any) -> bytes:
        fetching.append(url)
        go_on.wait(60)
        return b""

    monkeypatch.setattr("mien.serving.batcher.fetch", slow)
    readers: Any = SimpleNamespace(key=lambda options: Key("m", 0, False, 1, False))
    batcher = Batcher(readers, Settings(threads=1, limits=Limits(seconds=0.3)), Metrics())

    async def ask() -> None:
        urls = [File("x", url=f"https://example.org/{number}") for number in range(32)]
        for _ in range(5):
            with pytest.raises(Problem, match="took longer"):
                await batcher.read(urls, Options(), Budget(1000))
        assert len(fetching) == 8
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 5), 20) == 5
        go_on.set()

    try:
        asyncio.run(ask())
    finally:
        go_on.set()
        batcher.close()


def test_a_thread_outlives_any_number_of_requests_that_were_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(Batcher, "_read", lambda self, batch: read.extend(item.file.name for item in batch))
    some_wait, looks = Batcher._some_wait, threading.Semaphore(0)

    def told(self: Batcher) -> bool:
        looks.release()  # the thread is done with what it had, and looks for more
        return some_wait(self)

    monkeypatch.setattr(Batcher, "_some_wait", told)
    batcher = Batcher(None, Settings(threads=1), Metrics())  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()

    def wait(name: str, *, given_up: bool) -> None:
        answer: Any = loop.create_future()
        if given_up:
            answer.cancel()
        with batcher._changed:
            batcher._waiting.append(_Waiting(File(name), Key("m", 0, False, 1, False), "5", answer, loop))
            batcher._changed.notify_all()
        assert looks.acquire(timeout=60) and not batcher._waiting

    failed: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    assert looks.acquire(timeout=60)
    for number in range(sys.getrecursionlimit() + 100):
        wait(str(number), given_up=True)
        assert not failed
    wait("one that waits", given_up=False)
    batcher.close()
    assert read == ["one that waits"]
    loop.close()
