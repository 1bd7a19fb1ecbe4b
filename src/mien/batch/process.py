"""A worker process, what is said to it, and what it answers in time or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import IO, Any

ENDING = 10.0
"""Seconds for a process to end, asked to or killed. One that waits for a dead disk may not even then: it is left behind."""


class Process:
    """`mien.batch.worker` in a process of its own. Used by one thread; only `kill` may be called from others.

    Answers are taken in by a thread, so that the one who waits for them can stop waiting: a process that is stopped, or hangs
    in a decoder, says nothing and does not end either.

    Args:
        threads: of numeric libraries.
        cwd: the folder that relative names start from; None: this one.
        errors: file for what it prints.
    """

    def __init__(self, threads: int, cwd: str | None, errors: IO[bytes]) -> None:
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100 - "" is this folder
        numeric = {name: str(threads or os.cpu_count()) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from mien.batch.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=cwd,
            env={**os.environ, **numeric, "PYTHONPATH": path},
        )
        self._lines = queue.SimpleQueue[bytes]()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def say(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            BrokenPipeError: it has ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self, limit: float | None = None) -> dict[str, Any] | None:
        """Return the next answer; None when there will be none, a torn one included.

        Args:
            limit: seconds to wait for it; None: as long as it takes.

        Raises:
            TimeoutError: there was none in time.
        """
        try:
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            raise TimeoutError from None
        return json.loads(line) if line.endswith(b"\n") else None

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self) -> None:
        """Let it end, and end it if it does not."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._wait()
        self._listener.join(ENDING)

    def epitaph(self) -> str:
        """End it, if it has not ended, and say how it did."""
        self._process.kill()  # it may have closed its stdout and gone on
        status = self._wait()
        if status is None:
            return "the process that read it cannot be ended"
        if status >= 0:
            return f"the process that read it ended with status {status}"
        name = signal.Signals(-status).name if -status in signal.valid_signals() else str(-status)
        hint = ", as happens when memory runs out" if name == "SIGKILL" else ""
        return f"the process that read it was ended by {name}{hint}"

    def _wait(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(ENDING)
        return None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            for line in answers:
                self._lines.put(line)
        self._lines.put(b"")
