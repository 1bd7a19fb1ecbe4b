"""A server that is told to end answers what it has accepted, in a real process with a real signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from server import Server

from mien.serving.metrics import resident_bytes
from waiting import until


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered(jpeg: bytes, tmp_path: Path, sign: int) -> None:
    server = Server("--threads", 1, TMPDIR=str(tmp_path))
    with server.client() as client:
        assert client.post("/v1/predict", files={"images": jpeg}).status_code == 200
        accepted = threading.Barrier(9)

        def ask(_: int) -> int:
            with server.client() as own:
                own.get("/healthz")  # connected
                accepted.wait()
                return own.post("/v1/predict", files=[("images", (f"{i}.jpg", jpeg)) for i in range(8)]).status_code

        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(ask, i) for i in range(8)]
            accepted.wait()
            until(lambda: _waiting(client) or all(answer.done() for answer in answers))
            server.process.send_signal(sign)
            statuses = [answer.exception() or answer.result() for answer in answers]
        # whoever had not yet sent its request when the signal came may find the door closed, nobody gets half an answer
        assert statuses.count(200) >= 1
        assert all(
            status == 200 or type(status).__name__ in ("RemoteProtocolError", "ConnectError", "ReadError")
            for status in statuses
        )
    # where the tests run in a shell's background, SIGINT is ignored when uvicorn raises it once more at the end
    assert server.stop() in ((0,) if sign == signal.SIGTERM else (0, 130))
    assert list(tmp_path.glob("mien-serving-*")) == []
    assert not any("Traceback" in line for line in server.errors), server.errors


def _waiting(client: object) -> float:
    text = client.get("/metrics").text  # type: ignore[attr-defined]
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("mien_queue_images "))


def test_wrong_starts_are_one_line(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    for arguments, why in [
        (["--model", "mien-bas"], "did you mean 'mien-base'"),
        (["--detector", "blazefac"], "did you mean 'blazeface'"),
        (["--host", "no-such-host.invalid"], "cannot listen"),
        (["--port", "99999"], "cannot listen"),
        (["--token", "a b"], "token"),
        (["--cors", "example.org"], "no origin"),
        (["--token-file", "/no/such/file"], "cannot be read"),
        (["--workers", "0"], "workers is 0"),
    ]:
        command = [sys.executable, "-m", "mien", "serve", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
        assert done.returncode == 1 and why in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert list(tmp_path.glob("mien-serving-*")) == []


def test_memory_is_told() -> None:
    assert resident_bytes() > 1e7
