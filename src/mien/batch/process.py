"""A worker process and its message pipe with timeouts."""

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
"""Seconds to wait for a process to exit. A process blocked on a dead disk may not exit even after SIGKILL; it is abandoned."""


class Process:
    """A subprocess that runs `mien.batch.worker`. Not thread-safe, except for `kill`.

    A thread receives the messages, so that waiting for them can time out: a process that is stopped or hangs in a decoder
    neither answers nor exits.

    Args:
        threads: threads of numeric libraries.
        cwd: working directory; None: the current one.
        errors: file that receives its stderr.
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
    def runs(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def say(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            BrokenPipeError: the process has exited.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self, limit: float | None = None) -> dict[str, Any] | None:
        """Return the next message; None after the process has exited or sent an incomplete line.

        Args:
            limit: seconds to wait; None: no limit.

        Raises:
            TimeoutError: no message arrived in time.
        """
        try:
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            raise TimeoutError from None
        return json.loads(line) if line.endswith(b"\n") else None

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def close(self) -> None:
        """Close its stdin, wait for its exit, and kill it if it does not exit."""
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
        """Kill the process if it is running and return a description of how it ended."""
        self._process.kill()  # It may have closed its stdout and still be running.
        status = self._wait()
        if status is None:
            return "its worker process cannot be killed"
        if status >= 0:
            return f"its worker process exited with status {status}"
        name = signal.Signals(-status).name if -status in signal.valid_signals() else str(-status)
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"its worker process was killed by {name}{hint}"

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
