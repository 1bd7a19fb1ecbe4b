"""One worker process and whoever answers for it: it is replaced when it dies, and the file that kills it is found.

A shard whose worker died is tried once more, by a new worker. If that dies, too, the pieces of the shard are tried, halved
again and again, beginning with the few items that were under way: an item that alone ends two workers is reported as a failure,
and the shard is read without it. What was killed from outside passes the second time, so nothing is accused that merely was
there.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Self

from ..errors import MienError
from ..streaming import BATCH

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
    """

    def __init__(
        self, folder: str, threads: int = 1, tell: Callable[[int], None] = lambda at: None, cwd: str | None = None
    ) -> None:
        self.folder, self.threads, self.tell = folder, threads, tell
        self.cwd = cwd if cwd and os.path.isdir(cwd) else None  # noqa: PTH112 - one line
        self.lost = 0
        """Workers that died."""
        self._process: subprocess.Popen[bytes] | None = None
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
        process, at = self._ready(), -1
        try:
            self._say(process, task)
            while (answer := self._hear(process)) is not None:
                if "at" in answer:
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
        return Death(at, self._epitaph(process))

    def _ready(self) -> subprocess.Popen[bytes]:
        """Return a worker that has loaded its networks."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        why = ""
        for pause in PAUSES:
            time.sleep(pause)
            process = self._start()
            try:
                self._say(process, {"folder": self.folder})
                answer = self._hear(process)
            except BrokenPipeError:
                answer = None
            if answer is not None and "ready" in answer:
                return process
            if answer is not None:
                raise MienError(answer["error"])
            why = self._epitaph(process)
        raise MienError(f"a worker ends before it is ready ({why}){self._last_words()}; fewer --workers need less memory")

    def _start(self) -> subprocess.Popen[bytes]:
        self._bury()
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100 - "" is this folder
        numeric = {name: str(self.threads or os.cpu_count()) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        with self._lock:
            if self._ended:
                raise MienError("the run was stopped")
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from mien.scaling.worker import main; main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                cwd=self.cwd,
                env={**os.environ, **numeric, "PYTHONPATH": path},
            )
        return self._process

    def _bury(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _epitaph(self, process: subprocess.Popen[bytes]) -> str:
        """Count a worker as lost and say how it ended."""
        process.kill()  # it may have closed its stdout and gone on
        status = process.wait()
        self.lost += 1
        if status >= 0:
            return f"the process that read it ended with status {status}"
        name = signal.Signals(-status).name if -status in signal.valid_signals() else str(-status)
        hint = ", as happens when memory runs out" if name == "SIGKILL" else ""
        return f"the process that read it was ended by {name}{hint}"

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""

    @staticmethod
    def _say(process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()

    @staticmethod
    def _hear(process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
        """Return the next answer; None when there will be none, a torn one included."""
        assert process.stdout is not None
        line = process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None
