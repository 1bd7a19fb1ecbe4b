"""Camera frames over a WebSocket: the results of the Python API, one answer per frame, and errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from PIL import Image
from server import Server, in_thread
from test_predict_requests import same
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import mien
from conftest import to_jpeg
from mien.inference.recognizer import Recognizer
from mien.serving.readers import Readers
from mien.serving.settings import Limits, Settings
from mien.types import json_schema


@contextlib.contextmanager
def url_open(url: str, **options: Any) -> Iterator[ClientConnection]:
    with connect(url.replace("http", "ws") + "/v1/stream", proxy=None) as socket:
        with contextlib.suppress(ConnectionClosed):  # refused already; the refusal is still to be read
            socket.send(json.dumps({"type": "open", "options": options}))
        yield socket


def opened(server: Server, **options: Any) -> contextlib.AbstractContextManager[ClientConnection]:
    return url_open(server.url, **options)


def test_frames_are_read_as_images(server: Server, read: Recognizer, jpeg: bytes) -> None:
    """Each by itself and unsmoothed: what the API gives for the same bytes."""
    turned = to_jpeg(Image.open(mien.sample()).convert("RGB").resize((300, 300)).rotate(20))
    with opened(server, detect_every=1, smooth="none") as socket:
        ready = json.loads(socket.recv())
        assert ready == {"type": "ready", "model": read.name, "labels": list(read.card.labels)}
        times = []
        for number, frame in enumerate([jpeg, turned, jpeg], 1):
            socket.send(frame)
            answer = json.loads(socket.recv())
            assert (answer["type"], answer["frame"]) == ("result", number)
            result = answer["result"]
            jsonschema.validate(result, json_schema())
            times.append(result["time"])
            for face in result["faces"]:
                face["track"] = face["unsmoothed"] = None
            same({**result, "time": None, "frame": None}, read(frame))
        assert times == sorted(times)


def test_faces_keep_their_number(server: Server, jpeg: bytes) -> None:
    with opened(server, points="none", blendshapes=False) as socket:
        socket.recv()
        tracks = []
        for _ in range(3):
            socket.send(jpeg)
            [face] = json.loads(socket.recv())["result"]["faces"]
            tracks.append(face["track"])
        assert len(set(tracks)) == 1


def test_every_frame_has_one_answer(server: Server, jpeg: bytes) -> None:
    """Sent faster than they are processed, all but the newest are dropped, and each is answered."""
    with opened(server) as socket:
        socket.recv()
        for _ in range(30):
            socket.send(jpeg)
        answers = [json.loads(socket.recv()) for _ in range(30)]
    assert sorted(answer["frame"] for answer in answers) == list(range(1, 31))
    kinds = [answer["type"] for answer in sorted(answers, key=lambda answer: answer["frame"])]
    assert kinds[0] in ("result", "dropped") and kinds[-1] == "result" and kinds.count("dropped") > 0


def test_a_broken_frame_is_a_row(server: Server, jpeg: bytes) -> None:
    with opened(server) as socket:
        socket.recv()
        for data, status in [(b"nonsense", "unreadable"), (b"", "unreadable"), (jpeg, "ok")]:
            socket.send(data)
            result = json.loads(socket.recv())["result"]
            assert result["status"] == status and (result["message"] is None) == (status == "ok")


@pytest.mark.parametrize(
    ("first", "name"),
    [("nonsense", "malformed"), ("[]", "malformed"), ('{"type": "close"}', "malformed"),
     ('{"type": "open", "x": 1}', "malformed"),
     ('{"type": "open", "options": 1}', "malformed"), ('{"type": "open", "options": {"x": 1}}', "invalid"),
     ('{"type": "open", "options": {"smooth": "box"}}', "invalid"), ('{"type": "open", "options": {"model": "x"}}', "invalid"),
     (b"\xff\xd8", "malformed")],
)  # fmt: skip
def test_an_invalid_first_message(server: Server, first: str | bytes, name: str) -> None:
    with connect(server.url.replace("http", "ws") + "/v1/stream", proxy=None) as socket:
        socket.send(first)
        body = json.loads(socket.recv())
        assert body["type"] == "error" and body["problem"]["type"].endswith(name)


def test_texts_and_giants_end_a_stream(server: Server) -> None:
    with opened(server) as socket:
        socket.recv()
        socket.send("text")
        assert "malformed" in str(socket.recv())
    with opened(server) as socket:
        socket.recv()
        with pytest.raises(Exception, match=r"1009|too big|Broken pipe|reset"):
            socket.send(bytes(2_000_001))
            socket.recv()


def test_streams_are_limited_and_idle_ones_closed() -> None:
    def statuses(socket: ClientConnection) -> Any:
        try:
            body = json.loads(socket.recv())
        except ConnectionClosed as closed:  # refused before anything was said
            return closed.rcvd.code if closed.rcvd else None
        return body.get("problem", {}).get("status", body["type"])

    with in_thread(Settings(limits=Limits(streams=1, idle_seconds=0.4))) as url, url_open(url) as first:
        assert statuses(first) == "ready"
        with url_open(url) as second:
            assert statuses(second) in (429, 1013)
        assert statuses(first) == 408
        deadline = time.monotonic() + 30
        while True:  # the server may still be closing the first
            with url_open(url) as third:
                found = statuses(third)
            if found == "ready" or time.monotonic() > deadline:
                break
        assert found == "ready"


def test_what_fails_inside_is_said_and_logged(monkeypatch: pytest.MonkeyPatch, jpeg: bytes, caplog: Any) -> None:
    """Also a RuntimeError, which sending to someone who has gone gives too."""

    def broken(self: Any, frame: Any) -> Any:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr("mien.serving.streams.Stream.push", broken)
    with in_thread(Settings(threads=1)) as url, url_open(url) as socket:
        json.loads(socket.recv())
        socket.send(jpeg)
        answer = json.loads(socket.recv())
        assert answer["type"] == "error" and answer["problem"]["status"] == 500 and "secret" not in str(answer)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1011
    assert "/secret/path" in caplog.text


def test_a_model_is_not_opened_where_requests_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    answering: list[bool] = []
    opens = Readers.__call__

    def noted(self: Readers, key: Any) -> Recognizer:
        answering.append(asyncio._get_running_loop() is not None)
        return opens(self, key)

    monkeypatch.setattr(Readers, "__call__", noted)
    with in_thread(Settings(threads=1)) as url, url_open(url, model="mien-nano") as socket:
        assert json.loads(socket.recv())["type"] == "ready"
    assert answering == [False, False]  # the first look at the sample, and the stream


def test_metrics_count_frames(server: Server, client: httpx.Client, jpeg: bytes) -> None:
    with opened(server) as socket:
        socket.recv()
        socket.send(jpeg)
        socket.recv()
    assert 'mien_stream_frames_total{outcome="read"}' in client.get("/metrics").text
