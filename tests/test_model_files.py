"""Models from URLs: download, cache, digest pinning, and repositories of a hub, from servers on 127.0.0.1."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import mien
from mien.cards import load, sha256
from mien.errors import WeightsError
from mien.io.urls import model_file

NETWORK = load("mien-nano").weights
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(BaseHTTPRequestHandler):
    """Serves one network under every path, with the headers of a hub; counts the downloads in `server.downloads`."""

    server: Any

    def do_HEAD(self) -> None:
        data = NETWORK.read_bytes()
        known = "/missing" not in self.path
        self.send_response(200 if known else 404)
        headers = {"Content-Length": len(data) if known else 0, "ETag": f'"{sha256(NETWORK)}"', "X-Repo-Commit": COMMIT}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET" and known:
            self.server.downloads.append(self.path)
            self.wfile.write(data)

    do_GET = do_HEAD

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.downloads, server.url = [], f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.enable_socket
def test_a_pinned_url_is_downloaded_once(server: Any) -> None:
    url = f"{server.url}/own/model.onnx#sha256={sha256(NETWORK)}"
    read = mien.load(url)
    assert read(mien.sample()).faces[0].scores == mien.load("mien-nano")(mien.sample()).faces[0].scores
    assert model_file(url) == model_file(url) and server.downloads == ["/own/model.onnx"]


@pytest.mark.enable_socket
def test_another_digest_is_rejected(server: Any) -> None:
    for _ in range(2):  # downloaded, and cached
        with pytest.raises(WeightsError) as error:
            model_file(f"{server.url}/model.onnx#sha256={'0' * 64}")
        assert error.value.value == sha256(NETWORK) and error.value.expected == "0" * 64


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/model.onnx", "https://127.0.0.1:1/model.onnx#sha256=0", "ftp://127.0.0.1/model.onnx", "hf://repo",
     "hf://owner/repo@", "https://127.0.0.1:1/model.onnx"],
)  # fmt: skip
@pytest.mark.enable_socket
def test_invalid_urls_and_failed_downloads(url: str, cache: Path) -> None:
    with pytest.raises(WeightsError):
        model_file(url)
    assert not list(cache.rglob("*.onnx"))


@pytest.mark.enable_socket
def test_a_repository_of_a_hub(server: Any, cache: Path) -> None:
    """In a process of its own: huggingface_hub reads its endpoint when it is imported."""
    pytest.importorskip("huggingface_hub", reason="the extra [hub] is not installed")
    code = "import sys, mien\nfor url in sys.argv[1:]: print(mien.load(url).card.name)"
    env = {**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*", "HF_HUB_DISABLE_TELEMETRY": "1"}
    urls = ["hf://owner/repo", "hf://owner/repo@v1", "hf://owner/repo@v1/onnx/small.onnx"]
    done = subprocess.run([sys.executable, "-c", code, *urls], capture_output=True, text=True, env=env)
    assert done.stdout.split() == ["mien-nano"] * 3, done.stderr
    assert server.downloads == ["/owner/repo/resolve/main/model.onnx"]  # the others have the same content
    done = subprocess.run([sys.executable, "-c", code, "hf://owner/missing"], capture_output=True, text=True, env=env)
    assert done.returncode and "WeightsError" in done.stderr
