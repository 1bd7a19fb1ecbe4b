"""Images over HTTP: the results of the Python API, and a problem for everything else."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from server import Server

import mien
from mien.inference.recognizer import Recognizer
from mien.serving.app import create
from mien.serving.settings import Limits, Settings
from mien.types import Result, json_schema


def same(answer: dict[str, Any], result: Result, points: Any = "5") -> None:
    """Every number of an answer is that of the Python API, probabilities to 1e-5."""
    wanted = json.loads(json.dumps(result.to_dict(points)))
    assert {**answer, "faces": [], "source": ""} == {**wanted, "faces": [], "source": ""}
    assert len(answer["faces"]) == len(wanted["faces"])
    for one, other in zip(answer["faces"], wanted["faces"], strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)
        assert list(one["scores"]) == list(other["scores"])
        assert one["box"] == pytest.approx(other["box"], abs=1e-3)
        assert (one["label"], one["certain"]) == (other["label"], other["certain"])
        assert one["blendshapes"] == (other["blendshapes"] and pytest.approx(other["blendshapes"], abs=1e-4))


def crowd(shared: Path) -> bytes:
    """Part of the photograph of the Solvay conference, some ten faces."""
    file = io.BytesIO()
    Image.open(shared / "data/photos/solvay_conference_1927.jpg").crop((100, 200, 540, 400)).save(file, "JPEG", quality=80)
    return file.getvalue()


def test_several_images_in_a_form(client: httpx.Client, read: Recognizer, sample: Path, jpeg: bytes) -> None:
    files = [("images", (name, data)) for name, data in
             [("a.png", sample.read_bytes()), ("b.txt", b"no image"), ("dir/c.jpg", jpeg)]]  # fmt: skip
    answer = client.post("/v1/predict", files=files)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [r["source"] for r in results] == ["a.png", "b.txt", "c.jpg"]
    assert [r["status"] for r in results] == ["ok", "unreadable", "ok"]
    assert results[1]["message"]
    same(results[0], read(sample))
    same(results[2], read(jpeg))
    for result in results:
        jsonschema.validate(result, json_schema())


def test_base64_in_json(client: httpx.Client, read: Recognizer, sample: Path) -> None:
    entry = {"name": "a.png", "data": base64.b64encode(sample.read_bytes()).decode()}
    body = {"images": [entry, {"data": ""}], "options": {"points": "68", "blendshapes": False, "model": "mien-base"}}
    first, second = client.post("/v1/predict", json=body).json()["results"]
    same(first, mien.load(blendshapes=False)(sample), "68")
    assert len(first["faces"][0]["points"]) == 68 and first["faces"][0]["blendshapes"] is None
    assert second["status"] == "unreadable" and second["source"] == "image 2"


def test_line_breaks_and_data_uris(client: httpx.Client, jpeg: bytes) -> None:
    lines = base64.encodebytes(jpeg).decode()
    uri = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    results = client.post("/v1/predict", json={"images": [{"data": lines}, {"data": uri}]}).json()["results"]
    assert [result["faces"][0]["label"] for result in results] == ["happiness"] * 2
    for data in ("data:image/jpeg;base64", "data:image/jpeg,abc", "data:;base64,?"):
        answer = client.post("/v1/predict", json={"images": [{"data": data}]})
        assert answer.status_code == 422
        is_problem(answer)


def test_the_field_of_version_0_1(client: httpx.Client, jpeg: bytes) -> None:
    entry = {"data": base64.b64encode(jpeg).decode()}
    assert client.post("/v1/predict", json={"pictures": [entry]}).json()["results"][0]["status"] == "ok"
    assert client.post("/v1/predict", files={"pictures": jpeg}).json()["results"][0]["status"] == "ok"


def test_a_raw_image(client: httpx.Client, read: Recognizer, sample: Path) -> None:
    """Options are in the query."""
    headers = {"Content-Type": "image/png"}
    answer = client.post("/v1/predict?points=68&max_faces=1", content=sample.read_bytes(), headers=headers)
    [result] = answer.json()["results"]
    same(result, read(sample), "68")
    [result] = client.post("/v1/predict", content=b"abc", headers=headers).json()["results"]
    assert result["status"] == "unreadable"
    for query in ("max_faces=0", "face=1"):
        answer = client.post(f"/v1/predict?{query}", content=b"", headers=headers)
        assert answer.status_code == 422
        is_problem(answer)


def test_options_of_the_body_override_the_query(client: httpx.Client, jpeg: bytes) -> None:
    body = {"images": [{"data": base64.b64encode(jpeg).decode()}], "options": {"points": "5"}}
    for request in ({"json": body}, {"files": {"images": jpeg}, "data": {"points": "5"}}):
        [result] = client.post("/v1/predict?points=68&blendshapes=false", **request).json()["results"]  # pyrefly: ignore
        assert len(result["faces"][0]["points"]) == 5 and result["faces"][0]["blendshapes"] is None


@pytest.mark.parametrize(
    "options",
    [{}, {"max_faces": 3}, {"min_size": 45}, {"small_faces": True, "points": "none"}, {"points": "all", "max_faces": 1}],
)
def test_options_are_those_of_the_api(client: httpx.Client, shared: Path, options: dict[str, Any]) -> None:
    photo, points = crowd(shared), options.get("points", "5")
    answer = client.post("/v1/predict", files={"images": photo}, data={k: str(v) for k, v in options.items()})
    wanted = mien.load(**{name: value for name, value in options.items() if name != "points"})(photo)
    [result] = answer.json()["results"]
    same(result, wanted, points)
    assert len(result["faces"]) == options.get("max_faces", len(result["faces"]))


@pytest.mark.parametrize(
    ("columns", "points"),
    [
        (["pose"], "5"),
        (["expression", "units"], "none"),
        (["landmarks68", "gaze"], "68"),
        (["mesh", "blendshapes"], "all"),
        ([], "5"),
    ],
)
def test_columns_choose_the_groups(
    client: httpx.Client, read: Recognizer, jpeg: bytes, columns: list[Any], points: Any
) -> None:
    """As JSON, as a form and in the query: the groups that `Result.to_dict` gives for the same groups."""
    wanted = json.loads(json.dumps(read(jpeg).to_dict(points, columns)))["faces"][0]
    fields = {"columns": ",".join(columns), "points": "none" if points == "none" else "5"}
    entry = {"images": [{"data": base64.b64encode(jpeg).decode()}], "options": {**fields, "columns": columns}}
    answers = [
        client.post("/v1/predict", json=entry),
        client.post("/v1/predict", files={"images": jpeg}, data=fields),
        client.post("/v1/predict", content=jpeg, headers={"Content-Type": "image/jpeg"}, params=fields),
    ]
    for answer in answers:
        [result] = answer.json()["results"]
        [face] = result["faces"]
        jsonschema.validate(result, json_schema())
        for name in ("pose", "gaze", "action_units_estimated", "blendshapes", "points"):
            assert (face[name] is None) == (wanted[name] is None), name
        assert len(face["points"] or ()) == len(wanted["points"] or ())
        assert face["pose"] == (wanted["pose"] and pytest.approx(wanted["pose"], abs=1e-2))


def test_requests_at_the_same_time_share_batches(client: httpx.Client, server: Any, read: Recognizer, jpeg: bytes) -> None:
    wanted = read(jpeg)
    with ThreadPoolExecutor(16) as pool:
        choices = [{}, {"blendshapes": "false"}, {}]  # those that choose otherwise are read apart
        ask = lambda i: client.post("/v1/predict", files={"images": jpeg}, data=choices[i % 3])  # noqa: E731
        answers = list(pool.map(ask, range(30)))
    plain = mien.load(blendshapes=False)(jpeg)
    for i, answer in enumerate(answers):
        same(answer.json()["results"][0], plain if i % 3 == 1 else wanted)
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#"))
    assert float(lines["mien_batch_images_sum"]) > float(lines["mien_batch_images_count"])
    assert float(lines['mien_images_total{status="ok"}']) >= 30
    assert float(lines["mien_queue_images"]) == 0
    assert float(lines["process_resident_memory_bytes"]) > 1e7


BOUNDARY = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
JSON = {"Content-Type": "application/json"}
MALFORMED_OR_TOO_LARGE = (400, 413)
"""Newer parsers refuse long headers themselves, as malformed."""


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 415),
        (b"abc", {"Content-Type": "text/plain"}, 415),
        (b"", FORM, 400),
        (b"nonsense", FORM, 400),
        (BOUNDARY + b"abc", FORM, 400),
        (b"", {"Content-Type": "multipart/form-data"}, 400),
        (b"--x--\r\n", FORM, 422),
        (b"--x\r\nContent-Disposition: form-data; name=\"points\"\r\n\r\n5\r\n--x--\r\n", FORM, 422),
        (b"--x\r\nContent-Disposition: attachment\r\n\r\n5\r\n--x--\r\n", FORM, 400),
        (b"--x\r\nX: " + b"a" * 9000 + b"\r\n\r\n5\r\n--x--\r\n", FORM, MALFORMED_OR_TOO_LARGE),
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n" + b"a" * 5000 + b"\r\n--x--\r\n", FORM, 413),
        (BOUNDARY + b"\r\n--x\r\nContent-Disposition: form-data; name=no_option\r\n\r\n\r\n--x--\r\n", FORM, 422),
        (BOUNDARY + b"\r\n--x\r\nContent-Disposition: form-data; name=max_faces\r\n\r\nmany\r\n--x--\r\n", FORM, 422),
        (BOUNDARY + b"\r\n--x\r\nContent-Disposition: form-data; name=max_faces\r\n\r\n" + b"9" * 30 + b"\r\n--x--", FORM, 422),
        ((BOUNDARY + b"\r\n") * 40 + b"--x--\r\n", FORM, 413),
        (b"", JSON, 400),
        (b"[]", JSON, 400),
        (b"\xff", JSON, 400),
        (b"[" * 100_000, JSON, 400),
        (b'{"images": [], "options": {"min_size": NaN}}', JSON, 400),
        (b"{}", JSON, 422),
        (b'{"images": []}', JSON, 422),
        (b'{"images": {}}', JSON, 422),
        (b'{"images": [1]}', JSON, 422),
        (b'{"images": [{}]}', JSON, 422),
        (b'{"images": [{"data": "?"}]}', JSON, 422),
        (b'{"images": [{"data": "\xc3\xa4"}]}', JSON, 422),
        (b'{"images": [{"data": 1}]}', JSON, 422),
        (b'{"images": [{"data": "", "url": ""}]}', JSON, 422),
        (b'{"images": [{"url": "http://example.org/a.jpg"}]}', JSON, 403),
        (b'{"images": [{"data": ""}], "option": {}}', JSON, 422),
        (b'{"images": [{"data": ""}], "options": []}', JSON, 422),
        (b'{"images": [{"data": ""}], "options": {"max_faces": 0}}', JSON, 422),
        (b'{"images": [{"data": ""}], "options": {"max_faces": 1.5}}', JSON, 422),
        (b'{"images": [{"data": ""}], "options": {"max_faces": 1e400}}', JSON, 422),
        (b'{"images": [{"data": ""}], "options": {"max_faces": true}}', JSON, 422),
        (b'{"images": [{"data": ""}], "options": {"points": "7"}}', JSON, 422),
        (b'{"images": [{"data": ""}], "options": {"blendshapes": "yes"}}', JSON, 422),
        (b'{"images": [{"data": ""}], "options": {"columns": ["poses"]}}', JSON, 422),
        (b'{"images": [{"data": ""}], "options": {"columns": null}}', JSON, 422),
        (b'{"images": [{"data": ""}], "options": {"baseline": "median"}}', JSON, 422),
        (b'{"images": [{"data": ""}], "options": {"model": "os:system"}}', JSON, 422),
        (b'{"images": [{"data": ""}], "options": {"model": "\\ud800"}}', JSON, 422),
        (b'{"images": [{"data": ""}], "options": {"model": "/etc/passwd.onnx"}}', JSON, 422),
        (json.dumps({"images": [{"data": ""}] * 33}).encode(), JSON, 413),
    ],
)  # fmt: skip
def test_invalid_requests_are_problems(
    client: httpx.Client, body: bytes, headers: dict[str, str], status: int | tuple[int, ...]
) -> None:
    answer = client.post("/v1/predict", content=body, headers=headers)
    assert answer.status_code in (status if isinstance(status, tuple) else (status,)), answer.text
    is_problem(answer)


def test_a_file_sent_as_text_is_refused(client: httpx.Client) -> None:
    """curl -F images=a.jpg, without the @, sends the name."""
    body = b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\na.jpg\r\n--x--\r\n'
    answer = client.post("/v1/predict", content=body, headers=FORM)
    is_problem(answer)
    assert "-F images=@FILE" in answer.json()["detail"]


def is_problem(answer: httpx.Response) -> None:
    """RFC 9457, and nothing of this machine in it."""
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail"} and body["status"] == answer.status_code
    assert body["type"].startswith("urn:mien:problem:")
    for secret in ("Traceback", "site-packages", str(Path.home()), str(Path(mien.__file__).parent), 'File "'):
        assert secret not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/v1/predict", 405), ("POST", "/", 405), ("GET", "/v1/jobs/..%2f..%2fetc", 404),
     ("GET", "/v1/jobs/" + "0" * 32, 404), ("DELETE", "/v1/jobs/x", 404), ("GET", "/v1/jobs/x/results?after=-1", 422),
     ("GET", "/../pyproject.toml", 404), ("GET", "/page/app.js", 404)],
)  # fmt: skip
def test_other_errors_are_problems_too(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    is_problem(answer)


@pytest.fixture(scope="module")
def tight() -> Iterator[TestClient]:
    """A server with small limits."""
    limits = Limits(request_bytes=300_000, image_bytes=100_000, pixels=100_000, images=4, queue=2, faces=2)
    with TestClient(create(Settings(limits=limits, threads=1)), raise_server_exceptions=False) as client:
        yield client


def test_bytes_are_limited_announced_or_not(tight: TestClient, jpeg: bytes) -> None:
    assert tight.post("/v1/predict", files={"images": jpeg}).status_code == 200
    for files in ([bytes(100_001)], [bytes(99_000)] * 4):
        answer = tight.post("/v1/predict", files=[("images", ("a", data)) for data in files])
        assert answer.status_code == 413
        is_problem(answer)  # pyrefly: ignore
    blocks = (BOUNDARY + bytes(1000) if i == 0 else bytes(1000) for i in range(1000))
    assert tight.post("/v1/predict", content=blocks, headers=FORM).status_code == 413
    body = {"images": [{"data": base64.b64encode(bytes(100_010)).decode()}]}
    assert tight.post("/v1/predict", json=body).status_code == 413
    assert tight.app.state.budget.left == Limits().body_bytes  # pyrefly: ignore


def test_pixels_are_counted_before_they_are_decoded(tight: TestClient) -> None:
    """A bomb: a PNG of 60,000 × 60,000 pixels in a few bytes, whose data would not even be right."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb += chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    file = io.BytesIO()
    Image.new("RGB", (400, 251)).save(file, "PNG")
    for data in (bomb, file.getvalue()):
        [result] = tight.post("/v1/predict", files={"images": ("a.png", data)}).json()["results"]
        assert result["status"] == "unreadable" and "pixels" in result["message"] and "max_pixels" not in result["message"]


def test_faces_are_limited(tight: TestClient, shared: Path) -> None:
    photo = crowd(shared)
    assert len(mien.load()(photo).faces) > 3
    [result] = tight.post("/v1/predict", files={"images": photo}, data={"max_faces": "50"}).json()["results"]
    assert len(result["faces"]) == 2


def test_a_full_queue_has_retry_after(tight: TestClient, jpeg: bytes) -> None:
    answer = tight.post("/v1/predict", files=[("images", ("a.jpg", jpeg))] * 3)
    assert answer.status_code == 429 and 1 <= int(answer.headers["retry-after"]) <= 60
    is_problem(answer)  # pyrefly: ignore


def test_a_time_limit(jpeg: bytes) -> None:
    with TestClient(create(Settings(limits=Limits(seconds=0.002)))) as client:
        answer = client.post("/v1/predict", files={"images": jpeg})
        assert answer.status_code in (408, 503)
        is_problem(answer)  # pyrefly: ignore


def test_the_memory_of_all_bodies_is_limited(jpeg: bytes) -> None:
    with TestClient(create(Settings(limits=Limits(body_bytes=1000)))) as client:
        answer = client.post("/v1/predict", files={"images": jpeg})
        assert answer.status_code == 429 and "retry-after" in answer.headers
        assert client.app.state.budget.left == 1000  # pyrefly: ignore


def test_an_unexpected_error_reveals_nothing(monkeypatch: pytest.MonkeyPatch, jpeg: bytes) -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("/secret/path")

    with TestClient(create(Settings()), raise_server_exceptions=False) as client:
        monkeypatch.setattr(client.app.state.readers, "key", broken)  # pyrefly: ignore
        answer = client.post("/v1/predict", files={"images": jpeg})
        assert answer.status_code == 500 and "secret" not in answer.text
        is_problem(answer)  # pyrefly: ignore


def test_one_bad_image_spares_the_others(monkeypatch: pytest.MonkeyPatch, jpeg: bytes, caplog: Any) -> None:
    with TestClient(create(Settings(threads=1)), raise_server_exceptions=False) as client:
        batcher = client.app.state.batcher  # pyrefly: ignore
        decoded = batcher._decoded

        def poisoned(file: Any) -> Any:
            if file.name == "poison":
                raise RuntimeError("/secret/path")
            return decoded(file)

        monkeypatch.setattr(batcher, "_decoded", poisoned)
        with ThreadPoolExecutor(4) as pool:
            names = ["a", "poison", "b", "c"]
            answers = list(pool.map(lambda name: client.post("/v1/predict", files={"images": (name, jpeg)}), names))
        assert [answer.status_code for answer in answers] == [200, 500, 200, 200]
        assert "secret" not in answers[1].text and "/secret/path" in caplog.text


def test_models_and_schema(client: httpx.Client) -> None:
    body = client.get("/v1/models").json()
    assert body["default"] == "mien-base" and body["models"][0]["labels"] and body["models"][0]["limits"]
    assert body["limits"]["video_bytes"] == Limits().video_bytes
    assert client.get("/v1/schema").json() == json_schema()


def test_a_model_of_ones_own(tmp_path: Path, jpeg: bytes) -> None:
    """The bundled weights under another name, with another threshold, asked for by that name."""
    card = mien.cards.load("mien-base")
    (tmp_path / "own.onnx").write_bytes(card.weights.read_bytes())
    text = card.path.read_text()  # pyrefly: ignore
    text = text.replace('name = "mien-base"', 'name = "own"').replace("mien-base.onnx", "own.onnx")
    (tmp_path / "own.toml").write_text(re.sub(r"(?m)^threshold = .*", "threshold = 0.9999", text))
    with TestClient(create(Settings(models=(str(tmp_path / "own.onnx"),)))) as client:
        body = client.get("/v1/models").json()
        assert body["default"] == "own" and [card["name"] for card in body["models"]][:2] == ["own", "mien-base"]
        assert str(tmp_path) not in client.get("/v1/models").text
        for model, certain in (("own", False), ("mien-base", True)):
            answer = client.post("/v1/predict", files={"images": jpeg}, data={"model": model})
            assert answer.json()["results"][0]["faces"][0]["certain"] is certain


def test_an_ensemble(tmp_path: Path, sample: Path, jpeg: bytes) -> None:
    """A fused model of two bundled ones, named by its card, answers images and explanations as in Python."""
    path = str(tmp_path / "duo.toml")
    mien.fuse(["mien-base", "mien-nano"], path)
    with TestClient(create(Settings(models=(path,), threads=1))) as client:
        assert client.get("/v1/models").json()["default"] == "duo"
        answer = client.post("/v1/predict", files=[("images", sample.read_bytes()), ("images", jpeg)])
        read = mien.load(path)
        for result, photo in zip(answer.json()["results"], (sample, jpeg), strict=True):
            same(result, read(photo))
            assert result["model"].startswith("duo ")
        explained = client.post("/v1/explain", files={"images": jpeg}).json()
        assert explained["label"] == answer.json()["results"][1]["faces"][0]["label"]


def test_the_asyncio_example(server: Server, sample: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    script = Path(__file__).parents[2] / "examples" / "async_client.py"
    line = [sys.executable, str(script), server.url, *[str(sample)] * 12, str(tmp_path / "text.jpg")]
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "NO_PROXY": "*"})
    assert done.returncode == 0, done.stderr
    assert [text.rpartition(": ")[2] for text in done.stdout.splitlines()] == ["happiness"] * 12 + ["unreadable"]
