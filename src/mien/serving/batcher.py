"""Dynamic batching: the images of all requests wait in one queue, and threads run inference on a batch at a time.

A batch consists of waiting images that can share the network calls (`readers.Key`). While a batch is not full and other
requests are arriving, a thread waits for them, at most `Settings.wait`; otherwise it begins at once, so a single request is
not delayed. The queue is bounded: when it is full, requests are rejected with Retry-After.
"""

import asyncio
import contextlib
import functools
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ..errors import SourceError
from ..inference.recognizer import Recognizer
from ..inference.results import json_line
from ..io.sources import Frame
from ..io.urls import fetch
from ..types import Group, Points
from .metrics import Metrics
from .problems import Problem, busy, unforeseen
from .readers import Key, Readers
from .requests import Budget, File
from .schemas import Options
from .settings import Settings

PIXELS = 32_000_000  # pixels that a thread decodes before inference: bounds the memory of a batch
FETCHING = 8  # concurrent fetches of URLs


@dataclass(eq=False, slots=True)
class _Waiting:
    """One image in the queue."""

    file: File
    key: Key
    shown: tuple[Points, tuple[Group, ...]]
    answer: asyncio.Future[str]
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """The queue and its threads. `read` is called from an event loop."""

    def __init__(self, readers: Readers, settings: Settings, metrics: Metrics) -> None:
        self.readers, self.settings, self.metrics = readers, settings, metrics
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._arriving = self._idle = 0
        self._closed = False
        self._pace = 0.05  # moving average of the seconds per image
        # A separate pool: a fetch that timed out keeps its thread, and must not block those of asyncio.
        self._fetching = ThreadPoolExecutor(FETCHING, "mien fetching")
        self._threads = [
            threading.Thread(target=self._work, name=f"mien inference {i}", daemon=True) for i in range(settings.threads)
        ]
        for thread in self._threads:
            thread.start()

    @contextlib.contextmanager
    def arriving(self) -> Iterator[None]:
        """Announce a request, so that a batch may wait for it."""
        self._arrives(+1)
        try:
            yield
        finally:
            self._arrives(-1)

    def _arrives(self, count: int) -> None:
        with self._changed:
            self._arriving += count
            self._changed.notify_all()

    async def read(self, files: Sequence[File], options: Options, budget: Budget) -> list[str]:
        """Return one line of JSON for each image or URL, in order; Problem if the queue or budget is full or time is up."""
        key, limits = self.readers.key(options), self.settings.limits
        answers: list[asyncio.Future[str]] = []
        fetching = [asyncio.ensure_future(self._fetched(file, budget)) for file in files]
        try:
            async with asyncio.timeout(limits.seconds):
                files = await asyncio.gather(*fetching)
                answers = self._enqueue(files, key, options.shown)
                return await asyncio.gather(*answers)
        except TimeoutError:
            detail = f"inference took longer than {limits.seconds:g} seconds; send fewer or smaller images, or retry later"
            raise Problem("time-out", detail, {"Retry-After": "5"}) from None
        finally:
            for each in (*fetching, *answers):  # a fetch that continued would charge a budget that was released
                each.cancel()

    async def _fetched(self, file: File, budget: Budget) -> File:
        if file.url is None:
            return file
        limits = self.settings.limits
        ask = functools.partial(fetch, file.url, max_bytes=limits.image_bytes, timeout=limits.seconds / 2)
        try:
            data = await asyncio.get_running_loop().run_in_executor(self._fetching, ask)
        except SourceError:  # the reason is withheld: it would reveal hosts of the internal network
            return file
        budget.take(len(data))
        return File(file.name, data)

    def _enqueue(self, files: Sequence[File], key: Key, shown: tuple[Points, tuple[Group, ...]]) -> list[asyncio.Future[str]]:
        loop = asyncio.get_running_loop()
        items = [_Waiting(file, key, shown, loop.create_future()) for file in files]
        with self._changed:
            if self._closed:
                raise busy("the server is shutting down", 5)
            if len(self._waiting) + len(items) > self.settings.limits.queue:
                seconds = self._pace * len(self._waiting) / len(self._threads)
                raise busy("the queue is full; retry after the time in Retry-After", seconds)
            self._waiting.extend(items)
            self.metrics.queue.set(len(self._waiting))
            self._changed.notify_all()
        return [item.answer for item in items]

    def close(self, seconds: float = 30) -> None:
        """Stop accepting, process the queue, and return."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._fetching.shutdown(wait=False, cancel_futures=True)
        for thread in self._threads:
            thread.join(seconds)

    # ── the threads ──

    def _work(self) -> None:
        while batch := self._take():
            started = time.monotonic()
            for item in batch:
                self.metrics.waited.observe(started - item.since)
            self.metrics.batches.observe(len(batch))
            self._read(batch)
            self._pace += 0.1 * ((time.monotonic() - started) / len(batch) - self._pace)

    def _take(self) -> list[_Waiting]:
        """Return the next batch; an empty one at shutdown."""
        with self._changed:
            self._idle += 1
            batch: list[_Waiting] = []
            while not batch and self._some_wait():  # repeated where all requests of a batch were canceled
                # the queue is shared among the idle threads
                most = min(self.settings.batch, math.ceil(len(self._waiting) / self._idle))
                key, rest = self._waiting[0].key, []
                while self._waiting and len(batch) < most:
                    item = self._waiting.popleft()
                    if not item.answer.cancelled():
                        (batch if item.key == key else rest).append(item)
                self._waiting.extendleft(reversed(rest))
                self.metrics.queue.set(len(self._waiting))
            self._idle -= 1
            return batch

    def _some_wait(self) -> bool:
        """Wait until there is a batch to take, with the lock held; return False at shutdown."""
        while True:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return False
            left = self._waiting[0].since + self.settings.wait - time.monotonic()
            if self._closed or left <= 0 or not self._arriving or len(self._waiting) >= self.settings.batch:
                return True
            self._changed.wait(left)

    def _read(self, batch: list[_Waiting]) -> None:
        try:
            reader = self.readers(batch[0].key)
            part: list[tuple[_Waiting, Frame]] = []
            pixels = 0
            for item in batch:
                frame = self._decoded(item.file)
                part.append((item, frame))
                pixels += frame.image.width * frame.image.height if frame.image else 0
                if pixels > PIXELS:
                    self._answer(reader, part)
                    part, pixels = [], 0
            self._answer(reader, part)
        except Exception as error:
            if len(batch) == 1:
                _deliver([(batch[0], unforeseen(error))])
            else:  # run each alone, so that only the request of the bad image fails
                for item in batch:
                    if not item.answer.done():
                        self._read([item])

    def _decoded(self, file: File) -> Frame:
        if file.url is not None:
            return Frame(0, file.name, error=SourceError(f"{file.name} could not be fetched from a public address"))
        frame = Frame.decoded(0, file.name, file.data, self.settings.limits.pixels)
        if frame.error is None:
            return frame
        return Frame(0, file.name, error=SourceError(str(frame.error).replace(" or raise max_pixels", "")))  # no client can

    def _answer(self, reader: Recognizer, part: list[tuple[_Waiting, Frame]]) -> None:
        if not part:
            return
        answers: list[tuple[_Waiting, str | Problem]] = []
        results = reader.many((frame for _, frame in part), batch=len(part))
        for (item, _), result in zip(part, results, strict=True):
            self.metrics.images.labels(result.status).inc()
            for face in result.faces:
                self.metrics.faces.labels(str(face.certain).lower()).inc()
            answers.append((item, json_line(result, *item.shown).rstrip("\n")))
        _deliver(answers)


def _deliver(answers: Sequence[tuple[_Waiting, str | Problem]]) -> None:
    """Deliver results to the event loops of their requests, unless a request is gone."""

    def settle(answer: asyncio.Future[str], value: str | Problem) -> None:
        if not answer.done():
            answer.set_exception(value) if isinstance(value, Problem) else answer.set_result(value)

    for item, value in answers:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            item.answer.get_loop().call_soon_threadsafe(settle, item.answer, value)
