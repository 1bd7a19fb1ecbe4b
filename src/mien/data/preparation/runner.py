"""Run a preparation over a dataset: in parallel, resumable, with identical files every time.

The output folder documents itself: `prepared.jsonl` has a line per image, written after its files are complete;
`manifest.json` contains the settings, the source with digests, and the result; `labels.csv` contains the annotations of each
prepared image, and makes the folder a dataset (`csv`).
"""

import hashlib
import itertools
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from PIL import Image

from ... import __version__
from ...errors import ConfigError, SourceError
from ...io.files import LOCK, atomic_write, csv_text, locked_folder, sha256, write_errors, write_file
from ...io.images import printable
from ..datasets import Dataset

JOURNAL, MANIFEST, LABELS = "prepared.jsonl", "manifest.json", "labels.csv"
FORMATS: Mapping[str, tuple[str, Mapping[str, int]]] = {"png": ("PNG", {}), "jpg": ("JPEG", {"quality": 100})}
"""Suffix → Pillow's format and options; JPEG as by the Global-ROI authors."""
UNLABELED = "unlabeled"  # folder of images without a label
AGAIN = "free some space and start the command again"

Progress = Callable[[int], None]  # called with the number of images done since the last call


@dataclass(frozen=True, slots=True)
class Made:
    """Output for one image."""

    status: str
    """`"ok"`, `"no face"`, `"no region"` or `"unreadable"`."""
    images: Mapping[str, np.ndarray]
    """Sub-folder of the split → uint8 image; all are written, or none."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON values for `prepared.jsonl`."""


class Work(Protocol):
    """A kind of preparation. It must pickle."""

    def describe(self) -> dict[str, Any]:
        """Return all settings as JSON values."""

    def open(self) -> Callable[[np.ndarray], Made]:
        """Load models, once per process, and return the function for one image, (H, W, 3) uint8 RGB."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Result of a run."""

    status: Mapping[str, Mapping[str, int]]
    """Split → status → number of images."""
    new: int
    """Images prepared by this run; the others existed before."""
    digest: str
    """sha256 over all files, in order of their names."""


class _Task(NamedTuple):
    split: str
    row: int
    stem: str


def prepare(
    splits: Mapping[str, Dataset],
    work: Work,
    out: str | Path,
    *,
    format: Literal["png", "jpg"] = "png",  # noqa: A002 - the usual word
    workers: int = 1,
    progress: Progress = lambda number: None,
) -> Summary:
    """Prepare all images of the splits (name → images), in `workers` processes, each of which loads the networks.

    Files are `OUT/<split>/[<folder>/]<class>/<name>.<format>`, without `<split>` where that is `"all"`; the summary is also in
    `OUT/manifest.json`. Files of an earlier run with the same settings and data are kept; after an interruption, only the
    images in progress are repeated. Raises ConfigError: `out` contains another preparation, is locked by another process, or
    cannot be written.
    """
    folder = Path(out)
    with locked_folder(folder):  # Journal and manifest have the same names in every process.
        source = {
            name: {"dataset": data.name, "protocol": data.protocol, "images": len(data), "digest": data.digest}
            for name, data in splits.items()
        }
        settings = {"mien": __version__, "settings": work.describe() | {"format": format}, "source": source}
        done = _resume(folder, settings)
        tasks = [task for name, data in splits.items() for task in _tasks(name, data)]
        waiting = [task for task in tasks if (task.split, task.stem) not in done]
        progress(len(tasks) - len(waiting))
        for left in folder.rglob(".*.part"):  # Of killed processes.
            left.unlink()
        for task, line in zip(waiting, _run(splits, work, folder, format, waiting, workers), strict=True):
            done[task.split, task.stem] = line
            with write_errors(folder / JOURNAL, AGAIN), (folder / JOURNAL).open("a", encoding="utf-8") as journal:
                journal.write(json.dumps(line) + "\n")
            progress(1)
        lines = [done[task.split, task.stem] for task in tasks]
        write_file(folder / JOURNAL, "".join(json.dumps(line) + "\n" for line in lines), AGAIN)
        _write_labels(folder, splits, zip(tasks, lines, strict=True))
        counts = {name: Counter(line["status"] for line in lines if line["split"] == name) for name in splits}
        status = {name: dict(sorted(count.items())) for name, count in counts.items()}
        digest = hashlib.sha256()
        for name in sorted(file for line in lines for file in line["files"]):
            digest.update(name.encode() + b"\0" + bytes.fromhex(sha256(folder / name)))
        manifest = {**settings, "status": status, "digest": digest.hexdigest()}
        write_file(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n", AGAIN)
        return Summary(status, len(waiting), manifest["digest"])


def _run(
    splits: Mapping[str, Dataset], work: Work, folder: Path, suffix: str, tasks: list[_Task], workers: int
) -> Iterator[dict[str, Any]]:
    if workers <= 1 or len(tasks) < 2:
        yield from map(_Worker(splits, work, folder, suffix), tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _open_worker, (splits, work, folder, suffix)) as pool:
        try:
            yield from pool.map(_call_worker, tasks, chunksize=4)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Worker:
    """Prepares single images in one process."""

    def __init__(self, splits: Mapping[str, Dataset], work: Work, folder: Path, suffix: str) -> None:
        self.splits, self.folder, self.suffix = splits, folder, suffix
        self.make = work.open()

    def __call__(self, task: _Task) -> dict[str, Any]:
        sample = self.splits[task.split][task.row]
        try:
            made = self.make(sample.read())
        except SourceError as error:
            made = Made("unreadable", {}, {"message": str(error)})
        split, name = "" if task.split == "all" else task.split, f"{task.stem}.{self.suffix}"
        places = {
            self.folder / split / inner / (sample.label or UNLABELED) / name: pixels for inner, pixels in made.images.items()
        }
        kind, settings = FORMATS[self.suffix]
        with ExitStack() as complete:  # All files get their names together.
            for path, pixels in places.items():
                Image.fromarray(pixels).save(complete.enter_context(atomic_write(path, AGAIN)), kind, **settings)
        return {
            "split": task.split,
            "stem": task.stem,
            "name": printable(sample.name),
            "status": made.status,
            "files": [path.relative_to(self.folder).as_posix() for path in places],
            **made.facts,
        }


_worker: _Worker | None = None


def _open_worker(*arguments: Any) -> None:
    global _worker
    _worker = _Worker(*arguments)


def _call_worker(task: _Task) -> dict[str, Any]:
    assert _worker is not None
    return _worker(task)


def _tasks(split: str, data: Dataset) -> list[_Task]:
    """Stems are file names where these are unique in the split, else the whole path with `_` for `/`."""
    paths = [str(name).rpartition(".")[0] or str(name) for name in data.names]
    short = Counter(path.rpartition("/")[2] for path in paths)
    used: set[str] = set()
    tasks = []
    for row, path in enumerate(paths):
        last = path.rpartition("/")[2]
        stem = printable(last if short[last] == 1 else path.replace("/", "_"))
        name = next(each for number in itertools.count(1) if (each := stem if number == 1 else f"{stem}-{number}") not in used)
        used.add(name)
        tasks.append(_Task(split, row, name))
    return tasks


def _resume(folder: Path, settings: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the lines of the journal whose files exist; raise for a folder with other content."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        if any(path.name != LOCK for path in folder.iterdir()):
            raise ConfigError(f"{folder} is not empty and not a preparation; choose a new folder", path=folder)
        write_file(manifest, json.dumps(settings, indent=1) + "\n", AGAIN)
        return {}
    before = json.loads(manifest.read_text(encoding="utf-8"))
    for part in ("settings", "source"):
        if before.get(part) != settings[part]:
            changed = [key for key, value in settings[part].items() if before.get(part, {}).get(key) != value] or [part]
            message = f"{folder} contains another preparation ({part}: {', '.join(changed)} differ); choose a new folder"
            raise ConfigError(message, path=folder, value=changed)
    lines = (folder / JOURNAL).read_text(encoding="utf-8").splitlines() if (folder / JOURNAL).is_file() else []
    found = {}
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:  # The last, incomplete line of an interrupted run.
            continue
        if all((folder / file).is_file() for file in line["files"]):
            found[line["split"], line["stem"]] = line
    return found


def _write_labels(folder: Path, splits: Mapping[str, Dataset], done: Iterator[tuple[_Task, dict[str, Any]]]) -> None:
    """Write the prepared images with their annotations for the dataset `csv`."""
    groups = list(dict.fromkeys(name for data in splits.values() for name in data.groups))
    rows: list[list[Any]] = [["image", "label", "split", "subject", "sequence", "valence", "arousal", "status", *groups]]
    for task, line in done:
        if line["files"]:
            sample = splits[task.split][task.row]
            known = [sample.label, task.split, sample.subject, sample.sequence, sample.valence, sample.arousal]
            rows.append([line["files"][0], *known, line["status"], *(sample.groups.get(name) for name in groups)])
    write_file(folder / LABELS, csv_text(rows), AGAIN, errors="surrogateescape")
