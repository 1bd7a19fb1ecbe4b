"""State shared by the threads and processes of a server: the queue of images, and the metrics."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mien.serving.batcher import Batcher, _Waiting
from mien.serving.metrics import Metrics, process_exists
from mien.serving.problems import Problem
from mien.serving.readers import Key
from mien.serving.requests import Budget, File
from mien.serving.schemas import Options
from mien.serving.settings import Limits, Settings

SEVERAL = """
import os, sys
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
from mien.serving.metrics import Metrics
metrics = Metrics()
metrics.images.labels("ok").inc(float(sys.argv[2]))
metrics.queue.set(float(sys.argv[3]))
print(metrics.render().decode())
"""


def test_counters_of_ended_processes_stay_and_gauges_go(tmp_path: Path) -> None:
    for count, queue, total in [(3, 5, 3), (4, 2, 7)]:
        command = [sys.executable, "-c", SEVERAL, str(tmp_path), str(count), str(queue)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert f'mien_images_total{{status="ok"}} {total}.0' in text and f"mien_queue_images {queue}.0" in text


def test_os_kill_is_not_used_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """There it ends the process, whatever the signal."""
    monkeypatch.setattr("mien.serving.metrics.sys.platform", "win32")
    monkeypatch.setattr("mien.serving.metrics.os.kill", lambda *_: pytest.fail("killed"))
    monkeypatch.setattr("mien.serving.metrics._exists_on_windows", lambda process: process == 7)
    assert process_exists(7) and not process_exists(8)


def test_abandoned_fetches_do_not_block_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """They continue in threads of their own."""
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
            with pytest.raises(Problem) as problem:
                await batcher.read(urls, Options(), Budget(1000))
            assert problem.value.name == "time-out"
        assert len(fetching) == 8
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 5), 20) == 5
        go_on.set()

    try:
        asyncio.run(ask())
    finally:
        go_on.set()
        batcher.close()


def test_a_thread_survives_any_number_of_abandoned_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(Batcher, "_read", lambda self, batch: read.extend(item.file.name for item in batch))
    some_wait, looks = Batcher._some_wait, threading.Semaphore(0)

    def waits(self: Batcher) -> bool:
        looks.release()  # the thread is done with what it had, and looks for more
        return some_wait(self)

    monkeypatch.setattr(Batcher, "_some_wait", waits)
    batcher = Batcher(None, Settings(threads=1), Metrics())  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()

    def wait(name: str, *, given_up: bool) -> None:
        answer: Any = loop.create_future()
        if given_up:
            answer.cancel()
        with batcher._changed:
            batcher._waiting.append(_Waiting(File(name), Key("m", 0, False, 1, False), "5", answer))
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
