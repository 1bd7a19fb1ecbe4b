"""The plan of a batch run (`_job.json`, `_listing.parquet`) and the parts completed so far."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
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
"""Names in the folder of a run. Parquet readers ignore names that begin with an underscore."""

TALLY = b"mien.tally"  # metadata key of a part: counts over its rows as JSON
LEAST, MOST, SHARDS = 64, 4096, 256  # bounds of the default shard size, which aims at `SHARDS` shards

_COLUMNS = pa.schema([
    ("name", pa.string()), ("kind", pa.string()), ("place", pa.binary()), ("at", pa.int64()), ("size", pa.int64()),
    ("column", pa.string()), ("stamp", pa.string()), ("video", pa.bool_()), ("message", pa.string()),
])  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Inputs and options of a run. Equal jobs produce byte-identical parts."""

    options: dict[str, Any]  # inference options, from `Options.to_dict`
    model: dict[str, str]  # name, version and digest of the weights
    labels: list[str]  # classes of the scores
    units: bool  # whether the model outputs action units
    items: int  # images and videos
    shards: int  # number of parts
    shard_size: int  # maximum number of items in a shard; each video is its own shard
    digest: str  # sha256 over the listing: names, locations, sizes and modification times
    mien: str = VERSION  # version of this package

    @property
    def reading(self) -> Options:
        """Inference options."""
        values: dict[str, Any] = {**self.options, "columns": tuple(self.options["columns"])}
        return Options(**values)

    @property
    def on_gpu(self) -> bool:
        """Whether each worker needs an NVIDIA GPU."""
        return Device.parse(self.options["device"]).kind == "cuda"

    def differences(self, other: "Job") -> list[str]:
        """Describe the differences from another job."""
        found = [
            f"{name.replace('_', '-')} {other.options.get(name)!r} there, {value!r} now"
            for name, value in self.options.items()
            if other.options.get(name) != value
        ]
        if other.digest != self.digest:
            found.append(f"inputs of {other.items:,} items there, {self.items:,} now, or files that changed")
        pairs = {name: (getattr(other, name), getattr(self, name)) for name in ("model", "shard_size", "mien")}
        found += [f"{name.replace('_', ' ')} {there} there, {now} now" for name, (there, now) in pairs.items() if there != now]
        return found


def identity(card: Card) -> dict[str, str]:
    """Return the identity of a model: name, version and digest of the weights."""
    return {"name": card.name, "version": str(card.version), "sha256": card.sha256}


def load(folder: Folder) -> Job | None:
    """Return the job of a folder, or None if it has none; ConfigError if `_job.json` is invalid or of another version."""
    if JOB not in folder.names():
        return None
    try:
        with folder.open(JOB) as file:
            values = json.load(file)
        return Job(**{field.name: values[field.name] for field in fields(Job)})
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder}/{JOB} is invalid ({error}); choose a new folder", path=f"{folder}/{JOB}") from error


class Listing:
    """All items in order, spooled to a temporary file while they are counted; SourceError if none can be read."""

    def __init__(self, items: Iterator[Item]) -> None:
        self.items = 0
        with contextlib.ExitStack() as opened:
            self._file: IO[bytes] = opened.enter_context(scratch())
            self.digest = self._fill(items)
            self._opened = opened.pop_all()

    def _fill(self, items: Iterator[Item]) -> str:
        digest, readable, reason, place = hashlib.sha256(), False, "", None
        for item in items:
            line = json.dumps([getattr(item, name) for name in _COLUMNS.names]).encode() + b"\n"
            digest.update(line)
            self._file.write(line)
            self.items += 1
            gone = item.kind == "file" and not item.stamp and not is_url(item.place)
            readable = readable or not (gone or item.kind == "missing")
            if not reason and (gone or item.message):
                place, reason = item.name, item.message or f"{item.name} does not exist or is not accessible"
        self._file.flush()
        if not readable:
            raise SourceError(reason or "the inputs contain no images or videos", path=place)
        return digest.hexdigest()

    def shard_size(self, wanted: int | None) -> int:
        """Return the number of items per shard; ConfigError if `wanted` is not a multiple of the inference batch size."""
        if wanted is None:
            return max(LEAST, min(MOST, -(-self.items // SHARDS // BATCH) * BATCH))
        if wanted < 1 or wanted % BATCH:
            expected = f"a multiple of the inference batch size {BATCH}"
            raise ConfigError(f"shard-size must be {expected}, got {wanted}", value=wanted, expected=expected)
        return wanted

    def shards(self, size: int) -> Iterator[list[Item]]:
        """Yield consecutive items: at most `size` images, or one video."""
        shard: list[Item] = []
        for item in self:
            if shard and (item.video or shard[-1].video or len(shard) == size):
                yield shard
                shard = []
            shard.append(item)
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
                    columns = {name: [getattr(item, name) for item in shard] for name in _COLUMNS.names}
                    columns["place"] = [place.encode("utf-8", "surrogateescape") for place in columns["place"]]
                    writer.write_table(pa.table(columns, _COLUMNS))
            file.seek(0)
            folder.write(LISTING, file)

    def close(self) -> None:
        """Remove the temporary file."""
        self._opened.close()


class Shards:
    """Shards of a job, by number."""

    def __init__(self, folder: Folder) -> None:
        self._file = pq.ParquetFile(folder.open(LISTING))

    def close(self) -> None:
        """Close the listing."""
        self._file.close(force=True)

    def __len__(self) -> int:
        return self._file.metadata.num_row_groups

    def size(self, number: int) -> int:
        """Return the number of items of a shard."""
        return self._file.metadata.row_group(number).num_rows

    def __getitem__(self, number: int) -> list[Item]:
        rows = self._file.read_row_group(number).to_pylist()
        return [Item(**{**row, "place": row["place"].decode("utf-8", "surrogateescape")}) for row in rows]


def part(number: int) -> str:
    """Return the name of the part of a shard."""
    return f"{ROWS}/part-{number:05d}.parquet"


def write_part(folder: Folder, number: int, table: pa.Table) -> None:
    """Write the rows of a shard atomically."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    folder.write(part(number), memoryview(sink.getvalue()))


def tally(folder: Folder, number: int) -> dict[str, Any] | None:
    """Return the counts of a part; None if it is missing or corrupt, OSError if the storage does not respond."""
    try:
        with folder.open(part(number)) as file:
            return json.loads(pq.read_metadata(file).metadata[TALLY])
    except (FileNotFoundError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None
    except OSError as error:
        if error.errno is not None:
            raise
        return None  # pyarrow raises OSError without errno for an invalid footer.


def tallies(folder: Folder, shards: int) -> dict[int, dict[str, Any]]:
    """Return the tallies of all existing parts."""
    there = set(folder.names(ROWS))
    numbers = (number for number in range(shards) if part(number).rpartition("/")[2] in there)
    return {number: found for number in numbers if (found := tally(folder, number)) is not None}
