"""Supervision of a worker process: it is restarted when it crashes or hangs, and the responsible file is isolated.

A shard whose worker crashed is retried by a new worker. If that crashes too, the shard is bisected, starting with the items in
progress: an item that alone crashes two workers is reported as a failure, and the shard is processed without it. A worker that
was killed from outside succeeds on the second try, so no item is blamed by coincidence. A worker without a heartbeat for too
long is killed and counts as crashed.
"""

from __future__ import annotations

import math
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from ..errors import MienError
from ..inference.recognizer import BATCH
from .process import Process
from .shards import WRITING

TIMEOUT = 300.0
"""Seconds without a heartbeat after which a worker is killed; no image within the pixel limit takes nearly as long."""

PATIENCE = 300.0
"""Minimum of the same limit while no image is processed: loading networks, reading the listing, writing a part."""

PAUSES = (0.0, 0.0, 0.5, 2.0, 5.0)
"""Seconds before each attempt to start a worker after a failed start, for example while memory is short."""

ROUNDS = 8
"""Consecutive attempts at a shard without an isolated item, before giving up."""


@dataclass(frozen=True, slots=True)
class Death:
    """Crash of a worker."""

    at: int
    """Index of the item it had started last."""
    why: str
    """Reason in one line."""


class Supervisor:
    """Processes shards in a worker process. Not thread-safe, except for `kill`.

    Args:
        folder: folder of the job.
        threads: threads of one network call and of numeric libraries in the worker.
        tell: called with this object and the index of the current item.
        cwd: working directory of the worker; None or a missing folder: the current one.
        timeout: seconds until the next image must be started or the next frame of a video read.
    """

    def __init__(
        self,
        folder: str,
        threads: int = 1,
        tell: Callable[[Supervisor, int], None] = lambda keeper, at: None,
        cwd: str | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.folder, self.threads, self.tell, self.timeout = folder, threads, tell, timeout
        self.cwd = cwd if cwd and os.path.isdir(cwd) else None  # noqa: PTH112 - one line
        self.lost = 0
        """Number of crashed workers."""
        self._process: Process | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        self._lock = threading.Lock()
        self._ended = False

    def read(self, shard: int, items: int) -> tuple[dict[str, Any], int]:
        """Process a shard with this number of items, write its part, and return its tally and how many workers it crashed.

        Raises:
            MienError: no worker starts, or the folder cannot be written.
        """
        skip: dict[int, str] = {}
        idle, before = 0, self.lost
        while idle < ROUNDS:
            places = []
            for _ in range(2):
                end = self._ask({"shard": shard, "skip": skip})
                if not isinstance(end, Death):
                    return end, self.lost - before
                places.append(max(end.at, 0))
            found = self._find(shard, items, skip, *places)
            idle = 0 if found else idle + 1
            skip |= found
        raise MienError(
            f"shard {shard} crashed {2 * ROUNDS} workers, but none of its items alone does. "
            "Use fewer --workers or a smaller --shard-size, then --resume",
            value=shard,
        )

    def kill(self) -> None:
        """Kill the worker and start no other."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Shut down the worker."""
        self._bury()
        self._errors.close()

    def _find(self, shard: int, items: int, skip: dict[int, str], first: int, last: int) -> dict[int, str]:
        """Return the items that crash workers: search at the last started item, then in its batch, then in the whole shard.

        A crash in the decoder is due to the item started last; a crash during inference may be due to any item of its batch.
        """
        group = max(0, last + 1 - BATCH)
        return (
            self._guilty(shard, last, last + 1, skip, sure=first == last)
            or self._guilty(shard, group, last + 1, skip)
            or self._guilty(shard, 0, items, skip)
        )

    def _guilty(self, shard: int, start: int, stop: int, skip: dict[int, str], *, sure: bool = False) -> dict[int, str]:
        """Return the items of a slice that crash workers, with reasons; `sure` tries a single item only once."""
        if start >= stop or all(place in skip for place in range(start, stop)):
            return {}
        task = {"shard": shard, "skip": skip, "start": start, "stop": stop}
        if not isinstance(end := self._ask(task), Death):
            return {}
        if stop - start == 1:
            again = end if sure else self._ask(task)
            return {start: again.why} if isinstance(again, Death) else {}
        middle = (start + stop) // 2
        return self._guilty(shard, start, middle, skip) | self._guilty(shard, middle, stop, skip)

    def _ask(self, task: dict[str, Any]) -> dict[str, Any] | Death:
        process, at, began = self._ready(), -1, False
        stage, limit = "reading the listing", max(PATIENCE, self.timeout)
        try:
            process.say(task)
            while (answer := process.hear(_seconds(limit))) is not None:
                if "at" in answer:
                    began = answer["at"] != WRITING
                    stage, limit = ("", self.timeout) if began else ("writing its part", max(PATIENCE, self.timeout))
                    at = max(at, answer["at"])
                    self.tell(self, at)
                elif "done" in answer:
                    return answer["done"]
                elif "failed" in answer:
                    return Death(at, f"processing failed: {answer['failed']}")
                else:
                    raise MienError(answer["error"])
        except BrokenPipeError:
            pass
        except TimeoutError:
            self._end(process)
            if not began:
                raise MienError(
                    f"no response for {limit:g} seconds while {stage} (shard {task['shard']} of {self.folder}); "
                    "check that the storage responds, then --resume",
                    path=self.folder,
                    value=task["shard"],
                ) from None
            return Death(at, f"timed out after {limit:g} seconds (--timeout)")
        return Death(at, self._end(process))

    def _ready(self) -> Process:
        """Return a worker with loaded networks."""
        if self._process is not None and self._process.runs:
            return self._process
        why = ""
        for pause in PAUSES:
            time.sleep(pause)
            process = self._start()
            try:
                process.say({"folder": self.folder})
                answer = process.hear(_seconds(max(PATIENCE, self.timeout)))
            except BrokenPipeError:
                answer = None
            except TimeoutError:
                self._end(process)
                raise MienError(
                    f"a worker did not load its networks within {PATIENCE:g} seconds; check that its disk responds"
                ) from None
            if answer is not None and "ready" in answer:
                return process
            if answer is not None:
                raise MienError(answer["error"])
            why = self._end(process)
        raise MienError(f"a worker exits at startup ({why}){self._last_words()}; fewer --workers need less memory")

    def _start(self) -> Process:
        self._bury()
        with self._lock:
            if self._ended:
                raise MienError("the run was stopped")
            self._process = Process(self.threads, self.cwd, self._errors)
        return self._process

    def _bury(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def _end(self, process: Process) -> str:
        """Count a worker as crashed and describe how it ended."""
        self.lost += 1
        return process.epitaph()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""


def _seconds(limit: float) -> float | None:
    """Return a limit as a timeout of `queue.get`."""
    return None if math.isinf(limit) else limit
