"""A real server in a process of its own, as a user starts it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx


class Server:
    """`mien serve` with these arguments, at a free port."""

    def __init__(self, *arguments: object, **variables: str) -> None:
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
        env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", **variables}
        line = [sys.executable, "-m", "mien", "serve", "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(line, stderr=subprocess.PIPE, env=env, encoding="utf-8")
        assert self.process.stderr is not None
        self.errors: list[str] = []
        self.url = ""
        for text in self.process.stderr:
            self.errors.append(text)
            if found := re.search(r"http://\S+", text):
                self.url = found[0].replace("0.0.0.0", "127.0.0.1")
                break
        threading.Thread(target=self._drain, daemon=True).start()
        if not self.url:
            raise RuntimeError("".join(self.errors))

    def _drain(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def client(self, **options: Any) -> httpx.Client:
        """A client; its first request waits in the socket until the models are open."""
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def stop(self, sign: int = signal.SIGTERM) -> int:
        """End the server and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(sign)
        status = self.process.wait(60)
        if self.process.stderr:
            self.process.stderr.close()
        return status


@contextlib.contextmanager
def in_thread(settings: Any) -> Iterator[str]:
    """A server in a thread of this process, with settings that the command does not offer; its URL."""
    import uvicorn

    from mien.serving.app import create

    server = uvicorn.Server(uvicorn.Config(create(settings), port=0, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@contextlib.contextmanager
def running(*arguments: object, **variables: str) -> Iterator[Server]:
    """A server for the length of a block."""
    server = Server(*arguments, **variables)
    try:
        yield server
    finally:
        server.stop()
