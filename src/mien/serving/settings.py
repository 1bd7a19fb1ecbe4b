"""What a server is told at its start: where it listens, whom it lets in, how much it takes."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from ..runtime.devices import Device


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that one request, and all of them together, may ask for."""

    request_bytes: int = 64_000_000
    """Bytes of one request's body, videos aside."""
    image_bytes: int = 20_000_000
    """Bytes of one encoded image."""
    images: int = 32
    """Images in one request."""
    pixels: int = 50_000_000
    """Width × height of one image, checked before any pixel is decoded."""
    faces: int = 100
    """Faces of one image, the largest and surest first."""
    video_bytes: int = 1_000_000_000
    """Bytes of one video."""
    video_frames: int = 200_000
    """Frames that are read of one video."""
    result_bytes: int = 500_000_000
    """Bytes that the results of one video may take."""
    frame_bytes: int = 2_000_000
    """Bytes of one frame of a stream."""
    body_bytes: int = 512_000_000
    """Bytes of all request bodies that are held in memory at a time, videos aside: they go to a temporary file."""
    queue: int = 128
    """Images that may wait to be read."""
    uploads: int = 4
    """Videos that may arrive at a time."""
    jobs: int = 4
    """Videos that may wait or be read at a time."""
    kept: int = 32
    """Finished videos whose results are kept; the oldest go first."""
    keep_seconds: float = 3600.0
    """Seconds for which the results of a video are kept."""
    streams: int = 4
    """Streams that may be open at a time."""
    seconds: float = 30.0
    """Seconds that a request may take to arrive, and as many to be answered."""
    upload_seconds: float = 900.0
    """Seconds that a video may take to arrive."""
    idle_seconds: float = 60.0
    """Seconds without a frame after which a stream is closed."""

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            if not getattr(self, each.name) > 0:
                raise ConfigError(f"the limit {each.name} is {getattr(self, each.name)!r}; give a number above 0")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a process needs to know to make its `mien.serving.app`."""

    models: tuple[str, ...] = ()
    """Models to offer before the bundled ones: names, cards or `.onnx` files; the first is the one that answers by default."""
    detector: str = "blazeface"
    """Name in `mien.faces.detection.DETECTORS`."""
    device: str = "cpu"
    """Where networks run, as for `mien.load`."""
    tokens: tuple[str, ...] = field(default=(), repr=False)
    """Bearer tokens that are let in; none: everybody is."""
    allow_urls: bool = False
    """Whether images may be named by a public URL."""
    cors: tuple[str, ...] = ()
    """Origins whose pages may ask: `https://example.org`; `*` is any. Upper and lower case are the same."""
    hosts: tuple[str, ...] = ()
    """Names by which this server is reached, without a port, checked against the header Host; none: any name. Upper and lower
    case are the same."""
    threads: int = 2
    """Threads that read images, each on one core."""
    batch: int = 16
    """Images that share the network calls, at most."""
    wait: float = 0.005
    """Seconds that an image waits, at most, for others to share its calls."""
    folder: str | None = None
    """Where the results of videos lie, shared by all processes of a server; None: each makes its own."""
    limits: Limits = field(default_factory=Limits)
    """The most that may be asked for."""

    def __post_init__(self) -> None:
        Device.parse(self.device)
        if any(not token or not token.isascii() or not token.isprintable() or " " in token for token in self.tokens):
            raise ConfigError("a token is empty or holds spaces or other than printable ASCII characters; choose another")
        for name in ("cors", "hosts"):  # browsers send both in lower case
            object.__setattr__(self, name, tuple(each.lower() for each in getattr(self, name)))
        for origin in self.cors:
            if origin != "*" and (not origin.startswith(("http://", "https://")) or origin.count("/") != 2):
                raise ConfigError(f"{origin!r} is no origin; write it as https://example.org, without a path")
        if self.threads < 1 or self.batch < 1:
            raise ConfigError(f"threads and batch are {self.threads} and {self.batch}; give 1 or more")

    def to_json(self) -> str:
        """Return the settings as JSON, for the processes of a server."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return the settings that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        limits = Limits(**values.pop("limits"))
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        chosen: dict[str, Any] = {**values, **lists, "limits": limits}
        return cls(**chosen)


def hosts_of(host: str, allowed: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the names by which a server listening at `host` may be asked.

    A server on the loopback interface is asked by its usual names only, or else a page on the internet could make its own name
    lead to 127.0.0.1 and read what it likes (DNS rebinding). One that listens elsewhere answers to any name unless told some.
    """
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    return tuple(dict.fromkeys(("localhost", "127.0.0.1", "::1", host, *allowed))) if local else allowed
