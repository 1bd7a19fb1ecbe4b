"""Download http and https URLs, from public addresses only, within limits of time and size.

A service that downloads what its users name must not give them access to its own network (SSRF). Therefore:

* the host is resolved once, *every* address is checked, and the connection uses a checked address, so a name that resolves
  differently the second time (DNS rebinding) has no effect; `Host` and TLS still use the host name;
* notations such as `http://2130706433/`, `http://0x7f.1/` or `[::ffff:127.0.0.1]` need no rules: the address itself is checked;
* redirects are followed here, and each is checked like the first URL;
* credentials in a URL are sent to its host only and appear in no message.

Proxies from the environment are not used: through a proxy the address could not be checked.
"""

from __future__ import annotations

import base64
import hashlib
import io
import ipaddress
import queue
import re
import socket
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from ..errors import SourceError, WeightsError, needs, reason
from .files import cache_folder, locked, sha256, write_file

if TYPE_CHECKING:
    import http.client

REDIRECTS = 5  # maximum number of redirects

_BLOCK = 65_536
_SAFE = "/?&=%:@!$'()*+,;~-._[]|"

_REFUSED = [ipaddress.ip_network(network) for network in ("192.0.0.0/24", "168.63.129.16/32", "64:ff9b:1::/48")]
"""Not public, although some versions of `ipaddress` differ: protocol assignments (with a cloud's metadata service), another
cloud's metadata service, and the local NAT64 prefix."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_url(text: str) -> bool:
    """Return whether a string is a URL of any scheme; `C:/photo.jpg` is a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def without_secrets(url: str) -> str:
    """Return a URL for messages and results: without user, password, fragment and values of keys and tokens."""
    url = re.sub(r"[\x00-\x1f\x7f]", "", url.partition("#")[0])
    url = re.sub(r"//[^/?]*@", "//", url, count=1)
    secret = r"([?&;][^=&;]*(?:key|token|secret|sig|pass|auth|cred|session)[^=&;]*=)[^&;]*"
    return re.sub(secret, r"\1…", url, flags=re.IGNORECASE)


def fetch(url: str, *, max_bytes: int, timeout: float, allow_private: bool = False) -> bytes:
    """Download one URL: http or https, optionally with a port and `user:password@`.

    `max_bytes` limits the size, `timeout` the seconds in total for resolving, connecting, TLS, redirects and the body;
    `allow_private` allows private, loopback, link-local and other non-public addresses. Raises SourceError: any failure; the
    message contains the URL without its secrets.
    """
    import http.client
    import ssl

    name = without_secrets(url)
    deadline = time.monotonic() + timeout
    try:
        for _ in range(REDIRECTS + 1):
            parts = _parse(url, name)
            with closing(_connect(parts, name, deadline, allow_private)) as connection, _get(connection, parts) as response:
                target = response.getheader("Location")
                if response.status not in (301, 302, 303, 307, 308) or not target:
                    return _body(response, name, max_bytes)
                try:
                    url = urljoin(url, quote(target, _SAFE + "#", encoding="latin-1"))
                except ValueError:
                    message = f"{without_secrets(url)} is redirected to an invalid URL; give the address of the image itself"
                    raise SourceError(message, path=without_secrets(url)) from None
    except TimeoutError:
        message = f"{name} was not downloaded within {timeout:g} seconds; try again, or raise timeout"
        raise SourceError(message, path=name, expected=timeout) from None
    except ssl.SSLCertVerificationError as error:
        message = f"{name}: the server's certificate is not trusted ({error.verify_message}); check the address and the clock"
        raise SourceError(message, path=name) from error
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "strerror", None) or type(error).__name__  # the text of other errors may have secrets
        raise SourceError(f"{name} cannot be downloaded: {cause}; check the address and the connection", path=name) from error
    raise SourceError(f"{name} is redirected more than {REDIRECTS} times; give the final address", path=name)


def is_public(address: IPAddress) -> bool:
    """Return whether an address is on the public internet; an IPv4 address inside an IPv6 address decides for it."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if carried is not None:
            return is_public(carried)
        if address.is_site_local:
            return False
    if any(address in network for network in _REFUSED):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _parse(url: str, name: str) -> SplitResult:
    try:
        url.encode()  # Raises for lone surrogates.
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # Raises for an invalid port.
    except ValueError:  # The message does not repeat an invalid URL, because its secrets cannot be recognized.
        raise SourceError(f"the {url.partition(':')[0]} URL is invalid; check its host and port") from None
    if parts.scheme not in ("http", "https"):
        message = f"{name}: URL scheme {parts.scheme!r} is not supported here (expected http or https)"
        raise SourceError(message, path=name, value=parts.scheme, expected=("http", "https"))
    if not host:
        raise SourceError(f"{name} has no host; expected a URL such as https://example.org/face.jpg", path=name)
    return parts


def _connect(parts: SplitResult, name: str, deadline: float, allow_private: bool) -> http.client.HTTPConnection:
    import http.client
    import ssl

    host = parts.hostname or ""
    secure = parts.scheme == "https"
    port = parts.port if parts.port is not None else 443 if secure else 80
    rows = _resolve(host, port, name, deadline)
    if not allow_private:
        _check_public(rows, host, name)
    failure = OSError("no address")
    for tried, (family, kind, protocol, _, address) in enumerate(rows):
        try:
            plain = socket.socket(family, kind, protocol)
        except OSError as error:  # A machine without IPv6.
            failure = error
            continue
        try:
            plain.settimeout(_left(deadline) / (len(rows) - tried))  # An unreachable address leaves time for the next.
            plain.connect(address)
            wire = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if secure else plain
        except ssl.SSLError:
            plain.close()
            raise
        except OSError as error:
            plain.close()
            failure = error
            continue
        connection = http.client.HTTPConnection(host, port)
        connection.default_port = 443 if secure else 80  # For the Host header, which omits the default port.
        connection.sock = _TimedSocket(wire, deadline)
        return connection
    raise failure


def _resolve(host: str, port: int, name: str, deadline: float) -> list[Any]:
    """Return the rows of `getaddrinfo`, which cannot be interrupted and therefore runs in a thread."""
    results: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            results.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            results.put(error)

    threading.Thread(target=resolve, daemon=True).start()
    try:
        result = results.get(timeout=_left(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(result, (socket.gaierror, UnicodeError)):  # UnicodeError: an empty or too long label.
        message = f"{name}: unknown host {host}; check the spelling and the connection"
        raise SourceError(message, path=name, value=host) from None
    if isinstance(result, Exception):
        raise result  # pragma: no cover - out of file descriptors or memory
    return result


def require_public(host: str, name: str, timeout: float) -> None:
    """Check that every address of a host is public. Raises SourceError: it is not, or the host is unknown."""
    try:
        _check_public(_resolve(host, 0, name, time.monotonic() + timeout), host, name)
    except TimeoutError:
        raise SourceError(f"{name}: the host {host} was not resolved within {timeout:g} seconds", path=name) from None


def _check_public(rows: list[Any], host: str, name: str) -> None:
    if not all(is_public(ipaddress.ip_address(row[4][0])) for row in rows):
        message = f"{name}: the host {host} is not on the public internet; allow_private=True permits private addresses"
        raise SourceError(message, path=name, value=host)


def _get(connection: http.client.HTTPConnection, parts: SplitResult) -> http.client.HTTPResponse:
    headers = {"Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity", "User-Agent": "mien"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    target = quote(parts.path or "/", _SAFE) + (f"?{quote(parts.query, _SAFE)}" if parts.query else "")
    connection.request("GET", target, headers=headers)
    return connection.getresponse()


def _body(response: http.client.HTTPResponse, name: str, max_bytes: int) -> bytes:
    import http.client

    if response.status != 200:
        meaning = http.client.responses.get(response.status, "unknown")
        message = f"{name}: HTTP status {response.status} ({meaning}) instead of an image; check the address"
        raise SourceError(message, path=name, value=response.status, expected=200)
    if response.getheader("Content-Encoding", "identity").lower() != "identity":
        raise SourceError(f"{name}: the response is compressed, which was not requested; download the file first", path=name)
    message = f"{name} has more than the limit of {max_bytes:,} bytes; raise max_bytes"
    too_large = SourceError(message, path=name, expected=max_bytes)
    if response.length is not None and response.length > max_bytes:
        raise too_large
    data = bytearray()
    while block := response.read(_BLOCK):
        data += block
        if len(data) > max_bytes:
            raise too_large
    if response.length:  # Announced and not sent.
        raise SourceError(f"{name}: the download stopped {response.length:,} bytes before its end; try again", path=name)
    return bytes(data)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _TimedSocket:
    """The methods of a socket that `http.client` uses, with one deadline; a socket's own timeout restarts with every byte."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock, self.deadline = sock, deadline

    def sendall(self, data: bytes) -> None:
        self.sock.settimeout(_left(self.deadline))
        self.sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self.sock, self.deadline))

    def close(self) -> None:
        self.sock.close()


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock, self.deadline = sock, deadline
        self.raw = sock.makefile("rb", buffering=0)  # Keeps the socket open after `close`, as http.client expects.

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.sock.settimeout(_left(self.deadline))
        return self.raw.readinto(buffer)

    def close(self) -> None:
        self.raw.close()
        super().close()


FILE = "model.onnx"  # file of an hf:// repository if none is named: the layout of `mien export --push-ready`

_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>[\w./-]+))?")


def model_file(url: str) -> Path:
    """Return the path of the weight file of `https://…/model.onnx` or `hf://owner/repo[@revision][/file]`, downloaded once.

    `#sha256=…` at the end pins the content: another file is rejected, also one that is cached already. Without https a digest
    is required, since anybody on the way could replace the file. Raises WeightsError: an invalid URL, a failed download, or
    another digest than the pinned one; MissingExtra: huggingface_hub is not installed.
    """
    place, _, fragment = url.partition("#")
    name, digest = without_secrets(place), fragment.removeprefix("sha256=").lower()
    if fragment and not re.fullmatch(r"sha256=[0-9a-fA-F]{64}", fragment):
        raise WeightsError(f"{name}: expected #sha256= and 64 hexadecimal digits, got #{fragment[:80]}", value=fragment)
    path = _from_hub(place, name) if place.startswith("hf://") else _from_web(place, name, pinned=bool(digest))
    if digest and (found := sha256(path)) != digest:
        message = f"{name} has sha256 {found}, expected {digest}: the file was changed, or the digest is of another file"
        raise WeightsError(f"{message}; the downloaded file is {path}", path=path, value=found, expected=digest)
    return path


def model_folder() -> Path:
    """Return the folder of downloaded models, as `cache_folder` does; raises WeightsError for a user without a home folder."""
    if (found := cache_folder("models")) is None:
        raise WeightsError("this user has no home folder for downloaded models; set MIEN_CACHE to a folder")
    return found


def _from_web(url: str, name: str, *, pinned: bool) -> Path:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or (parts.scheme == "http" and not pinned):
        raise WeightsError(f"{name}: expected https://, hf:// or http:// with #sha256=…", value=name)
    file = re.sub(r"[^\w.-]", "_", parts.path.rpartition("/")[2]) or FILE
    path = model_folder() / hashlib.sha256(url.encode()).hexdigest()[:16] / file
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, wait=True):
        if not path.is_file():
            try:
                data = fetch(url, max_bytes=4_000_000_000, timeout=1800, allow_private=True)  # the user's own URL
            except SourceError as error:
                raise WeightsError(str(error), value=name) from error
            write_file(path, data)
    return path


def _from_hub(url: str, name: str) -> Path:
    found = _HUB.fullmatch(url)
    if found is None:
        message = f"invalid {name}: expected hf://owner/repo, hf://owner/repo@revision or hf://owner/repo/file"
        raise WeightsError(message, value=name)
    with needs("hub", "huggingface_hub"):
        from huggingface_hub import hf_hub_download
    repository, revision, file = found["repo"], found["revision"], found["file"] or FILE
    try:
        return Path(hf_hub_download(repository, file, revision=revision, cache_dir=model_folder() / "hub"))
    except Exception as error:  # its exceptions have no common base
        message = f"cannot download {name}: {reason(error)}; check the repository, the revision and HF_TOKEN"
        raise WeightsError(message, value=name) from error
