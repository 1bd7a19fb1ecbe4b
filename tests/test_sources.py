"""Many images: which, in which order, and what happens to those that cannot be read."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mien.errors import SourceError
from mien.io.decoding import EXTENSIONS, FORMATS, PLUGINS
from mien.io.images import read_image
from mien.io.sources import Frame, iter_images, list_lines, natural


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., Path]:
    """Write small PNG images (whatever their extension) at relative paths below a new folder."""

    def write(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 3), (1, 2, 3)).save(path, "PNG")
        return tmp_path

    return write


def names(source: Path, **options: bool) -> list[str]:
    frames = list(iter_images(source, **options))
    assert [frame.index for frame in frames] == list(range(len(frames)))
    return [os.path.relpath(frame.source, source) for frame in frames]


def test_folder_in_natural_order_files_before_folders(plant: Callable[..., Path]) -> None:
    folder = plant("b/2.png", "b/10.png", "img10.png", "IMG9.JPG", "img9.jpg", "img09.png", "a/c/1.webp", "a/x.TIF", "z.jpeg")
    expected = ["IMG9.JPG", "img09.png", "img9.jpg", "img10.png", "z.jpeg", "a/x.TIF", "a/c/1.webp", "b/2.png", "b/10.png"]
    assert sorted(names(folder)) == sorted(expected)
    assert names(folder) == names(folder)
    assert names(folder)[3:] == expected[3:]
    assert names(folder, recursive=False) == names(folder)[:5]


def test_hidden_and_other_files_are_left_out(plant: Callable[..., Path]) -> None:
    folder = plant("a.png", ".b.png", "._a.png", ".cache/c.png", "notes.txt", "noextension", "movie.mp4")
    assert names(folder) == ["a.png"]


def test_a_folder_continues_after_failures_and_lists_them(plant: Callable[..., Path], sample: Path) -> None:
    folder = plant("1.png", "5.png", "7.jpg/inside.png")
    (folder / "2.jpg").write_bytes(b"")
    (folder / "3.jpg").write_text("not an image")
    (folder / "4.png").write_bytes(sample.read_bytes()[:5000])
    (folder / "5.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (folder / "6.png").symlink_to("gone.png")
    os.mkfifo(folder / "8.png")
    found = iter_images(folder)
    frames = list(found)
    assert len(found) == len(frames) == 9
    status = {Path(frame.source).name: str(frame.error) if frame.error else "ok" for frame in frames}
    assert [name for name, said in status.items() if said == "ok"] == ["1.png", "5.png", "inside.png"]
    assert [Path(frame.error.path).name for frame in frames if frame.error and frame.error.path] == [
        "2.jpg", "3.jpg", "4.png", "5.heic", "6.png", "8.png",
    ]  # fmt: skip
    for frame in frames:
        assert (frame.image is None) is (frame.error is not None)
        assert frame.time is None
    assert [frame.source for frame in found] == [frame.source for frame in frames]


def test_reading_is_lazy(plant: Callable[..., Path]) -> None:
    folder = plant("1.png", "2.png")
    frames = iter(iter_images(folder))
    assert next(frames).image is not None
    (folder / "2.png").unlink()
    assert "does not exist" in str(next(frames).error)


def test_circles_of_links_end_and_no_folder_is_read_twice(plant: Callable[..., Path]) -> None:
    folder = plant("a/1.png", "b/2.png")
    (folder / "a" / "up").symlink_to(folder)
    (folder / "c").symlink_to(folder / "b")
    (folder / "d").symlink_to("d")
    (folder / "e.png").symlink_to("e.png")
    assert names(folder) == ["e.png", "a/1.png", "b/2.png"]
    assert "cannot be opened" in str(next(iter(iter_images(folder))).error)


def test_links_to_folders_are_followed(plant: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = plant("a/1.png")
    other = tmp_path_factory.mktemp("other")
    (other / "link").symlink_to(folder / "a")
    assert names(other) == ["link/1.png"]


def test_unreadable_folder_is_listed(plant: Callable[..., Path]) -> None:
    folder = plant("a.png", "closed/b.png")
    for parent in [folder, *folder.parents]:
        if not parent.stat().st_mode & 0o001:  # pytest's own folders are closed to others
            parent.chmod(0o755)
    (folder / "closed").chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        frames = list(iter_images(folder))
        with pytest.raises(SourceError):
            iter_images(folder / "closed")
    finally:
        if root:
            os.seteuid(0)
        (folder / "closed").chmod(0o755)
    assert [Path(frame.source).name for frame in frames] == ["a.png", "closed"]
    assert "Permission denied" in str(frames[1].error)


def test_folder_without_images_says_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        iter_images(tmp_path)
    for name in ("a.txt", "b.TXT", "c.mp4", ".hidden.png", "README"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    with pytest.raises(SourceError) as refusal:
        iter_images(tmp_path)
    for what in ("1 hidden", "1 .mp4", "1 without extension"):
        assert what in str(refusal.value)
    with pytest.raises(SourceError):
        iter_images(tmp_path, recursive=False)


def test_pattern(plant: Callable[..., Path]) -> None:
    folder = plant("a10.png", "a9.png", "b.png", "sub/c.png", "x[1].png")
    assert [Path(frame.source).name for frame in iter_images(f"{folder}/a*.png")] == ["a9.png", "a10.png"]
    assert [Path(frame.source).name for frame in iter_images(f"{folder}/s*")] == ["c.png"]
    assert [Path(frame.source).name for frame in iter_images(f"{folder}/x[1].png")] == ["x[1].png"]
    (folder / "sub/again").symlink_to(folder)
    for pattern in (f"{folder}/**/*.png", f"{folder}/**"):
        names = [Path(frame.source).relative_to(folder).as_posix() for frame in iter_images(pattern)]
        assert sorted(names) == ["a10.png", "a9.png", "b.png", "sub/c.png", "x[1].png"]
    with pytest.raises(SourceError):
        iter_images(f"{folder}/q*.png")


def test_list_of_everything(plant: Callable[..., Path], sample: Path) -> None:
    folder = plant("f/1.png", "f/2.png", "empty/x.txt")
    array = np.zeros((2, 2, 3), np.uint8)
    with Image.open(sample) as image:
        sources = [
            folder / "f",
            sample,
            sample.read_bytes(),
            array,
            image,
            read_image(sample),
            folder / "missing.png",
            folder / "empty",
            np.full((2, 2), np.nan),
            "http://user:secret@127.0.0.1/x.png",
        ]
        found = iter_images(sources)
        frames = list(found)
    assert len(found) == 11
    assert [frame.error is None for frame in frames] == [True] * 7 + [False] * 4
    assert [frame.source for frame in frames[2:7]] == [str(sample), "<bytes>", "<array>", str(sample), str(sample)]
    assert frames[8].source == str(folder / "empty")
    assert frames[10].source == "http://127.0.0.1/x.png"
    assert not any("secret" in str(frame.error) for frame in frames)


def test_single_sources(sample: Path) -> None:
    for source in (sample, str(sample), sample.read_bytes(), np.zeros((2, 2, 3), np.uint8), read_image(sample)):
        found = iter_images(source)
        assert len(found) == 1
        assert next(iter(found)).image is not None
    assert "does not exist" in str(next(iter(iter_images("/nowhere/a.png"))).error)


def test_generator_is_read_as_it_comes(sample: Path) -> None:
    asked = []

    def camera():
        for value in range(3):
            asked.append(value)
            yield np.full((2, 2, 3), value, np.uint8)

    found = iter_images(camera())
    with pytest.raises(TypeError):
        len(found)
    frames = iter(found)
    assert next(frames).image is not None
    assert asked == [0]
    assert [frame.index for frame in frames] == [1, 2]


def test_frames_pass_through(sample: Path) -> None:
    """Ready frames of a video keep their number and time."""
    frame = Frame(7, "clip.mp4", read_image(sample), time=0.28)
    (same,) = iter_images(iter([frame]))
    assert (same.index, same.source, same.time, same.image) == (7, "clip.mp4", 0.28, frame.image)


def test_nothing_at_all() -> None:
    with pytest.raises(SourceError):
        iter_images([])
    with pytest.raises(SourceError):
        iter_images(["/nowhere/*.png", "/nowhere/*.jpg"])


def test_wrong_types_are_a_mistake_of_the_programmer() -> None:
    with pytest.raises(TypeError):
        list(iter_images([2.5]))


def test_options_reach_the_reading(sample: Path) -> None:
    (frame,) = iter_images(sample, max_pixels=100)
    assert "limit of 100" in str(frame.error)


@settings(max_examples=50)
@given(st.lists(st.text("aB09²é _", max_size=6), max_size=12, unique=True))
def test_natural_order_does_not_depend_on_the_order_found(words: list[str]) -> None:
    backwards = words[::-1]
    assert sorted(words, key=natural) == sorted(backwards, key=natural)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 10**12), max_size=20))
def test_numbers_sort_by_value(numbers: list[int]) -> None:
    assert sorted((f"img{n}.png" for n in numbers), key=natural) == [f"img{n}.png" for n in sorted(numbers)]


def test_what_is_searched_for_can_be_read() -> None:
    Image.init()
    plugins = {extension for kind in PLUGINS for extension in FORMATS[kind]}
    assert EXTENSIONS - plugins <= set(Image.registered_extensions()) | {".pfm"}


@pytest.mark.shared
def test_a_real_folder(shared: Path) -> None:
    found = iter_images(shared / "data/london")
    assert len(found) == 204
    assert next(iter(found)).source.endswith("001_03.jpg")


def test_a_folder_of_images_alone_is_read_without_looking_below(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(sample.read_bytes())
    assert [Path(frame.source).name for frame in iter_images(tmp_path, recursive=False)] == ["1.png"]
    (tmp_path / "1.png").rename(tmp_path / "1.bin")
    with pytest.raises(SourceError):
        iter_images(tmp_path, recursive=False)


@pytest.mark.parametrize(
    "data",
    [
        b"a.png\nhttps://example.org/b.png\n",
        b"\xef\xbb\xbfa.png\r\n\r\nhttps://example.org/b.png\r\n",
        b"a.png\rhttps://example.org/b.png\r",
        b"a.png\0https://example.org/b.png\0",  # find -print0
        "# mine\na.png\nhttps://example.org/b.png".encode("utf-16"),
        b"  a.png \n# a comment\n'https://example.org/b.png'\n",
        b'"a.png"\n\thttps://example.org/b.png',
    ],
)
def test_lists_as_people_and_programs_write_them(data: bytes, tmp_path: Path) -> None:
    assert list(list_lines(io.BytesIO(data), "list")) == ["a.png", "https://example.org/b.png"]


def test_paths_of_a_list_exist_as_written_or_beside_it(plant: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plant("lists/near.png", "here.png", "# odd.png")
    monkeypatch.chdir(folder)
    found = list(list_lines(io.BytesIO(b"here.png\nnear.png\n# odd.png\nmissing.png\n"), "list", "lists"))
    assert found == ["here.png", str(Path("lists") / "near.png"), "# odd.png", "missing.png"]


@pytest.mark.parametrize("data", [b"", b"\n \r\n", b"# nothing\n", b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01"])
def test_what_is_no_list(data: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        list(list_lines(io.BytesIO(data), "list.txt"))
    assert caught.value.path == "list.txt"
