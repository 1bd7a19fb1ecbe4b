"""Videos are read as jobs: accepted at once, read one after the other, asked for by their number.

A job is a folder with a random name of our own, so that every process of a server can answer for it:

    video           what was sent, until it is read
    state.json      `JobState`, replaced as a whole
    results.jsonl   one line for each frame read, while it is read
    cancel          is there when someone wants it to end

Nothing that a request names reaches the disk. What is finished goes after `Limits.keep_seconds`, and everything at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import MienError
from ..inference.results import json_line
from ..io.video import Sampling, Video
from .metrics import Metrics, lives
from .options import VideoOptions
from .problems import Problem, busy, unforeseen
from .readers import Key, Readers
from .settings import Settings

NUMBER = re.compile(r"[0-9a-f]{32}")

Status = Literal["waiting", "reading", "done", "failed", "canceled"]
ACTIVE = ("waiting", "reading")


@dataclass(frozen=True, kw_only=True)
class JobState:
    """Where a job stands."""

    id: str
    """Its number: whoever knows it may ask for the results."""
    name: str
    """What the sender called the video."""
    status: Status
    """`done`, `failed` (then `message` says why) and `canceled` are final; results are kept in all three."""
    progress: float | None
    """Share that is read, 0 … 1; null where the video does not say how long it is."""
    frames: int = 0
    """Frames read."""
    faces: int = 0
    """Faces read in them."""
    time: float = 0.0
    """Second of the video up to which it is read."""
    created: float = 0.0
    """Seconds since 1970."""
    message: str | None = None
    """Why it failed, or what a careful reader should know."""

    @staticmethod
    def schema() -> dict[str, Any]:
        """Return the JSON Schema."""
        texts, numbers = ("id", "name"), ("frames", "faces")
        properties: dict[str, Any] = {name: {"type": "string"} for name in texts}
        properties["status"] = {"type": "string", "enum": list(get_args(Status))}
        properties["progress"] = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
        properties |= {name: {"type": "integer", "minimum": 0} for name in numbers}
        properties |= {"time": {"type": "number"}, "created": {"type": "number"}, "message": {"type": ["string", "null"]}}
        return {
            "type": "object", "description": JobState.__doc__, "properties": properties, "required": list(properties),
            "additionalProperties": False,
        }  # fmt: skip


class Jobs:
    """The videos of a server, and the thread of this process that reads them."""

    def __init__(self, readers: Readers, settings: Settings, metrics: Metrics, folder: Path) -> None:
        self.readers, self.settings, self.metrics, self.folder = readers, settings, metrics, folder
        self._pool = ThreadPoolExecutor(1, "mien video")
        self._closing = threading.Event()
        self._uploads = 0
        metrics.gauge("mien_jobs_active", self._mine)
        self._active: set[str] = set()

    def _mine(self) -> float:
        return len(self._active)

    @contextlib.contextmanager
    def upload(self) -> Iterator[Path]:
        """Give a new folder to write `video` into; it is removed unless `submit` is reached.

        Raises:
            Problem: too many videos are arriving, waiting or being read.
        """
        limits = self.settings.limits
        active = sum(state.status in ACTIVE for state in self.states())
        if active >= limits.jobs or self._uploads >= limits.uploads:
            raise busy("too many videos are waiting to be read; ask again later", 30)
        place = self.folder / secrets.token_hex(16)
        place.mkdir(mode=0o700)
        self._uploads += 1
        try:
            yield place
        finally:
            self._uploads -= 1
            if not (place / "state.json").exists():
                shutil.rmtree(place, ignore_errors=True)

    def submit(self, place: Path, name: str, options: VideoOptions) -> JobState:
        """Let the video in a folder of `upload` be read, and return where that stands.

        Raises:
            Problem: options that make no sense.
        """
        key, sampling = check(self.readers, options)
        if self._closing.is_set() or sum(state.status in ACTIVE for state in self.states()) >= self.settings.limits.jobs:
            raise busy("too many videos are waiting to be read; ask again later", 30)
        state = JobState(id=place.name, name=name, status="waiting", progress=0.0, created=time.time())
        _write(place, state)
        self._active.add(place.name)
        self._pool.submit(self._run, place, state, key, sampling, options)
        return state

    def state(self, number: str) -> JobState:
        """Return where a job stands.

        Raises:
            Problem: there is no such job, or no longer.
        """
        if not NUMBER.fullmatch(number) or (state := _read(self.folder / number)) is None:
            raise Problem("not-found", "there is no such job; results are kept for a limited time")
        return state

    def states(self) -> list[JobState]:
        """Return all jobs of the server."""
        found = (_read(path) for path in self.folder.iterdir() if NUMBER.fullmatch(path.name))
        return [state for state in found if state is not None]

    def results(self, number: str, after: int = 0) -> Iterator[bytes]:
        """Return the lines written so far, without the first `after`.

        Raises:
            Problem: as for `state`.
        """
        self.state(number)
        path = self.folder / number / "results.jsonl"
        return _lines(path, path.stat().st_size, after) if path.exists() else iter(())

    def end(self, number: str) -> JobState | None:
        """End a job that waits or is being read, and return it; remove one that is finished, and return None.

        Raises:
            Problem: as for `state`.
        """
        state = self.state(number)
        if state.status in ACTIVE:
            (self.folder / number / "cancel").touch()
            return state
        shutil.rmtree(self.folder / number, ignore_errors=True)
        return None

    def tidy(self) -> None:
        """Remove what is finished and too old, or one too many."""
        limits = self.settings.limits
        finished = sorted((s for s in self.states() if s.status not in ACTIVE), key=lambda s: s.created, reverse=True)
        for place, state in enumerate(finished):
            ended = (self.folder / state.id / "state.json").stat().st_mtime
            if place >= limits.kept or time.time() - ended > limits.keep_seconds:
                shutil.rmtree(self.folder / state.id, ignore_errors=True)

    def close(self) -> None:
        """End what is being read: nobody could ask for its results any more."""
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)

    # ── the thread ──

    def _run(self, place: Path, state: JobState, key: Key, sampling: Sampling, options: VideoOptions) -> None:
        video = place / "video"
        try:
            state = self._read(place, video, state, key, sampling, options)
        except MienError as error:
            message = str(error).replace(str(video), state.name)
            state = dataclasses.replace(_read(place) or state, status="failed", message=message)
        except Exception as error:
            state = dataclasses.replace(_read(place) or state, status="failed", message=unforeseen(error).detail)
        finally:
            video.unlink(missing_ok=True)
            self._active.discard(place.name)
        self.metrics.count("mien_jobs_total", outcome=state.status)
        with contextlib.suppress(OSError):
            _write(place, state)

    def _read(self, place: Path, video: Path, state: JobState, key: Key, sampling: Sampling, options: VideoOptions) -> JobState:
        limits, cancel = self.settings.limits, place / "cancel"
        with Video(video, state.name) as opened:
            total = sampling.frames(opened.info.duration, opened.info.rate)
        state, told = dataclasses.replace(state, status="reading", progress=0.0 if total else None), 0.0
        frames = self.readers(key).stream(
            video, every=sampling.every, fps=sampling.fps, start=sampling.start, end=sampling.end,
            detect_every=options.detect_every, smooth=None if options.smooth == "none" else options.smooth,
            max_pixels=limits.pixels, max_bytes=limits.video_bytes,
        )  # fmt: skip
        size, status, message = 0, "done", None
        with (place / "results.jsonl").open("wb", buffering=0) as rows:
            for _, result in frames:
                message = result.message and result.message.replace(str(video), state.name)
                row = json_line(dataclasses.replace(result, source=state.name, message=message), options.points).encode()
                rows.write(row)
                size += len(row)
                state = dataclasses.replace(
                    state, frames=state.frames + 1, faces=state.faces + len(result.faces), time=result.time or state.time,
                    progress=None if total is None else min((state.frames + 1) / total, 0.999),
                )  # fmt: skip
                if time.monotonic() - told > 0.25:
                    _write(place, state)
                    told = time.monotonic()
                if cancel.exists() or self._closing.is_set():
                    status = "canceled"
                    break
                if state.frames >= limits.video_frames or size >= limits.result_bytes:
                    message = f"only the first {state.frames:,} frames were read: that is the limit of this server"
                    break
        progress = 1.0 if status == "done" else state.progress
        return dataclasses.replace(state, status=status, progress=progress, message=message)


def check(readers: Readers, options: VideoOptions) -> tuple[Key, Sampling]:
    """Return what the options of a video come to.

    Raises:
        Problem: no such model, or frames that contradict each other.
    """
    try:
        return readers.key(options), Sampling(options.every, options.fps, options.start or None, options.end)
    except MienError as error:
        raise Problem("invalid", str(error)) from None


def _write(place: Path, state: JobState) -> None:
    part = place / "state.part"
    part.write_text(json.dumps({**dataclasses.asdict(state), "process": os.getpid()}), encoding="utf-8")
    part.replace(place / "state.json")


def _read(place: Path) -> JobState | None:
    try:
        table = json.loads((place / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    process = table.pop("process")
    state = JobState(**table)
    if state.status in ACTIVE and not lives(process):
        return dataclasses.replace(state, status="failed", message="the process that read it has ended")
    return state


def _lines(path: Path, size: int, after: int) -> Iterator[bytes]:
    """Yield whole lines of a file up to a size, in blocks."""
    with path.open("rb") as file:
        for _ in itertools.islice(file, after):
            pass
        while (left := size - file.tell()) > 0 and (block := file.readlines(min(left, 65_536))):
            yield b"".join(line for line in block if line.endswith(b"\n"))
