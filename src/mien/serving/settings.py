"""Settings of a server: where it listens, who has access, and its limits."""

import dataclasses
import ipaddress
import json
import socket
from dataclasses import dataclass, field

from ..config import build
from ..errors import ConfigError
from ..runtime.devices import Device

ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # addresses that mean all interfaces of a machine


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one request, and of all requests together."""

    request_bytes: int = 64_000_000
    """Bytes of a request body other than a video."""
    image_bytes: int = 20_000_000
    """Bytes of one encoded image."""
    images: int = 32
    """Images per request."""
    pixels: int = 50_000_000
    """Width × height of an image, checked before decoding."""
    faces: int = 100
    """Faces per image, the largest and most certain first."""
    video_bytes: int = 1_000_000_000
    """Bytes of one video."""
    video_frames: int = 200_000
    """Frames read per video."""
    waiting_faces: int = 50_000
    """Faces of one video in memory while their baseline is computed."""
    result_bytes: int = 500_000_000
    """Bytes of the results of one video."""
    frame_bytes: int = 2_000_000
    """Bytes of one frame of a stream."""
    body_bytes: int = 512_000_000
    """Bytes of all request bodies in memory at a time; videos go to a temporary file instead."""
    queue: int = 128
    """Images in the queue."""
    uploads: int = 4
    """Concurrent video uploads."""
    jobs: int = 4
    """Video jobs waiting or running."""
    kept: int = 32
    """Finished jobs whose results are kept; the oldest are removed first."""
    keep_seconds: float = 3600.0
    """Seconds for which the results of a job are kept."""
    streams: int = 4
    """Concurrent streams."""
    seconds: float = 30.0
    """Seconds for a request to arrive, and as many to process it."""
    upload_seconds: float = 900.0
    """Seconds for a video to arrive."""
    idle_seconds: float = 60.0
    """Seconds without a frame after which a stream is closed."""

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            if not (value := getattr(self, each.name)) > 0:
                raise ConfigError(f"limit {each.name} must be above 0, got {value!r}", value=value, expected="above 0")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a process needs to create its `mien.serving.app`."""

    models: tuple[str, ...] = ()
    """Models offered before the bundled ones: names, cards or `.onnx` files; the first is the default."""
    detector: str = "blazeface"
    """Name in `mien.faces.detection.DETECTORS`."""
    device: str = "cpu"
    """Device of the networks, as for `mien.load`."""
    tokens: tuple[str, ...] = field(default=(), repr=False)
    """Accepted bearer tokens; empty: no token is required."""
    allow_urls: bool = False
    """Whether requests may name images by public URLs."""
    cors: tuple[str, ...] = ()
    """Allowed origins of cross-origin requests, such as `https://example.org`; `*` allows any. Case-insensitive."""
    hosts: tuple[str, ...] = ()
    """Accepted values of the Host header, without a port; empty or `*`: any; `0.0.0.0` or `::`: any IP address.
    Case-insensitive."""
    threads: int = 2
    """Inference threads, each on one core."""
    batch: int = 16
    """Maximum number of images in a batch."""
    wait: float = 0.005
    """Maximum seconds that an image waits for others to share its batch."""
    folder: str | None = None
    """Folder of the video jobs, shared by all processes of a server; None: a temporary folder."""
    limits: Limits = field(default_factory=Limits)
    """Limits of requests."""

    def __post_init__(self) -> None:
        Device.parse(self.device)
        if any(not token or not token.isascii() or not token.isprintable() or " " in token for token in self.tokens):
            raise ConfigError("a token must be printable ASCII without spaces; choose another")
        for name in ("cors", "hosts"):  # browsers send both in lower case
            object.__setattr__(self, name, tuple(each.lower() for each in getattr(self, name)))
        for origin in self.cors:
            if origin != "*" and (not origin.startswith(("http://", "https://")) or origin.count("/") != 2):
                raise ConfigError(f"invalid origin {origin!r}; expected https://example.org, without a path", value=origin)
        if self.threads < 1 or self.batch < 1:
            raise ConfigError(f"threads and batch must be 1 or more, got {self.threads} and {self.batch}")

    def to_json(self) -> str:
        """Return the settings as JSON, for the worker processes."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """Return the settings written by `to_json`."""
        return build(cls, json.loads(text), "settings")


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that a host is given as, None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Return whether an address to listen at is reached from this machine only."""
    address = address_of(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def hosts_of(host: str, allowed: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the accepted Host names of a server that listens at `host`: its own names and `allowed`.

    Otherwise a page on the internet could resolve its own name to this server's address and read the responses (DNS rebinding).
    A request that names an IP address cannot be such a page's, and is accepted where the server listens on all interfaces.
    """
    own = ("localhost", "127.0.0.1", "::1") if is_loopback(host) or host in ANY_ADDRESS else ()
    if not is_loopback(host):
        own += (socket.gethostname(),)
    return tuple(dict.fromkeys((*own, host, *allowed)))
