"""Lists, tables, tars and object storage hold the same images as files, and each problem is one row that says so."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_runs import failures, rows

from clips import moving, write_clip
from mien.batch import batch
from mien.batch.items import Item, ItemReader, Table, _member
from mien.batch.items import list_items as items
from mien.batch.job import TALLY, Listing, Shards, tally, write_part
from mien.batch.storage import Folder
from mien.errors import ConfigError, SourceError
from mien.inference.options import Options
from mien.io import sources
from mien.io.images import read_image
from mien.io.images import sample as sources_sample
from mien.io.video import Sampling

fsspec = pytest.importorskip("fsspec", reason="object storage needs mien[scale]")

QUICK = Options(points="none", blendshapes=False)


@pytest.fixture(scope="module")
def files(album: Path) -> list[Path]:
    return [album / f"face {number}.jpg" for number in (0, 1, 3, 4, 6, 7, 9, 10)]


@pytest.fixture
def memory(files: list[Path]) -> Iterator[str]:
    """An object storage in memory, with images at two depths and one file that is none."""
    system = fsspec.filesystem("memory")
    for number, path in enumerate(files):
        system.pipe_file(f"/bucket/{'deep/' if number % 2 else ''}{path.name}", path.read_bytes())
    system.pipe_file("/bucket/note.md", b"buy milk")
    yield "memory://bucket"
    system.rm("/bucket", recursive=True)


def plant_tar(path: Path, files: list[Path]) -> Path:
    """A WebDataset tar: a label beside each image."""
    with tarfile.open(path, "w") as tar:
        for file in files:
            tar.add(file, file.name)
            info = tarfile.TarInfo(f"{file.stem}.cls")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"3"))
    return path


def test_every_kind_of_input_gives_the_same_rows(files: list[Path], tmp_path: Path) -> None:
    plant_tar(tmp_path / "train 0.tar", files)
    data = [file.read_bytes() for file in files]
    pq.write_table(pa.table({"id": range(8), "image": data}), tmp_path / "bytes.parquet", row_group_size=3)
    nested = pa.array([{"bytes": one, "path": "x"} for one in data])
    pq.write_table(pa.table({"image": nested, "path": ["?"] * 8}), tmp_path / "nested.parquet")
    pq.write_table(pa.table({"path": [str(file) for file in files]}), tmp_path / "paths.parquet")
    text = "\n".join(map(str, files)) + "\n\n"
    (tmp_path / "list.txt").write_text(text)
    (tmp_path / "list").write_text(text.replace("\n", "\r\n"))
    inputs = ["list.txt", "@list", "paths.parquet", "bytes.parquet", "nested.parquet", "train*.tar"]
    inputs = [*map(str, files), *(f"@{tmp_path}/list" if one == "@list" else str(tmp_path / one) for one in inputs)]
    summary = batch([*inputs, *(f"file://{file}" for file in files)], (tmp_path / "out").as_uri(), QUICK, workers=1)
    assert summary.items == 64 and summary.failures == 0
    found = rows(tmp_path / "out")
    plain = [{name: value for name, value in row.items() if name != "source"} for row in found]
    assert all(plain[start : start + 8] == plain[:8] for start in range(8, 64, 8))
    assert len({row["score_happiness"] for row in found}) == 8
    names = [row["source"] for row in found[::8]]
    assert names[:4] == [str(files[0])] * 4 and names[4].endswith("bytes.parquet#0") and names[7] == f"file://{files[0]}"
    assert names[6] == f"{tmp_path}/train 0.tar/{files[0].name}"


def test_object_storage_is_listed_like_folders_and_read_alike(memory: str, files: list[Path], tmp_path: Path) -> None:
    """In this process, for no other sees its memory."""
    found = list(items([memory]))
    for number, file in enumerate(files):
        place = tmp_path / ("deep" if number % 2 else ".") / file.name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(file.read_bytes())
    local = [Path(str(path)).relative_to(tmp_path).as_posix() for path in sources.iter_images(tmp_path).items]
    assert [item.name.partition("bucket/")[2] for item in found] == local and len(local) == 8
    assert all(item.kind == "object" and item.stamp for item in found)
    for frame, name in zip(ItemReader(Options()).frames(found, {}), local, strict=True):
        assert frame.image is not None and (frame.image.pixels == read_image(tmp_path / name).pixels).all()
    assert [item.name for item in items([f"{memory}/face*.jpg"])] == [item.name for item in found if "/deep/" not in item.name]
    assert [item.kind for item in items([f"{memory}/face 0.jpg", f"{memory}/nothing"])] == ["object", "missing"]


def test_a_run_can_be_written_to_object_storage(memory: str) -> None:
    folder = Folder(f"{memory}/out")
    assert folder.names() == [] and folder.names("rows") == []
    folder.write("rows/a.parquet", b"first")
    folder.write("rows/b.parquet", io.BytesIO(b"second"))
    assert folder.names("rows") == ["a.parquet", "b.parquet"]
    with folder.open("rows/b.parquet") as file:
        assert file.read() == b"second"
    with pytest.raises(SourceError) as caught:
        Folder("nowhere://bucket")
    assert caught.value.path == "nowhere://bucket"


def problem(given: object, column: str | None = None) -> str:
    """The message of an input that holds nothing readable."""
    (item,) = items([str(given)], column)
    assert item.kind == "missing"
    return item.message


def test_containers_that_cannot_be_read_are_failures(files: list[Path], tmp_path: Path) -> None:
    whole = plant_tar(tmp_path / "whole.tar", files).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    listed = list(items([str(tmp_path / "cut.tar")]))
    assert [item.kind for item in listed][-1] == "missing" and str(tmp_path / "cut.tar") in listed[-1].message
    assert len(listed) > 3
    frames = list(ItemReader(Options()).frames(listed, {}))
    assert sum(frame.image is not None for frame in frames) >= len(listed) - 2
    for name in ("pipe.tar", "pipe.parquet", "pipe.jpg", "pipe.mp4"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "packed.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "no.tar").write_text("no tar at all")
    (tmp_path / "no.parquet").write_text("no table at all")
    (tmp_path / "empty.txt").write_text("\n")
    for name in ("pipe.tar", "pipe.parquet", "packed.tar.gz", "no.tar", "no.parquet", "empty.txt"):
        assert str(tmp_path / name) in problem(tmp_path / name)
    assert "nothing" in problem("@nothing")
    for name in ("@" + "x" * 300, "x" * 300 + ".txt", "x" * 300 + ".tar"):
        assert os.strerror(errno.ENAMETOOLONG) in problem(name)
    for name in ("a\0.txt", "a\0.tar", "a\0.parquet"):
        assert "null" in problem(name)
    places = [tmp_path / "pipe.jpg", tmp_path / "pipe.mp4"]
    frames = ItemReader(Options()).frames(items([str(place) for place in places] + [place.as_uri() for place in places]), {})
    assert all(isinstance(frame.error, SourceError) and "pipe." in str(frame.error.path) for frame in frames)


def test_tables_without_a_column_of_images_are_failures(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [b"x"], "b": [b"y"], "c": [1]}), tmp_path / "two.parquet")
    nothing = pa.table({"image": pa.array([None], pa.binary()), "path": pa.array([None], pa.string())})
    pq.write_table(nothing, tmp_path / "none.parquet")
    assert "--column" in problem(tmp_path / "two.parquet")
    assert "'d'" in problem(tmp_path / "two.parquet", "d")
    assert [item.kind for item in items([str(tmp_path / "two.parquet")], "b")] == ["row"]
    assert "none.parquet" in problem(tmp_path / "none.parquet", "path")
    (frame,) = ItemReader(Options()).frames(items([str(tmp_path / "none.parquet")]), {})
    assert frame.error and frame.error.value == "image"
    gone = Item("gone", "member", str(tmp_path / "gone.tar"), 512, 10)
    (frame,) = ItemReader(Options()).frames([gone], {})
    assert frame.error and frame.error.path == str(tmp_path / "gone.tar")


def test_names_that_are_no_utf_8_are_written_down(tmp_path: Path) -> None:
    """A list may hold any bytes, also in addresses."""
    (tmp_path / "list.txt").write_bytes(b"https://example.org/\xff.jpg\nmemory://bucket/\xff.jpg\n/nowhere/\xff.jpg\n")
    with contextlib.closing(Listing(items([str(tmp_path / "list.txt"), str(sources_sample())]))) as found:
        found.write(Folder(tmp_path), 64)
    with contextlib.closing(Shards(Folder(tmp_path))) as shards:
        names = [item.name for item in shards[0]]
    assert names[:3] == [r"https://example.org/\udcff.jpg", r"memory://bucket/\udcff.jpg", r"/nowhere/\udcff.jpg"]


def test_videos_in_a_tar_are_not_held_in_memory(tmp_path: Path) -> None:
    """They are read where they lie."""
    clip = write_clip(tmp_path / "clip.mp4", moving(sources_sample(), 6), sound="aac")
    with tarfile.open(tmp_path / "clips.tar", "w") as tar:
        for name in ("a.mp4", "b.mp4"):
            tar.add(clip, name)
    listed = list(items([str(tmp_path / "clips.tar")]))
    wanted = [frame.image.pixels for frame in sources.iter_images(clip, sampling=Sampling()) if frame.image]
    reader = ItemReader(Options())
    found = list(reader.frames(listed, {}))
    assert [frame.error for frame in found] == [None] * 12
    for frame, pixels in zip(found, [*wanted, *wanted], strict=True):
        assert frame.image is not None and (frame.image.pixels == pixels).all()
    with tarfile.open(tmp_path / "bare.tar", "w") as tar:  # a bare stream begins in no way of its own
        tar.add(write_clip(tmp_path / "bare.h264", moving(sources_sample(), 3)), "bare.h264")
    assert [frame.error for frame in reader.frames(items([str(tmp_path / "bare.tar")]), {})] == [None] * 3
    most = 0

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal most
            data = super().read(size)
            most = max(most, len(data))
            return data

    data = (tmp_path / "clips.tar").read_bytes() + bytes(1_000_000)
    tar = tarfile.open(fileobj=Counting(data))  # noqa: SIM115 - in memory
    member = _member(tar, Item("x", "member", at=512, size=len(data) - 512))
    assert member.read(10) == data[512:522] and member.tell() == 10 and most < 100_000
    assert member.seek(-5, io.SEEK_END) == len(data) - 517 and member.read(100) == data[-5:]
    with pytest.raises(SourceError) as cut:
        _member(tar, Item("x", "member", at=512, size=len(data)))
    assert (cut.value.value, cut.value.expected) == (len(data) - 512, len(data))


def test_a_table_with_a_corrupt_row_group(tmp_path: Path) -> None:
    """Each row of the corrupt group is reported as a failure; the other groups are read."""
    path = tmp_path / "table.parquet"
    cells = [os.urandom(2000) for _ in range(96)]
    table = pa.table({"image": pa.array(cells, pa.binary())})
    pq.write_table(table, path, row_group_size=32, compression="gzip", use_dictionary=False, data_page_size=4000)
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 8] = b"\xff" * 8
    path.write_bytes(data)
    found = []
    with Table.opened(str(path)) as opened:
        for row in range(96):
            try:
                found.append(opened.cell("image", row) == cells[row])
            except SourceError as error:
                found.append(None if error.path == str(path) else error)
    assert found == [True] * 32 + [None] * 32 + [True] * 32


def test_patterns_also_find_tars_in_object_storage(memory: str, files: list[Path], tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    for number in (1, 2, 10):
        system.pipe_file(f"/bucket/part-{number}.tar", plant_tar(tmp_path / "a.tar", files[:2]).read_bytes())
    for pattern in ("part-?.tar", "part-[12].tar"):
        listed = list(items([f"{memory}/{pattern}"]))
        assert [item.place.rpartition("/")[2] for item in listed] == ["part-1.tar"] * 2 + ["part-2.tar"] * 2, listed


def test_a_part_with_an_invalid_footer_is_corrupt(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write_part(folder, 0, pa.table({"a": [1]}).replace_schema_metadata({TALLY: b'{"items": 1}'}))
    assert tally(folder, 0) == {"items": 1} and tally(folder, 1) is None
    path = tmp_path / "rows" / "part-00000.parquet"
    data = bytearray(path.read_bytes())
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[start : start + 20] = b"\xff" * 20
    path.write_bytes(data)
    assert tally(folder, 0) is None
    path.unlink()
    path.mkdir()  # no damage: the storage refuses
    with pytest.raises(IsADirectoryError):
        tally(folder, 0)


def test_nothing_to_read_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for inputs, first in (
        ([f"@{tmp_path}/nothing", f"{tmp_path}/*.nothing"], f"{tmp_path}/nothing"),
        ([str(tmp_path / "photoz")], f"{tmp_path}/photoz"),
        ([str(tmp_path)], str(tmp_path)),
    ):
        with pytest.raises(SourceError) as caught:
            batch(inputs, tmp_path / "out")
        assert caught.value.path == first
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_refused(files: list[Path], tmp_path: Path) -> None:
    out, names = tmp_path / "out", [str(file) for file in files[:3]]
    batch(names, out, QUICK, workers=1)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def refused(inputs: list[str], place: Path, options: Options = QUICK, **more: Any) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            batch(inputs, place, options, **more)
        return caught.value

    finished = refused(names, out)
    assert (finished.path, finished.value) == (str(out), "summary.json")
    for changed, inputs, options, more in (
        ("points", names, Options(blendshapes=False), {}),
        ("inputs", names[:2], QUICK, {}),
        ("shard size", names, QUICK, {"shard_size": 8}),
    ):
        other = refused(inputs, out, options, resume=True, **more)
        assert other.path == str(out) and [text.startswith(changed) for text in other.value] == [True]
    assert refused(names, out, shard_size=12).value == 12
    foreign = refused(names, files[0].parent)
    assert foreign.path == str(files[0].parent) and foreign.value in os.listdir(files[0].parent)  # noqa: PTH208
    assert refused(names, files[0]).path == str(files[0])
    (out / "_job.json").write_text("{")
    assert refused(names, out, resume=True).path == str(out / "_job.json")
    assert {path: path.read_bytes() for path in before if path.name != "_job.json"} == {
        path: data for path, data in before.items() if path.name != "_job.json"
    }


def test_a_file_that_changed_is_another_input(files: list[Path], tmp_path: Path) -> None:
    place = tmp_path / "face.jpg"
    place.write_bytes(files[0].read_bytes())
    batch([str(place)], tmp_path / "out", QUICK, workers=1)
    place.write_bytes(files[1].read_bytes())
    with pytest.raises(ConfigError) as caught:
        batch([str(place)], tmp_path / "out", QUICK, workers=1, resume=True)
    assert caught.value.path == str(tmp_path / "out") and len(caught.value.value) == 1


def test_a_run_in_which_nothing_could_be_read_ends_with_status_1(album: Path, tmp_path: Path) -> None:
    from command import mien

    done = mien("batch", album / "note.jpg", album / "empty.png", "--out", tmp_path / "out")
    assert done.returncode == 1 and str(album / "note.jpg") in done.stderr.splitlines()[-1]
    assert list(failures(tmp_path / "out")) == [str(album / "note.jpg"), str(album / "empty.png")]
