"""Whoever answers for a worker process: it is replaced when it dies or hangs, and the file that did it is found.

A shard whose worker died is tried once more, by a new worker. If that dies, too, the pieces of the shard are tried, halved
again and again, beginning with the few items that were under way: an item that alone ends two workers is reported as a failure,
and the shard is read without it. What was killed from outside passes the second time, so nothing is accused that merely was
there. A worker that gives no sign of life for too long is killed, and counts as one that died.
"""

from __future__ import annotations

import math
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Self

from ..errors import MienError
from ..inference.recognizer import BATCH
from .process import Process
from .shards import WRITING

TIMEOUT = 300.0
"""Seconds without a sign of life after which a worker is ended: no image within the limit of pixels takes nearly as long."""

PATIENCE = 300.0
"""The same, at least, for what is no image's fault: loading networks, finding a shard in the listing, writing its part."""

PAUSES = (0.0, 0.0, 0.5, 2.0, 5.0)
"""Seconds before each try to get a worker ready, when others died before they were: memory that is short may be free again."""

ROUNDS = 8
"""Times in a row that a shard is tried and none of its pieces is found guilty."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended in the middle of its work."""

    at: int
    """Place of the item that it had begun last."""
    why: str
    """One line."""


class Supervisor:
    """Reads shards in a process of its own. Used by one thread; only `kill` may be called from others.

    Args:
        folder: of the job.
        threads: of one network call; numeric libraries in the worker get no more.
        tell: called with the place of the item that is being read, as it goes.
        cwd: the folder that relative names start from; None, or where there is no such folder: this one.
        timeout: seconds that may go by until the next image is begun, or the next frame of a video is read.
    """

    def __init__(
        self,
        folder: str,
        threads: int = 1,
        tell: Callable[[int], None] = lambda at: None,
        cwd: str | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.folder, self.threads, self.tell, self.timeout = folder, threads, tell, timeout
        self.cwd = cwd if cwd and os.path.isdir(cwd) else None  # noqa: PTH112 - one line
        self.lost = 0
        """Workers that died."""
        self._process: Process | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        self._lock = threading.Lock()
        self._ended = False

    @property
    def pid(self) -> int | None:
        """Number of the worker process, None between two."""
        return None if self._process is None else self._process.pid

    def read(self, shard: int, items: int) -> dict[str, Any]:
        """Read a shard of so many items, write its part, and return its tally.

        Raises:
            MienError: it cannot be read at all: no worker becomes ready, the folder cannot be written.
        """
        skip: dict[int, str] = {}
        idle = 0
        while idle < ROUNDS:
            places = []
            for _ in range(2):
                end = self._ask({"shard": shard, "skip": skip})
                if not isinstance(end, Death):
                    return end
                places.append(max(end.at, 0))
            found = self._find(shard, items, skip, *places)
            idle = 0 if found else idle + 1
            skip |= found
        raise MienError(
            f"shard {shard} has ended {2 * ROUNDS} workers, and none of its items alone does so. "
            "Give fewer --workers or a smaller --shard-size, then --resume"
        )

    def kill(self) -> None:
        """End the worker at once, and start no other."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Let the worker end."""
        self._bury()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _find(self, shard: int, items: int, skip: dict[int, str], first: int, last: int) -> dict[int, str]:
        """Return the items that end whoever reads them, looked for where two workers ended, around it, and everywhere.

        The item begun last died alone if it was being decoded; if it was in a network, any of its group may have done it.
        """
        group = max(0, last + 1 - BATCH)
        return (
            self._guilty(shard, last, last + 1, skip, sure=first == last)
            or self._guilty(shard, group, last + 1, skip)
            or self._guilty(shard, 0, items, skip)
        )

    def _guilty(self, shard: int, start: int, stop: int, skip: dict[int, str], *, sure: bool = False) -> dict[int, str]:
        """Return the items of a piece that end whoever reads them, each with the reason; `sure` asks a lone item only once."""
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
        stage, limit = "the listing was read", max(PATIENCE, self.timeout)
        try:
            process.say(task)
            while (answer := process.hear(_seconds(limit))) is not None:
                if "at" in answer:
                    began = answer["at"] != WRITING
                    stage, limit = ("", self.timeout) if began else ("its part was written", max(PATIENCE, self.timeout))
                    at = max(at, answer["at"])
                    self.tell(at)
                elif "done" in answer:
                    return answer["done"]
                elif "failed" in answer:
                    return Death(at, f"reading it failed: {answer['failed']}")
                else:
                    raise MienError(answer["error"])
        except BrokenPipeError:
            pass
        except TimeoutError:
            self._end(process)
            if not began:
                raise MienError(
                    f"nothing was heard for {limit:g} seconds while {stage} (shard {task['shard']} of {self.folder}); "
                    "see that the storage answers, then --resume"
                ) from None
            return Death(at, f"it was not read within {limit:g} seconds (--timeout)")
        return Death(at, self._end(process))

    def _ready(self) -> Process:
        """Return a worker that has loaded its networks."""
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
                    f"a worker has not loaded its networks after {PATIENCE:g} seconds; see that its disk answers"
                ) from None
            if answer is not None and "ready" in answer:
                return process
            if answer is not None:
                raise MienError(answer["error"])
            why = self._end(process)
        raise MienError(f"a worker ends before it is ready ({why}){self._last_words()}; fewer --workers need less memory")

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
        """Count a worker as lost and say how it ended."""
        self.lost += 1
        return process.epitaph()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""


def _seconds(limit: float) -> float | None:
    """Return a limit as waiting takes it."""
    return None if math.isinf(limit) else limit
