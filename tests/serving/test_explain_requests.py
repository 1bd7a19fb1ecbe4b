"""Occlusion explanations, checked against covering parts of the image by hand."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw
from test_predict_requests import is_problem

import mien

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")
from fastapi.testclient import TestClient
from starlette.responses import Response

from mien.serving import app
from mien.serving.app import create
from mien.serving.settings import Limits, Settings

NANO = {"model": "mien-nano"}
"""The model whose prediction changes most when one part of the sample image is covered."""


def test_happiness_depends_on_the_mouth(client: httpx.Client, sample: Path) -> None:
    answer = client.post("/v1/explain", files={"images": sample.read_bytes()}, data=NANO)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    face = mien.load("mien-nano")(sample).faces[0]
    assert body["label"] == "happiness" and body["probability"] == pytest.approx(face.confidence, abs=1e-4)
    parts = {region["name"]: region["importance"] for region in body["regions"]}
    assert max(parts, key=parts.__getitem__) == "mouth" and parts["mouth"] > 1
    values = np.array(body["map"]["values"])
    assert body["map"]["strength"] > 0.5
    assert values.max() <= 1 and values.min() >= 0
    assert np.unravel_index(values.argmax(), values.shape)[0] >= len(values) // 2, "a smile is in the lower half"
    corners = np.array(body["map"]["corners"])
    assert face.box.left - 40 < corners[0, 0] < corners[1, 0] < face.box.right + 40 and corners[2, 1] > corners[0, 1]


def test_occluding_the_hottest_cell_lowers_the_score(client: httpx.Client, sample: Path) -> None:
    """Independent of the explanation: paint over the hottest and the coldest cell of the image and predict again."""
    read = mien.load("mien-nano")
    body = client.post("/v1/explain", files={"images": sample.read_bytes()}, data=NANO).json()["map"]
    values, (upper, right, lower) = np.array(body["values"]), np.array(body["corners"])

    def painted(cell: int) -> float:
        row, column = divmod(int(cell), len(values))
        place = upper + (right - upper) * (column + 0.5) / len(values) + (lower - upper) * (row + 0.5) / len(values)
        image = Image.open(sample).convert("RGB")
        reach = np.linalg.norm(right - upper) / 4
        ImageDraw.Draw(image).rectangle([*(place - reach), *(place + reach)], fill=(190, 150, 130))
        return read(image).faces[0].scores["happiness"]

    assert painted(values.argmax()) < painted(values.argmin()) - 0.05


def test_invalid_explanations_are_problems(client: httpx.Client, sample: Path) -> None:
    photo = {"images": sample.read_bytes()}
    for files, data in [(photo, {"face": "1"}), (photo, {"label": "joy"}), (photo, {"model": "x"}), (photo, {"fase": "1"}),
                        ({"images": b"nonsense"}, {})]:  # fmt: skip
        answer = client.post("/v1/explain", files=files, data=data)
        assert answer.status_code == 422
        is_problem(answer)
    assert client.post("/v1/explain", json={}).status_code == 422
    assert client.post("/v1/explain", files=[("images", photo["images"])] * 2).status_code == 413
    assert client.post("/v1/explain?face=1", content=photo["images"], headers={"Content-Type": "image/png"}).status_code == 422
    other = client.post("/v1/explain", files=photo, data={"label": "sadness"}).json()
    assert other["label"] == "sadness" and other["probability"] < 0.1


def test_an_abandoned_explanation_keeps_its_turn(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread continues, and a second one would slow both down."""
    begun, go_on = [], threading.Event()

    def slow(*_: object) -> Response:
        begun.append(len(begun))
        go_on.wait(60)
        return Response("done")

    monkeypatch.setattr(app, "_explained", slow)
    photo = {"images": sample.read_bytes()}
    with TestClient(create(Settings(limits=Limits(seconds=2)))) as client:
        assert [client.post("/v1/explain", files=photo).status_code for _ in range(2)] == [503, 503]
        assert begun == [0]
        go_on.set()
        assert client.post("/v1/explain", files=photo).text == "done" and begun == [0, 1]


def test_no_torch_is_needed() -> None:
    import subprocess
    import sys

    code = "import sys, mien.serving.app, mien.serving.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code]).returncode == 0
    assert mien.__version__
