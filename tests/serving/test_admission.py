"""Access: tokens, origins, hosts and URLs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from fastapi.testclient import TestClient
from server import Server, running
from test_predict_requests import is_problem
from websockets.sync.client import connect

from mien.errors import ConfigError
from mien.io import urls as fetching
from mien.serving.admission import POLICY, _known, allows
from mien.serving.app import PAGE, create
from mien.serving.settings import Limits, Settings, hosts_of

TOKEN = "s3cret-token"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server with a token from the environment, CORS for one origin, and URLs."""
    with running(
        "--cors", "https://good.example", "--allow-urls", "--allowed-host", "mien.example", MIEN_TOKEN=TOKEN
    ) as server:
        yield server


@pytest.fixture(scope="module")
def guarded_client(guarded: Server) -> Iterator[httpx.Client]:
    with guarded.client() as client:
        yield client


BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"])
def test_without_the_token_everything_is_refused(guarded_client: httpx.Client, given: str) -> None:
    headers = {"Authorization": given} if given else {}
    for method, path in [("POST", "/v1/predict"), ("POST", "/v1/predict/video"), ("GET", "/v1/jobs/x"), ("GET", "/v1/models"),
                         ("GET", "/v1/schema"), ("GET", "/metrics"), ("DELETE", "/v1/jobs/x")]:  # fmt: skip
        answer = guarded_client.request(method, path, headers=headers)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        is_problem(answer)


def test_with_the_token(guarded_client: httpx.Client, jpeg: bytes) -> None:
    assert guarded_client.post("/v1/predict", files={"images": jpeg}, headers=BEARER).status_code == 200
    assert guarded_client.get("/v1/models", headers={"authorization": f"bearer {TOKEN}"}).status_code == 200
    for path in ("/", "/app.js", "/style.css", "/healthz", "/readyz"):  # the page prompts for the token
        assert guarded_client.get(path).status_code == 200


def test_tokens_are_compared_whole() -> None:
    assert allows(["a", "b"], "b") and not allows(["a", "b"], "ab") and not allows([], "") and not allows(["ä"], "\ud800")
    for tokens in (("",), ("a b",), ("ä",), ("a\n",)):
        with pytest.raises(ConfigError):
            Settings(tokens=tokens)


def test_a_token_file(tmp_path: Path, jpeg: bytes) -> None:
    (tmp_path / "tokens").write_text("# mine\none\n\ntwo\n")
    with running("--token-file", tmp_path / "tokens") as server, server.client() as client:
        for token, status in [("one", 200), ("two", 200), ("#", 401), ("# mine", 401)]:
            assert client.get("/v1/models", headers={"Authorization": f"Bearer {token}"}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://good.example", 200), ("https://evil.example", 403), ("null", 403), ("http://good.example", 403),
     ("https://good.example.evil.example", 403), ("SAME", 200), ("http://[", 403)],
)  # fmt: skip
def test_pages_of_other_origins(guarded_client: httpx.Client, guarded: Server, jpeg: bytes, origin: str, status: int) -> None:
    origin = guarded.url if origin == "SAME" else origin
    answer = guarded_client.post("/v1/predict", files={"images": jpeg}, headers={**BEARER, "Origin": origin})
    assert answer.status_code == status
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (origin if origin == "https://good.example" else None)


def test_cors_is_off_by_default(client: httpx.Client) -> None:
    headers = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST"}
    answer = client.options("/v1/predict", headers=headers)
    assert answer.status_code == 405 and "access-control-allow-origin" not in answer.headers
    answer = client.get("/v1/models", headers=headers)
    assert "access-control-allow-origin" not in answer.headers


def test_cors_lets_the_browser_ask_first(guarded_client: httpx.Client) -> None:
    headers = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST",
               "Access-Control-Request-Headers": "authorization"}  # fmt: skip
    answer = guarded_client.options("/v1/predict", headers=headers)
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "https://good.example"


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example", 421), ("", 421), ("127.0.0.1.evil.example", 421), ("localhost:1", 200), ("mien.example", 200),
     ("MIEN.example.:80", 200), ("[::1]:80", 200), ("[", 421)],
)  # fmt: skip
def test_dns_rebinding(guarded_client: httpx.Client, host: str, status: int) -> None:
    """The page's own name resolves to 127.0.0.1, so its origin is that of the request."""
    answer = guarded_client.get("/v1/models", headers={**BEARER, "Host": host, "Origin": f"http://{host}"})
    assert answer.status_code in ((status, 400) if status == 421 else (status,))  # 400: the HTTP parser has refused it


@pytest.mark.parametrize(
    ("hosts", "name", "status"),
    [(hosts_of("127.0.0.1"), "localhost", 200), (hosts_of("127.0.0.1"), "192.168.1.5", 421),
     (hosts_of("0.0.0.0"), "192.168.1.5:8000", 200), (hosts_of("0.0.0.0"), "[fe80::1]:8000", 200),
     (hosts_of("0.0.0.0"), "localhost", 200), (hosts_of("0.0.0.0"), socket.gethostname(), 200),
     (hosts_of("0.0.0.0"), "evil.example", 421), (hosts_of("0.0.0.0", ("a.example",)), "a.example", 200),
     (hosts_of("192.168.1.5"), "192.168.1.6", 421), (hosts_of("0.0.0.0", ("*",)), "evil.example", 200)],
)  # fmt: skip
def test_host_names(hosts: tuple[str, ...], name: str, status: int) -> None:
    assert (_known(name, Settings(hosts=hosts).hosts)) == (status == 200)


def test_listening_on_all_interfaces() -> None:
    """Without a token the server warns; a foreign Host is refused."""
    with running("--host", "0.0.0.0") as server, server.client() as client:
        assert any("warning" in line for line in server.errors)
        assert client.get("/healthz").status_code == 200
        assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 421
    with running("--host", "0.0.0.0", MIEN_TOKEN=TOKEN) as server:
        assert not any("warning" in line for line in server.errors)


def test_names_and_origins_are_the_same_in_upper_and_lower_case() -> None:
    """Browsers send both in lower case, whatever was typed at the server's start."""
    settings = Settings(hosts=("Faces.Example",), cors=("https://Lab.Example",))
    with TestClient(create(settings), base_url="http://faces.example") as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/healthz", headers={"Host": "other.example"}).status_code == 421
        asked = client.get("/v1/models", headers={"Origin": "https://lab.example"})
        assert asked.headers["access-control-allow-origin"] == "https://lab.example"


def test_web_sockets_of_other_origins(guarded: Server) -> None:
    url = guarded.url.replace("http", "ws") + "/v1/stream"
    for origin in ("https://evil.example", "null"):
        with pytest.raises(websockets.exceptions.InvalidStatus) as refusal, connect(url, origin=origin, proxy=None):  # pyrefly: ignore
            pass
        assert refusal.value.response.status_code == 403
    for origin in ("https://good.example", guarded.url):
        with connect(url, origin=origin, proxy=None) as socket:  # pyrefly: ignore
            socket.send('{"type": "open", "token": "wrong"}')
            assert '"status": 401' in str(socket.recv())
        with connect(url, origin=origin, proxy=None) as socket:  # pyrefly: ignore
            socket.send(f'{{"type": "open", "token": "{TOKEN}"}}')
            assert '"ready"' in str(socket.recv())
    with connect(url, additional_headers=BEARER, proxy=None) as socket:
        socket.send('{"type": "open"}')
        assert '"ready"' in str(socket.recv())


def test_every_answer_is_strict(client: httpx.Client) -> None:
    for path in ("/", "/app.js", "/healthz", "/nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"] == POLICY and headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
    assert "unsafe" not in POLICY and "http" not in POLICY


def test_the_page_needs_nothing_from_elsewhere_and_nothing_inline() -> None:
    for path in PAGE.rglob("*.*"):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text, path.name
        assert "//cdn" not in text and "@import" not in text
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert " style=" not in html and "onclick" not in html and "<style" not in html
    assert html.count("<script") == html.count('<script type="module" src="app.js"') == 1


# ── URLs ──


def test_urls_lead_to_no_inner_address(guarded_client: httpx.Client, guarded: Server) -> None:
    """The server itself is the inner service: it would answer, and is not asked."""
    before = _requests(guarded_client)
    for url in (f"{guarded.url}/sample.png", f"{guarded.url.replace('127.0.0.1', 'localhost')}/sample.png",
                f"{guarded.url.replace('127.0.0.1', '2130706433')}/sample.png", "http://169.254.169.254/latest",
                "file:///etc/passwd", "ftp://127.0.0.1/a"):  # fmt: skip
        answer = guarded_client.post("/v1/predict", json={"images": [{"url": url}]}, headers=BEARER)
        [result] = answer.json()["results"]
        assert result["status"] == "unreadable" and result["message"].endswith("could not be fetched from a public address")
    assert _requests(guarded_client) == before


def _requests(client: httpx.Client) -> list[str]:
    return [
        line for line in client.get("/metrics", headers=BEARER).text.splitlines() if "/sample.png" in line and "_total" in line
    ]


def test_a_public_url_is_read_and_its_redirect_checked(
    guarded: Server, monkeypatch: pytest.MonkeyPatch, guarded_client: httpx.Client
) -> None:
    """The first address counts as public here. It answers with the photo; or leads to one that does not count."""
    asked: list[Any] = []

    def first_only(address: Any) -> bool:
        asked.append(address)
        return len(asked) == 1

    monkeypatch.setattr(fetching, "is_public", first_only)
    with TestClient(create(Settings(allow_urls=True))) as client:
        body = {"images": [{"url": f"{guarded.url}/sample.png?key=secret"}]}
        [result] = client.post("/v1/predict", json=body).json()["results"]
        assert result["status"] == "ok" and result["faces"][0]["label"] == "happiness"
        assert "secret" not in result["source"]
        asked.clear()
        with _redirecting(f"{guarded.url}/sample.png") as url:
            [result] = client.post("/v1/predict", json={"images": [{"url": url}]}).json()["results"]
        assert result["status"] == "unreadable" and len(asked) == 2


def test_what_is_fetched_counts_as_memory(guarded: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of a few bytes may name images of many."""
    monkeypatch.setattr(fetching, "is_public", lambda address: True)
    with TestClient(create(Settings(allow_urls=True, limits=Limits(body_bytes=5000)))) as client:
        body = {"images": [{"url": f"{guarded.url}/sample.png"}] * 3}
        answer = client.post("/v1/predict", json=body)
        assert answer.status_code == 429 and answer.json()["type"].endswith(":busy")
        assert client.app.state.budget.left == 5000  # pyrefly: ignore


def test_an_internal_name_is_not_revealed(monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(create(Settings(allow_urls=True))) as client:
        body = {"images": [{"url": "http://no-such-name.invalid/"}, {"url": "http://127.0.0.1:1/"}]}
        one, two = client.post("/v1/predict", json=body).json()["results"]
        strip = lambda result: result["message"].replace(result["source"], "")  # noqa: E731
        assert strip(one) == strip(two)


def _redirecting(target: str) -> Any:
    import contextlib
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    @contextlib.contextmanager
    def serving() -> Iterator[str]:
        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()
        server.server_close()

    return serving()
