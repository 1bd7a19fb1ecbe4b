"""Video jobs: accepted at once, processed one after the other, and polled by their id.

A job is a folder with a random name, shared by all processes of a server, so that each of them can answer for it:

    video           the upload, until it is processed
    state.json      `JobState`, replaced atomically
    results.jsonl   one line per frame, while the video is processed
    cancel          exists when the job is to end

File names of a request never reach the disk. Finished jobs are removed after `Limits.keep_seconds`, and all jobs at shutdown.
When a process dies, the job that it ran is reported as failed; its waiting jobs are taken over by another process
(`Jobs.adopt`).
"""

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
from pathlib import Path

from ..errors import MienError
from ..inference.baseline import Baseline
from ..inference.results import json_line
from ..io.sources import Clip
from ..io.video import Sampling
from ..types import Result
from .metrics import Metrics, process_exists
from .problems import Problem, busy, unforeseen
from .readers import Key, Readers
from .schemas import ACTIVE, JobState, VideoOptions
from .settings import Settings

ID = re.compile(r"[0-9a-f]{32}")

_Task = tuple[Key, Sampling, VideoOptions]


class Jobs:
    """The video jobs of a server, and the thread of this process that runs them."""

    def __init__(self, readers: Readers, settings: Settings, metrics: Metrics, folder: Path) -> None:
        self.readers, self.settings, self.metrics, self.folder = readers, settings, metrics, folder
        self._pool = ThreadPoolExecutor(1, "mien video")
        self._closing = threading.Event()
        self._uploads = 0
        self._active: set[str] = set()

    @contextlib.contextmanager
    def upload(self) -> Iterator[Path]:
        """Yield a new folder for the file `video`, removed unless `submit` is called; Problem if too many are in use."""
        limits = self.settings.limits
        active = sum(state.status in ACTIVE for state in self.states())
        if active >= limits.jobs or self._uploads >= limits.uploads:
            raise busy("too many video jobs; retry later", 30)
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
        """Start a job for the video in a folder of `upload` and return its state; Problem as there or for invalid options."""
        task = self._checked(options)
        if self._closing.is_set() or sum(state.status in ACTIVE for state in self.states()) >= self.settings.limits.jobs:
            raise busy("too many video jobs; retry later", 30)
        state = JobState(id=place.name, name=name, status="waiting", progress=0.0, created=time.time())
        _options(place, os.getpid()).write_text(options.model_dump_json(), encoding="utf-8")
        self._start(place, state, task)
        return state

    def _checked(self, options: VideoOptions) -> _Task:
        try:
            sampling = Sampling(options.every, options.fps, options.start or None, options.end)
            return self.readers.key(options), sampling, options
        except MienError as error:
            raise Problem("invalid", str(error)) from None

    def _start(self, place: Path, state: JobState, task: _Task) -> None:
        _write(place, state)
        self._active.add(place.name)
        self.metrics.active.set(len(self._active))
        self._pool.submit(self._run, place, state, task)

    def adopt(self) -> None:
        """Take over the waiting jobs of processes that died."""
        for place in self.folder.iterdir():
            state, process = _load(place) if ID.fullmatch(place.name) else (None, 0)
            if state is not None and state.status == "waiting" and not process_exists(process):
                with contextlib.suppress(OSError, Problem):  # renaming is atomic: only one of several processes succeeds
                    kept = _options(place, process).rename(_options(place, os.getpid()))
                    options = VideoOptions.model_validate_json(kept.read_text(encoding="utf-8"))
                    self._start(place, state, self._checked(options))

    def state(self, number: str) -> JobState:
        """Return the state of a job; Problem if it is unknown or expired, as in `results` and `end`."""
        if not ID.fullmatch(number) or (state := _read(self.folder / number)) is None:
            raise Problem("not-found", "unknown job; results are kept for a limited time")
        return state

    def states(self) -> list[JobState]:
        """Return the states of all jobs of the server."""
        found = (_read(path) for path in self.folder.iterdir() if ID.fullmatch(path.name))
        return [state for state in found if state is not None]

    def results(self, number: str, after: int = 0) -> Iterator[bytes]:
        """Return the result lines written so far, without the first `after`."""
        self.state(number)
        path = self.folder / number / "results.jsonl"
        return _lines(path, path.stat().st_size, after) if path.exists() else iter(())

    def end(self, number: str) -> JobState | None:
        """Cancel an active job and return its state; remove a finished one and return None."""
        state = self.state(number)
        if state.status in ACTIVE:
            (self.folder / number / "cancel").touch()
            return state
        shutil.rmtree(self.folder / number, ignore_errors=True)
        return None

    def tidy(self) -> None:
        """Remove finished jobs that are too old or exceed `Limits.kept`, and adopt orphaned ones."""
        self.adopt()
        limits = self.settings.limits
        finished = sorted((s for s in self.states() if s.status not in ACTIVE), key=lambda s: s.created, reverse=True)
        for place, state in enumerate(finished):
            ended = (self.folder / state.id / "state.json").stat().st_mtime
            if place >= limits.kept or time.time() - ended > limits.keep_seconds:
                shutil.rmtree(self.folder / state.id, ignore_errors=True)

    def close(self) -> None:
        """Cancel the running job: its results would be out of reach."""
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)

    # ── the thread ──

    def _run(self, place: Path, state: JobState, task: _Task) -> None:
        video = place / "video"
        try:
            state = self._read(place, video, state, task)
        except Exception as error:
            known = isinstance(error, MienError)
            message = str(error).replace(str(video), state.name) if known else unforeseen(error).detail
            state = (_read(place) or state).but(status="failed", message=message)
        finally:
            video.unlink(missing_ok=True)
            self._active.discard(place.name)
            self.metrics.active.set(len(self._active))
        self.metrics.jobs.labels(state.status).inc()
        with contextlib.suppress(OSError):
            _write(place, state)

    def _read(self, place: Path, video: Path, state: JobState, task: _Task) -> JobState:
        limits, cancel, (key, sampling, options) = self.settings.limits, place / "cancel", task
        with Clip(str(video), sampling, called=state.name).open() as opened:
            total = sampling.frames(opened.info.duration, opened.info.rate)
        state, stored = state.but(status="running", progress=0.0 if total else None), 0.0
        recognizer = self.readers(key)
        frames = recognizer.stream(
            video, every=sampling.every, fps=sampling.fps, start=sampling.start, end=sampling.end,
            detect_every=options.detect_every, smooth=None if options.smooth == "none" else options.smooth,
            max_pixels=limits.pixels, max_bytes=limits.video_bytes,
        )  # fmt: skip
        baseline = Baseline(options.baseline, recognizer)
        status, message, faces = "done", None, 0
        with (place / "results.jsonl").open("wb", buffering=0) as rows:

            def write(results: list[Result]) -> int:
                """Write results and return the number of their faces."""
                for result in results:
                    rows.write(json_line(result, *options.shown).encode())
                return sum(len(result.faces) for result in results)

            for _, result in frames:
                message = result.message and result.message.replace(str(video), state.name)
                faces += write(baseline.push(dataclasses.replace(result, source=state.name, message=message)))
                state = state.but(
                    frames=state.frames + 1, faces=state.faces + len(result.faces), time=result.time or state.time,
                    progress=None if total is None else min((state.frames + 1) / total, 0.999),
                )  # fmt: skip
                if time.monotonic() - stored > 0.25:
                    _write(place, state)
                    stored = time.monotonic()
                if cancel.exists() or self._closing.is_set():
                    status = "canceled"
                    break
                full = rows.tell() >= limits.result_bytes or state.faces - faces >= limits.waiting_faces
                if full or state.frames >= limits.video_frames:
                    message = f"only the first {state.frames:,} frames were processed: that is the limit of this server"
                    break
            write(baseline.close())
        return state.but(status=status, progress=1.0 if status == "done" else state.progress, message=message)


def _write(place: Path, state: JobState) -> None:
    part = place / "state.part"
    part.write_text(json.dumps({**state.model_dump(), "process": os.getpid()}), encoding="utf-8")
    part.replace(place / "state.json")


def _read(place: Path) -> JobState | None:
    state, process = _load(place)
    if state is not None and state.status == "running" and not process_exists(process):
        return state.but(status="failed", message=f"its process ended after {state.frames} frames; send the video again")
    return state


def _options(place: Path, process: int) -> Path:
    """Return the file with the options of a job that belongs to a process."""
    return place / f"options-{process}.json"


def _load(place: Path) -> tuple[JobState | None, int]:
    """Return the state in a folder and the process that wrote it."""
    try:
        table = json.loads((place / "state.json").read_text(encoding="utf-8"))
        return JobState(**{name: value for name, value in table.items() if name != "process"}), table["process"]
    except (OSError, ValueError):
        return None, 0


def _lines(path: Path, size: int, after: int) -> Iterator[bytes]:
    """Yield whole lines of a file up to a size, in blocks."""
    with path.open("rb") as file:
        for _ in itertools.islice(file, after):
            pass
        while (left := size - file.tell()) > 0 and (block := file.readlines(min(left, 65_536))):
            yield b"".join(line for line in block if line.endswith(b"\n"))
