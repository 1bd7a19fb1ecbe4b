"""The bytes behind an http or https URL, from public addresses only, within limits of time and size.

A service that fetches what its users name must not become their way into its own network. Therefore:

* the host is resolved once, *every* address it has is checked, and the connection goes to a checked address, so that a name
  that resolves differently the second time (DNS rebinding) gains nothing; the host name still goes into `Host` and into TLS;
* notations such as `http://2130706433/`, `http://0x7f.1/` or `[::ffff:127.0.0.1]` need no rules of their own, because what is
  checked is the address that the system makes of them;
* redirects are followed here, one by one, and each is checked like the first;
* credentials in a URL go to its host only and appear in no message.

Proxies from the environment are not used: through a proxy the address could not be checked.
"""

from __future__ import annotations

import base64
import http.client
import io
import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from contextlib import closing
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from ..errors import SourceError

REDIRECTS = 5
"""How many redirects are followed."""

_BLOCK = 65_536
_SAFE = "/?&=%:@!$'()*+,;~-._[]|"

_REFUSED = [ipaddress.ip_network(network) for network in ("192.0.0.0/24", "168.63.129.16/32", "64:ff9b:1::/48")]
"""Not public in fact, though some versions of `ipaddress` say so: protocol assignments (with a cloud's metadata service),
another cloud's metadata service, and the local NAT64 prefix."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_url(text: str) -> bool:
    """Return whether a string is a URL of any scheme, and not a path (`C:/photo.jpg` is a path)."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def without_secrets(url: str) -> str:
    """Return a URL fit for messages and results: no user, password or fragment, no values of keys and tokens."""
    url = re.sub(r"[\x00-\x1f\x7f]", "", url.partition("#")[0])
    url = re.sub(r"//[^/?]*@", "//", url, count=1)
    secret = r"([?&;][^=&;]*(?:key|token|secret|sig|pass|auth|cred|session)[^=&;]*=)[^&;]*"
    return re.sub(secret, r"\1…", url, flags=re.IGNORECASE)


def fetch(url: str, *, max_bytes: int, timeout: float, allow_private: bool = False) -> bytes:
    """Download one URL.

    Args:
        url: http or https, with a port and with `user:password@` if need be.
        max_bytes: the download is broken off beyond this.
        timeout: seconds for everything together: resolving, connecting, TLS, redirects and the last byte.
        allow_private: whether private, loopback, link-local and other non-public addresses may be asked.

    Raises:
        SourceError: whatever goes wrong; the message names the URL without its secrets.
    """
    name = without_secrets(url)
    deadline = time.monotonic() + timeout
    try:
        for _ in range(REDIRECTS + 1):
            parts = _parse(url, name)
            with closing(_connect(parts, name, deadline, allow_private)) as connection, _ask(connection, parts) as response:
                target = response.getheader("Location")
                if response.status not in (301, 302, 303, 307, 308) or not target:
                    return _body(response, name, max_bytes)
                url = _follow(url, target)
    except TimeoutError:
        raise SourceError(f"{name} did not arrive within {timeout:g} seconds; try again, or raise timeout") from None
    except ssl.SSLCertVerificationError as error:
        raise SourceError(
            f"{name}: the server's certificate is not trusted ({error.verify_message}); check the address and the clock"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise SourceError(f"{name} cannot be fetched: {reason}; check the address and the connection") from error
    raise SourceError(f"{name} is redirected more than {REDIRECTS} times; give the address where that ends")


def is_public(address: IPAddress) -> bool:
    """Return whether an address is one of the public internet, looking through IPv6 forms that carry an IPv4 address."""
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
        url.encode()  # lone surrogates
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is no number
    except ValueError:  # the URL is not repeated: where it is garbled, so is what of it is secret
        raise SourceError(f"the {url.partition(':')[0]} URL cannot be understood; check its host and port") from None
    if parts.scheme not in ("http", "https"):
        raise SourceError(f"{name}: URLs of the scheme {parts.scheme!r} are not read, only http and https")
    if not host:
        raise SourceError(f"{name} names no host; write it like https://example.org/face.jpg")
    return parts


def _follow(url: str, target: str) -> str:
    try:
        return urljoin(url, quote(target, _SAFE + "#", encoding="latin-1"))
    except ValueError:
        raise SourceError(
            f"{without_secrets(url)} is redirected to a URL that cannot be understood; give the address of the image itself"
        ) from None


def _connect(parts: SplitResult, name: str, deadline: float, allow_private: bool) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    port = parts.port if parts.port is not None else 443 if secure else 80
    rows = _resolve(host, port, name, deadline)
    if not allow_private and not all(is_public(ipaddress.ip_address(row[4][0])) for row in rows):
        raise SourceError(
            f"{name} leads to {host}, which is not on the public internet; allow_private=True permits private addresses"
        )
    failure = OSError("no address")
    for tried, (family, kind, protocol, _, address) in enumerate(rows):
        try:
            plain = socket.socket(family, kind, protocol)
        except OSError as error:  # a machine without IPv6
            failure = error
            continue
        try:
            plain.settimeout(_left(deadline) / (len(rows) - tried))  # a dead address leaves time for the next
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
        connection.default_port = 443 if secure else 80  # for the Host header, which leaves the usual port out
        connection.sock = _TimedSocket(wire, deadline)
        return connection
    raise failure


def _resolve(host: str, port: int, name: str, deadline: float) -> list[Any]:
    """Return the rows of `getaddrinfo`. It cannot be interrupted, so a thread waits for it and may be left behind."""
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_left(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, (socket.gaierror, UnicodeError)):  # UnicodeError: a label that is empty or too long
        raise SourceError(f"{name}: the host {host} is not known; check the spelling and the connection") from None
    if isinstance(answer, Exception):
        raise answer  # pragma: no cover - out of files or memory: nothing a test can bring about without harm
    return answer


def _ask(connection: http.client.HTTPConnection, parts: SplitResult) -> http.client.HTTPResponse:
    headers = {"Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity", "User-Agent": "mien"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    target = quote(parts.path or "/", _SAFE) + (f"?{quote(parts.query, _SAFE)}" if parts.query else "")
    connection.request("GET", target, headers=headers)
    return connection.getresponse()


def _body(response: http.client.HTTPResponse, name: str, max_bytes: int) -> bytes:
    if response.status != 200:
        meaning = http.client.responses.get(response.status, "unknown")
        raise SourceError(f"{name} answered {response.status} ({meaning}) instead of an image; check the address")
    if response.getheader("Content-Encoding", "identity").lower() != "identity":
        raise SourceError(f"{name} answered with a compressed body, which was not asked for; save the file and read that")
    too_large = SourceError(f"{name} holds more than the limit of {max_bytes:,} bytes; raise max_bytes")
    if response.length is not None and response.length > max_bytes:
        raise too_large
    data = bytearray()
    while block := response.read(_BLOCK):
        data += block
        if len(data) > max_bytes:
            raise too_large
    if response.length:  # what the server announced and did not send
        raise SourceError(f"{name} broke off {response.length:,} bytes before its end; try again")
    return bytes(data)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _TimedSocket:
    """The part of a socket that `http.client` uses, with one deadline for all of it.

    A timeout of the socket itself begins anew with every byte that trickles in.
    """

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
        self.raw = sock.makefile("rb", buffering=0)  # holds the socket open after `close`, as http.client expects

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.sock.settimeout(_left(self.deadline))
        return self.raw.readinto(buffer)

    def close(self) -> None:
        self.raw.close()
        super().close()
