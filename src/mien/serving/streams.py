"""WS /v1/stream: camera frames in, results out.

    →  {"type": "open", "options": {…}, "token": "…"}        once, within ten seconds; all fields but the type are optional
    ←  {"type": "ready", "model": "mien-base 1", "labels": […]}
    →  a JPEG (or any image) as one binary message
    ←  {"type": "result", "frame": 1, "result": {…}}          frames are numbered from 1
    ←  {"type": "dropped", "frame": 2}                        a newer frame replaced this one in the queue
    ←  {"type": "error", "problem": {…}}                      then the stream is closed

Each frame has exactly one response, so that a client knows its backlog. One frame is processed and one waits; a newer one
replaces it. While a client does not read its responses, the server does not read its frames (backpressure).
"""

import asyncio
import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from starlette.websockets import WebSocket, WebSocketDisconnect

from ..inference.recognizer import Stream
from ..inference.results import json_line
from ..io.sources import Frame
from .admission import allows
from .metrics import Metrics
from .problems import Problem, busy, unforeseen
from .readers import Readers
from .requests import parse_object
from .schemas import StreamOptions
from .settings import Settings

OPENING = 10.0  # time limit of the first message in seconds
CODES = {"busy": 1013, "internal": 1011}  # name of a problem → WebSocket close code; all others are 1008 (policy violation)
NAME = "stream"  # `Result.source` of all frames


class _Waiting(NamedTuple):
    """The frame in the queue."""

    number: int
    time: float
    data: bytes


class Streams:
    """All streams of a process."""

    def __init__(self, readers: Readers, settings: Settings, metrics: Metrics) -> None:
        self.readers, self.settings, self.metrics = readers, settings, metrics
        self._open = 0
        self._pool = ThreadPoolExecutor(settings.limits.streams, "mien stream")

    async def serve(self, socket: WebSocket) -> None:
        """Serve one client until it disconnects."""
        await socket.accept()
        self._open += 1
        self.metrics.streams.inc()
        try:
            if self._open > self.settings.limits.streams:
                raise busy("too many streams are open; retry later", 10)
            await self._speak(socket)
        except Problem as problem:
            await _end(socket, problem)
        except (WebSocketDisconnect, RuntimeError):  # RuntimeError: sent after the client disconnected
            pass
        except Exception as error:
            await _end(socket, unforeseen(error))
        finally:
            self._open -= 1
            self.metrics.streams.dec()

    def close(self) -> None:
        """Wait for the frames being processed."""
        self._pool.shutdown(cancel_futures=True)

    async def _speak(self, socket: WebSocket) -> None:
        options = await self._opening(socket)
        # in a thread, since a model may be opened here
        reader = await asyncio.to_thread(self.readers, self.readers.key(options))
        stream = Stream(reader, detect_every=options.detect_every, smooth=None if options.smooth == "none" else options.smooth)
        await socket.send_text(json.dumps({"type": "ready", "model": reader.name, "labels": list(reader.card.labels)}))
        mailbox = asyncio.Queue[_Waiting](1)
        reading = asyncio.create_task(self._answer(socket, stream, options, mailbox))
        receiving = asyncio.create_task(self._receive(socket, mailbox))
        try:
            done, _ = await asyncio.wait((reading, receiving), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (reading, receiving):
                task.cancel()
            await asyncio.gather(reading, receiving, return_exceptions=True)

    async def _opening(self, socket: WebSocket) -> StreamOptions:
        try:
            async with asyncio.timeout(OPENING):
                message = await socket.receive()
        except TimeoutError:
            raise Problem("too-slow", "the first message did not arrive in time") from None
        if message["type"] != "websocket.receive":
            raise WebSocketDisconnect
        table = parse_object((message.get("text") or "")[:10_000])
        options = table.get("options", {})
        if table.get("type") != "open" or not isinstance(options, dict) or not table.keys() <= {"type", "options", "token"}:
            raise Problem("malformed", 'the first message must be {"type": "open", "options": {…}, "token": "…"}')
        if self.settings.tokens:
            kind, _, header = socket.headers.get("authorization", "").partition(" ")
            given = header.strip() if kind.lower() == "bearer" else str(table.get("token", ""))
            if not allows(self.settings.tokens, given):
                raise Problem("unauthorized", "send a token of this server in the first message")
        return StreamOptions.parse(options)

    async def _receive(self, socket: WebSocket, mailbox: asyncio.Queue[_Waiting]) -> None:
        number, started, limits = 0, time.monotonic(), self.settings.limits
        while True:
            try:
                async with asyncio.timeout(limits.idle_seconds):
                    message = await socket.receive()
            except TimeoutError:
                raise Problem("too-slow", f"no frame arrived within {limits.idle_seconds:g} seconds") from None
            if message["type"] != "websocket.receive":
                return
            data = message.get("bytes")
            if data is None:
                raise Problem("malformed", "after the first message, each message must be the bytes of one image")
            if len(data) > limits.frame_bytes:
                raise Problem("too-large", f"a frame exceeds the limit of {limits.frame_bytes:,} bytes")
            number += 1
            if mailbox.full():
                dropped = mailbox.get_nowait()
                self.metrics.frames.labels("dropped").inc()
                await socket.send_text(f'{{"type": "dropped", "frame": {dropped.number}}}')
            mailbox.put_nowait(_Waiting(number, time.monotonic() - started, data))

    async def _answer(
        self, socket: WebSocket, stream: Stream, options: StreamOptions, mailbox: asyncio.Queue[_Waiting]
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            waiting = await mailbox.get()
            text = await loop.run_in_executor(self._pool, self._text, stream, waiting, options)
            await socket.send_text(f'{{"type": "result", "frame": {waiting.number}, "result": {text}}}')

    def _text(self, stream: Stream, waiting: _Waiting, options: StreamOptions) -> str:
        """Return the result of a frame as JSON.

        An unexpected error becomes a Problem: a RuntimeError would otherwise be mistaken for that of a closed socket.
        """
        try:
            frame = Frame.decoded(waiting.number - 1, NAME, waiting.data, self.settings.limits.pixels, time=waiting.time)
            [(_, result)] = stream.push(frame)
            self.metrics.frames.labels("unreadable" if result.status == "unreadable" else "read").inc()
            return json_line(result, *options.shown).rstrip("\n")
        except Exception as error:
            raise unforeseen(error) from error


async def _end(socket: WebSocket, problem: Problem) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await socket.send_text(json.dumps({"type": "error", "problem": problem.to_dict()}))
        await socket.close(CODES.get(problem.name, 1008))
