"""A run as it is written down before it begins: `_job.json`, `_listing.parquet`, and which parts are there."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..cards import Card
from ..errors import ConfigError, SourceError
from ..inference.options import Options
from ..inference.recognizer import BATCH
from ..io.provenance import VERSION
from ..io.urls import is_url
from ..runtime.devices import Device
from .items import Item
from .storage import Folder, scratch

JOB, LISTING, SUMMARY, FAILURES, ROWS = "_job.json", "_listing.parquet", "summary.json", "failures.csv", "rows"
"""What a run's folder holds. Readers of parquet pass over names that begin with a line."""

TALLY = b"mien.tally"
"""Metadata of a part: what its rows count up to, as JSON."""

FORMAT = 1

LEAST, MOST, SHARDS = 64, 4096, 256
"""Items of a shard, unless the user says: so many that there are about `SHARDS`, within these bounds."""

_COLUMNS = pa.schema([
    ("name", pa.string()), ("kind", pa.string()), ("place", pa.binary()), ("at", pa.int64()), ("size", pa.int64()),
    ("column", pa.string()), ("stamp", pa.string()), ("video", pa.bool_()), ("message", pa.string()),
])  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is read, and how. Two jobs that are equal give the same parts, byte for byte."""

    options: dict[str, Any]
    """As `Options.to_dict` gives them."""
    model: dict[str, str]
    """Name, version and digest of the weights."""
    labels: list[str]
    """Of the scores."""
    units: bool
    """Whether the model tells action units."""
    items: int
    """Images and videos."""
    videos: int
    """Of these, how many have the extension of a video."""
    shards: int
    """Parts that there will be."""
    shard_size: int
    """Most items of a shard; a video is a shard of its own."""
    digest: str
    """sha256 over the listing: names, places, sizes and times of change."""
    mien: str = VERSION
    """Version of this package."""
    format: int = FORMAT
    """Version of the folder's layout."""

    @property
    def reading(self) -> Options:
        """The options."""
        return Options(**{**self.options, "columns": tuple(self.options["columns"])})

    @property
    def on_gpu(self) -> bool:
        """Whether each worker needs a GPU of NVIDIA."""
        return Device.parse(self.options["device"]).kind == "cuda"

    @property
    def unsmoothed(self) -> bool:
        """Whether rows also have the scores of each frame alone, as in the CSV of videos."""
        return self.videos > 0 and self.options["smooth"] is not None

    def to_json(self) -> bytes:
        """Return the content of `_job.json`."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode()

    def differences(self, other: Job) -> list[str]:
        """Name what is not the same in another job."""
        found = []
        for name, value in self.options.items():
            if other.options.get(name) != value:
                found.append(f"{name.replace('_', '-')} {other.options.get(name)!r} there, {value!r} now")
        if other.digest != self.digest:
            found.append(f"inputs of {other.items:,} items there, {self.items:,} now, or files that changed")
        for name in ("model", "shard_size", "mien", "format"):
            there, now = getattr(other, name), getattr(self, name)
            found += [f"{name.replace('_', ' ')} {there} there, {now} now"] if there != now else []
        return found


def identity(card: Card) -> dict[str, str]:
    """Return what tells one model from another: name, version and the digest of its weights."""
    return {"name": card.name, "version": str(card.version), "sha256": card.sha256}


def absolute(model: str) -> str:
    """Return a model's path so that it means the same in every folder; the name of a bundled model stays."""
    path = Path(model)
    return str(path.absolute()) if path.exists() else model


def load(folder: Folder) -> Job | None:
    """Return the job that a folder belongs to, None if it belongs to none.

    Raises:
        ConfigError: `_job.json` is damaged, or of another version of this package.
    """
    if JOB not in folder.names():
        return None
    try:
        values = json.loads(folder.read(JOB))
        return Job(**{field.name: values[field.name] for field in fields(Job)})
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder}/{JOB} cannot be understood ({error}); give a new folder") from error


class Listing:
    """All items in order, written to a temporary file while they are counted."""

    def __init__(self, items: Iterator[Item]) -> None:
        """Go through the items.

        Raises:
            SourceError: there are none that can be read.
            ConfigError: the disk for temporary files is full.
        """
        self.items = self.videos = 0
        with contextlib.ExitStack() as opened:
            self._file: IO[bytes] = opened.enter_context(scratch())
            self.digest = self._fill(items)
            self._opened = opened.pop_all()

    def _fill(self, items: Iterator[Item]) -> str:
        digest, readable, reason = hashlib.sha256(), False, ""
        for item in items:
            line = json.dumps([getattr(item, name) for name in _COLUMNS.names]).encode() + b"\n"
            digest.update(line)
            self._file.write(line)
            self.items += 1
            self.videos += item.video
            gone = item.kind == "file" and not item.stamp and not is_url(item.place)
            readable = readable or not (gone or item.kind == "missing")
            reason = reason or item.message or (f"{item.name} does not exist, or must not be looked at" if gone else "")
        self._file.flush()
        if not readable:
            raise SourceError(reason or "there is nothing to read: the inputs hold no images; name other ones")
        return digest.hexdigest()

    def shard_size(self, wanted: int | None) -> int:
        """Return how many items a shard has.

        Raises:
            ConfigError: `wanted` is no multiple of the images that share network calls.
        """
        if wanted is None:
            return max(LEAST, min(MOST, -(-self.items // SHARDS // BATCH) * BATCH))
        if wanted < 1 or wanted % BATCH:
            raise ConfigError(
                f"shard-size is {wanted}; give a multiple of {BATCH}: as many images share network calls, here as in predict"
            )
        return wanted

    def shards(self, size: int) -> Iterator[list[Item]]:
        """Yield consecutive items: at most `size` images, or one video."""
        shard: list[Item] = []
        for item in self:
            if shard and (item.video or len(shard) == size):
                yield shard
                shard = []
            shard.append(item)
            if item.video:
                yield shard
                shard = []
        if shard:
            yield shard

    def __iter__(self) -> Iterator[Item]:
        self._file.seek(0)
        for line in self._file:
            yield Item(*json.loads(line))

    def write(self, folder: Folder, size: int) -> None:
        """Write `_listing.parquet`, a row group for each shard; errors as of `Folder.write`."""
        with scratch() as file:
            with pq.ParquetWriter(file, _COLUMNS, compression="zstd") as writer:
                for shard in self.shards(size):
                    writer.write_table(_table(shard))
            file.seek(0)
            folder.put(LISTING, file)

    def close(self) -> None:
        """Remove the temporary file."""
        self._opened.close()


class Shards:
    """The shards of a folder's job, by number."""

    def __init__(self, folder: Folder) -> None:
        self._file = pq.ParquetFile(folder.open(LISTING))

    def close(self) -> None:
        """Close the listing."""
        self._file.close(force=True)

    def __len__(self) -> int:
        return self._file.metadata.num_row_groups

    def size(self, number: int) -> int:
        """Return how many items a shard has."""
        return self._file.metadata.row_group(number).num_rows

    def __getitem__(self, number: int) -> list[Item]:
        rows = self._file.read_row_group(number).to_pylist()
        return [Item(**{**row, "place": row["place"].decode("utf-8", "surrogateescape")}) for row in rows]


def part(number: int) -> str:
    """Return the name of a shard's part in the folder."""
    return f"{ROWS}/part-{number:05d}.parquet"


def write_part(folder: Folder, number: int, table: pa.Table) -> None:
    """Write a shard's rows, whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    folder.write(part(number), memoryview(sink.getvalue()))


def tally(folder: Folder, number: int) -> dict[str, Any] | None:
    """Return what the rows of a part count up to; None if the part is missing or damaged.

    Raises:
        OSError: the storage does not answer.
    """
    try:
        with folder.open(part(number)) as file:
            return json.loads(pq.read_metadata(file).metadata[TALLY])
    except (FileNotFoundError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None
    except OSError as error:
        if error.errno is not None:
            raise
        return None  # pyarrow's own word for a footer that makes no sense


def tallies(folder: Folder, shards: int) -> dict[int, dict[str, Any]]:
    """Return those of all parts that are there."""
    there = set(folder.names(ROWS))
    numbers = (number for number in range(shards) if part(number).rpartition("/")[2] in there)
    return {number: found for number in numbers if (found := tally(folder, number)) is not None}


def _table(shard: Sequence[Item]) -> pa.Table:
    columns = {name: [getattr(item, name) for item in shard] for name in _COLUMNS.names}
    columns["place"] = [place.encode("utf-8", "surrogateescape") for place in columns["place"]]
    return pa.table(columns, _COLUMNS)
