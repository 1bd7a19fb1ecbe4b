"""Shutdown of a real server by a real signal: accepted requests are answered."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from server import Server
from websockets.sync.client import connect

from mien.cli.serve import _listen
from mien.serving.connections import HeadTimeout
from waiting import until


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_accepted_requests_are_answered(jpeg: bytes, tmp_path: Path, sign: int) -> None:
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
        # a request sent after the signal may find the socket closed, but no response is truncated
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
    for arguments, value in [
        (["--model", "mien-bas"], "mien-base"),
        (["--detector", "blazefac"], "blazeface"),
        (["--host", "no-such-host.invalid"], "no-such-host.invalid"),
        (["--port", "99999"], "99999"),
        (["--token", "a b"], "token"),
        (["--cors", "example.org"], "example.org"),
        (["--token-file", "/no/such/file"], "/no/such/file"),
        (["--workers", "0"], "--workers"),
    ]:
        command = [sys.executable, "-m", "mien", "serve", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
        assert done.returncode == 1 and value in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert list(tmp_path.glob("mien-serving-*")) == []


class _Impatient(HeadTimeout):
    seconds = 0.3


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer when the body is complete; a WebSocket gets its first message back."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


def test_slow_request_heads_time_out() -> None:
    """A client that does not complete its head is disconnected; a longer body and an open WebSocket are not."""
    server = uvicorn.Server(uvicorn.Config(_echo, http=_Impatient, log_level="error", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            whole, part = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: "
            for before, head in ((b"", b""), (b"", part), (whole, part)):
                with socket.create_connection(listening.getsockname(), timeout=30) as client:
                    client.sendall(before)
                    assert not before or client.recv(1000).startswith(b"HTTP/1.1 200 ")
                    client.sendall(head)
                    assert b"HTTP/1.1 408 " in b"".join(iter(lambda: client.recv(1000), b""))
            with socket.create_connection(listening.getsockname(), timeout=30) as client:
                for _ in range(2):
                    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
                    threading.Event().wait(3 * _Impatient.seconds)
                    client.sendall(b"x")
                    assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
            with connect(f"ws://127.0.0.1:{listening.getsockname()[1]}/", proxy=None) as client:
                threading.Event().wait(3 * _Impatient.seconds)
                client.send("still open")
                assert client.recv() == "still open"
        finally:
            server.should_exit = True
            thread.join(30)


def test_responses_are_not_delayed() -> None:
    """The listening socket has TCP_NODELAY behavior: asyncio sets it for sockets of protocol TCP only."""
    with contextlib.closing(_listen("127.0.0.1", 0)) as listening:
        assert listening.proto == socket.IPPROTO_TCP
