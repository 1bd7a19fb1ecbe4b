"""Downloads, from real servers on 127.0.0.1: what arrives, what is refused and what is kept quiet."""

from __future__ import annotations

import base64
import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from image_server import serve, stop
from mien.errors import SourceError
from mien.io import urls as fetching
from mien.io.images import read_image
from mien.io.urls import fetch, is_public, is_url, without_secrets


@pytest.fixture
def server(sample: Path) -> Iterator[Any]:
    server = serve(sample.read_bytes())
    yield server
    stop(server)


@pytest.fixture
def get(server: Any) -> Callable[..., bytes]:
    def get(path: str, **options: Any) -> bytes:
        options = {"max_bytes": 10**7, "timeout": 20, "allow_private": True, **options}
        return fetch(f"http://127.0.0.1:{server.server_port}{path}", **options)

    return get


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A name service of our own: host → addresses. Whatever is not in it goes to the system's."""
    table: dict[str, list[str]] = {}
    system = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *arguments: Any, **options: Any) -> list[Any]:
        return [row for address in table.get(host, [host]) for row in system(address, port, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return table


# ── what arrives ──


@pytest.mark.parametrize("path", ["/photo", "/chunked", "/to//photo", "/hops/5"])
def test_photo_arrives(get: Callable[..., bytes], sample: Path, path: str) -> None:
    assert get(path) == sample.read_bytes()


def test_read_image_from_a_url(server: Any, sample: Path) -> None:
    url = f"http://user:secret@127.0.0.1:{server.server_port}/photo?size=1&token=abc#face"
    image = read_image(url, allow_private=True)
    with Image.open(sample) as file:
        assert (image.pixels == np.asarray(file)).all()
    assert image.source == f"http://127.0.0.1:{server.server_port}/photo?size=1&token=…"


def test_what_is_sent(server: Any) -> None:
    fetch(
        f"http://jo%40x:p%3Aw@127.0.0.1:{server.server_port}/photo/bär 1%20.png?q=ä b#no",
        max_bytes=10**7,
        timeout=20,
        allow_private=True,
    )
    path, headers = server.asked[0]
    assert path == "/photo/b%C3%A4r%201%20.png?q=%C3%A4%20b"
    assert headers["Host"] == f"127.0.0.1:{server.server_port}"
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"jo@x:p:w"
    assert headers["Accept-Encoding"] == "identity"


def test_credentials_stay_with_their_host(server: Any, sample: Path) -> None:
    other = serve(sample.read_bytes())
    target = f"/to/http://127.0.0.1:{other.server_port}/photo"
    fetch(f"http://u:p@127.0.0.1:{server.server_port}{target}", max_bytes=10**7, timeout=20, allow_private=True)
    stop(other)
    assert "Authorization" in server.asked[0][1]
    assert "Authorization" not in other.asked[0][1]


def test_ipv6(sample: Path) -> None:
    try:
        server = serve(sample.read_bytes(), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    data = fetch(f"http://[::1]:{server.server_port}/photo", max_bytes=10**7, timeout=20, allow_private=True)
    stop(server)
    assert data == sample.read_bytes()
    assert server.asked[0][1]["Host"] == f"[::1]:{server.server_port}"


def test_a_dead_address_leaves_time_for_the_next(server: Any, names: dict[str, list[str]], sample: Path) -> None:
    names["photos.example"] = ["::1", "127.0.0.1"]  # nothing listens at this port of the first
    url = f"http://photos.example:{server.server_port}/photo"
    assert fetch(url, max_bytes=10**7, timeout=20, allow_private=True) == sample.read_bytes()
    assert server.asked[0][1]["Host"] == f"photos.example:{server.server_port}"


# ── limits ──


def test_size_is_limited_before_and_while_reading(get: Callable[..., bytes], sample: Path) -> None:
    size = sample.stat().st_size
    assert len(get("/photo", max_bytes=size)) == size
    for path, limit in [("/photo", size - 1), ("/chunked", size - 1), ("/huge", 10**7), ("/endless", 10**6)]:
        with pytest.raises(SourceError):
            get(path, max_bytes=limit)


@pytest.mark.parametrize("path", ["/stall", "/drip", "/drip-header"])
def test_time_is_limited_in_all(get: Callable[..., bytes], path: str) -> None:
    started = time.monotonic()
    with pytest.raises(SourceError):
        get(path, timeout=0.3)
    assert time.monotonic() - started < 10  # the servers would go on for 30 seconds or for ever


def test_time_includes_resolving(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: over.wait(30))
    with pytest.raises(SourceError):
        fetch("http://slow.example/", max_bytes=1, timeout=0.1)
    over.set()


def test_time_includes_connecting(server: Any) -> None:
    with pytest.raises(SourceError):
        fetch(f"http://127.0.0.1:{server.server_port}/photo", max_bytes=1, timeout=0, allow_private=True)


@pytest.mark.parametrize("path", ["/loop", "/hops/6"])
def test_redirects_are_limited(get: Callable[..., bytes], server: Any, path: str) -> None:
    with pytest.raises(SourceError):
        get(path)
    assert len(server.asked) == 6


# ── what goes wrong ──


@pytest.mark.parametrize(
    "path",
    [
        "/missing.jpg",
        "/error",
        "/nowhere",
        "/gzip",
        "/short",
        "/garbage",
        "/hang-up",
        "/to/ftp://127.0.0.1/x",
        "/to/file:///etc/passwd",
        "/to/http://[bad/",
    ],
)
def test_answers_without_an_image(get: Callable[..., bytes], path: str) -> None:
    with pytest.raises(SourceError):
        get(path)


def test_content_that_is_no_image(server: Any) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    with pytest.raises(SourceError):
        read_image(url + "/page", allow_private=True)
    with pytest.raises(SourceError):
        read_image(url + "/empty", allow_private=True)
    with pytest.raises(SourceError):
        read_image(url + "/photo", allow_private=True, max_pixels=1000)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SourceError):
        fetch(f"http://127.0.0.1:{port}/x", max_bytes=1, timeout=5, allow_private=True)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://photos.example/a.jpg",
        "file:///etc/passwd",
        "http://",
        "http:///a.jpg",
        "http://user:secret@host:port/",
        "http://user:secret@host:70000/",
        "http://user:secret@[::1/",
        "http://user:secret@\ud800/",
        "http://user:secret@a..b/",
        "http://user:secret@" + "x" * 70 + ".example/",
    ],
)
def test_urls_that_lead_nowhere(url: str) -> None:
    with pytest.raises(SourceError) as refusal:
        fetch(url, max_bytes=1, timeout=5)
    assert "secret" not in str(refusal.value)


@settings(max_examples=60)
@given(st.text("htp:/@[]%?#.\\ aé0\ud800\n", max_size=20))
def test_any_text_behind_a_scheme_is_refused_cleanly(text: str) -> None:
    """Nothing of it exists or is public; an image, another exception or a connection would be a mistake."""
    with pytest.raises(SourceError):
        fetch("ftp://" + text, max_bytes=1, timeout=5)
    with pytest.raises(SourceError):
        fetch("http://[" + text, max_bytes=1, timeout=5)


# ── where no request may go ──

NOT_PUBLIC = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200",
    "192.0.0.192", "168.63.129.16", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "fe80::1", "fc00::1", "fd00:ec2::254",
    "fec0::1", "ff02::1", "2001:db8::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001::1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_address_is_not_public(address: str, names: dict[str, list[str]]) -> None:
    assert not is_public(ipaddress.ip_address(address))
    names["photos.example"] = [address]
    with pytest.raises(SourceError):
        fetch("http://photos.example/a.jpg", max_bytes=1, timeout=5)


@pytest.mark.parametrize("address", PUBLIC)
def test_address_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "①②⑦.0.0.1",
    ],
)
def test_no_notation_reaches_this_machine(server: Any, host: str) -> None:
    with pytest.raises(SourceError):
        fetch(f"http://{host}:{server.server_port}/photo", max_bytes=10**7, timeout=20)
    with pytest.raises(SourceError):
        read_image(f"http://u:p@{host}:{server.server_port}/photo")
    assert server.asked == []


def test_one_private_address_among_public_ones_is_enough(names: dict[str, list[str]]) -> None:
    names["photos.example"] = ["93.184.216.34", "10.0.0.1"]
    with pytest.raises(SourceError):
        fetch("http://photos.example/", max_bytes=1, timeout=5)


def test_every_redirect_is_checked(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first server passes as public, what it redirects to does not."""
    asked: list[Any] = []

    def once(address: Any) -> bool:
        asked.append(address)
        return len(asked) == 1

    monkeypatch.setattr(fetching, "is_public", once)
    with pytest.raises(SourceError):
        fetch(f"http://127.0.0.1:{server.server_port}/to//photo", max_bytes=10**7, timeout=20)
    assert len(server.asked) == 1


def test_a_name_is_resolved_once_and_its_checked_address_used(
    server: Any, monkeypatch: pytest.MonkeyPatch, sample: Path
) -> None:
    """DNS rebinding: the second answer would be another address."""
    calls: list[str] = []
    system = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> list[Any]:
        calls.append(host)
        return system("127.0.0.1" if len(calls) == 1 else "127.0.0.3", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    data = fetch(f"http://photos.example:{server.server_port}/photo", max_bytes=10**7, timeout=20, allow_private=True)
    assert data == sample.read_bytes()
    assert calls == ["photos.example"]


# ── TLS ──


@pytest.fixture
def secure(tmp_path: Path, sample: Path, names: dict[str, list[str]]) -> Iterator[Any]:
    """A server with a certificate for photos.example, which nobody trusts yet; `server.greeted` has the names clients gave."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command makes the certificate and is absent")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=photos.example",
         "-addext", "subjectAltName=DNS:photos.example"],
        check=True, capture_output=True,
    )  # fmt: skip
    greeted: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda sock, name, context: greeted.append(name)
    server = serve(sample.read_bytes(), lambda sock: context.wrap_socket(sock, server_side=True))
    server.greeted, server.certificate = greeted, certificate
    names["photos.example"] = names["other.example"] = ["127.0.0.1"]
    yield server
    stop(server)


def test_https_checks_the_certificate_of_the_name(secure: Any, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(host: str) -> bytes:
        return fetch(f"https://{host}:{secure.server_port}/photo", max_bytes=10**7, timeout=20, allow_private=True)

    with pytest.raises(SourceError):
        get("photos.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.certificate))
    assert get("photos.example") == sample.read_bytes()
    assert secure.greeted[-1] == "photos.example"
    assert secure.asked[-1][1]["Host"] == f"photos.example:{secure.server_port}"
    with pytest.raises(SourceError):
        get("other.example")
    assert len(secure.asked) == 1


def test_https_with_a_server_that_does_not_speak_it(server: Any) -> None:
    with pytest.raises(SourceError):
        fetch(f"https://127.0.0.1:{server.server_port}/photo", max_bytes=10**7, timeout=20, allow_private=True)


# ── names ──


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://a/b.jpg", True),
        ("HTTPS://a", True),
        ("rtsp://camera", True),
        ("C://photo.jpg", False),
        ("photos/a.jpg", False),
        ("a.jpg?x=http://b", False),
        ("", False),
    ],
)
def test_is_url(text: str, url: bool) -> None:
    assert is_url(text) is url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://a/b.jpg?size=3&page=2", "http://a/b.jpg?size=3&page=2"),
        ("https://user:pass@a:8443/b", "https://a:8443/b"),
        ("https://u@s:p@a/@me/b@c.jpg", "https://a/@me/b@c.jpg"),
        ("https://a/b?X-Amz-Signature=1a2b&X-Amz-Credential=AK&x=1", "https://a/b?X-Amz-Signature=…&X-Amz-Credential=…&x=1"),
        ("https://a/b?api_key=1;access_token=2#frag", "https://a/b?api_key=…;access_token=…"),
        ("https://a/\x1b[31mb\n", "https://a/[31mb"),
    ],
)
def test_without_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_an_address_of_a_kind_that_the_machine_lacks_is_passed_over(
    get: Callable[..., bytes], server: Any, names: dict[str, list[str]], sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names have IPv6 addresses also where the kernel has no IPv6."""
    names["127.0.0.1"] = ["::1", "127.0.0.1"]
    real = socket.socket

    def lacking(family: int = -1, *arguments: Any, **options: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *arguments, **options)

    monkeypatch.setattr(socket, "socket", lacking)
    assert get("/photo") == sample.read_bytes()
