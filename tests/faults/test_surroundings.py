"""What surrounds the command: home, locale, clock, network, odd names, damaged files of its own."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import Done, environment, here
from miniatures import fer2013_csv
from PIL import Image
from surroundings import mien, names_in, refused

import mien as package
from mien.data.datasets import cache as caches
from mien.data.datasets import open_dataset
from mien.errors import WeightsError
from mien.io import urls

pwd = pytest.importorskip("pwd", reason="users are those of POSIX here")

PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale in which Python takes files for ASCII unless told otherwise."""

ODD = [
    "with space.png",
    "new\nline.png",
    "C:\\photos\\a.png",
    "café ☺.png",
    "-dash.png",
    "100%.png",
    "quote'\".png",
    "tab\t.png",
]


@pytest.fixture
def odd(tmp_path: Path, sample: Path) -> Path:
    """A folder whose name and whose images' names are odd."""
    folder = tmp_path / "odd \n ☺"
    folder.mkdir()
    small = Image.open(sample).convert("RGB").crop((120, 20, 360, 260)).resize((96, 96))
    for name in ODD:
        small.save(folder / name, "PNG")
    return folder


def run(*arguments: object, env: dict[str, str]) -> Done:
    """The command in another locale, or in this process."""
    return mien(*arguments, env=env) if env else here(*arguments)


@pytest.mark.parametrize("env", [{}, PLAIN], ids=["UTF-8", "C"])
def test_predict_with_odd_names(env: dict[str, str], odd: Path) -> None:
    out = odd.with_name("out \n é")
    done = run(
        "predict", odd, "--detector", "whole", "--jsonl", out / "faces.jsonl", "--csv", out / "faces.csv", "--save", out,
        env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(row) for row in (out / "faces.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["status"] for row in rows] == ["ok"] * len(ODD)
    with (out / "faces.csv").open(encoding="utf-8", newline="") as file:
        assert [row["source"] for row in csv.DictReader(file)] == [row["source"] for row in rows]
    assert len(names_in(out)) == len(ODD) + 2
    table = run("predict", odd / ODD[3], "--detector", "whole", env=env)
    assert table.returncode == 0, table.stderr


@pytest.mark.parametrize("env", [{}, PLAIN], ids=["UTF-8", "C"])
def test_evaluate_with_odd_names(env: dict[str, str], odd: Path) -> None:
    for label, names in {"happy": ODD[:4], "neutral": ODD[4:]}.items():
        (odd / label).mkdir()
        for name in names:
            (odd / name).rename(odd / label / name)
    out = odd.with_name("out ☺\n")
    done = run(
        "evaluate", "mien-base", "--dataset", "folder", "--root", odd, "--split", "all", "--out", out, "--no-page", env=env
    )
    assert done.returncode == 0, done.stderr
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(Path(row["sample"]).name for row in rows) == sorted(ODD) and {row["status"] for row in rows} == {"ok"}


def test_a_clock_that_jumps_back_and_no_network(sample: Path, tmp_path: Path) -> None:
    done = mien("predict", sample, "--jsonl", tmp_path / "faces.jsonl", "--save", tmp_path, hostile=True)
    assert done.returncode == 0, done.stderr
    assert names_in(tmp_path) == ["faces.jsonl", "sample.png"]
    done = mien(
        "evaluate", "mien-base", "--dataset", "synthetic", "--split", "all", "--option", "number=20", "--out", tmp_path / "e",
        "--results", tmp_path / "results.csv", hostile=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "e/report.html").is_file()


def test_the_network_of_the_test_above_would_be_noticed() -> None:
    done = mien("predict", "http://127.0.0.1:9/face.jpg", "--allow-private", hostile=True)
    assert done.returncode == 99 and "NETWORK" in done.stderr


def test_no_home(sample: Path, tmp_path: Path, unwritable: Path) -> None:
    env = {"HOME": str(unwritable / "none"), "XDG_CACHE_HOME": "", "MIEN_CACHE": "", "MPLCONFIGDIR": ""}
    assert mien("predict", sample, env=env).returncode == 0
    fer2013_csv(tmp_path / "data")
    done = mien(
        "evaluate", "mien-base", "--dataset", "fer2013", "--root", tmp_path / "data", "--out", tmp_path / "out", env=env
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/report.html").is_file()


def test_a_user_whom_the_system_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that is run under a bare number has neither HOME nor an entry among the users."""

    def nobody(number: int) -> object:
        raise KeyError(number)

    for name in ("HOME", "MIEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert caches.folder() is None
    with pytest.raises(WeightsError, match=r"no home folder.*MIEN_CACHE"):
        urls.model_folder()
    fer2013_csv(tmp_path)
    assert len(open_dataset("fer2013", tmp_path, "all")) == 31


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _fill(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize("spoil", [Path.unlink, _cut, _fill])
@pytest.mark.parametrize("name", ["images.npy", "label.npy", "arrays.json"])
def test_a_damaged_cache_is_rebuilt(name: str, spoil: object, tmp_path: Path, cache: Path) -> None:
    fer2013_csv(tmp_path)
    before = open_dataset("fer2013", tmp_path, "all")
    spoil(next(cache.rglob(name)))  # pyrefly: ignore
    for _ in range(2):
        after = open_dataset("fer2013", tmp_path, "all")
        assert after.digest == before.digest and np.array_equal(after.part, before.part)
    assert len(names_in(cache)) == 6


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, copied, so that its files can be damaged."""
    place = tmp_path_factory.mktemp("package")
    shutil.copytree(Path(package.__file__).parent, place / "mien", ignore=shutil.ignore_patterns("__pycache__"))
    return place


WEIGHTS = ["mien-base.onnx", "blazeface.onnx", "mesh478.onnx", "blendshapes.onnx"]

DAMAGE = """
import json, sys
from pathlib import Path
import mien

for path in map(Path, sys.argv[1:]):
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    try:
        mien.load()(mien.sample())
    except mien.MienError as error:
        print(json.dumps([type(error).__name__, error.path, error.value != error.expected]))
    path.write_bytes(whole)
"""


def test_a_damaged_bundled_weight_is_refused(copied: Path) -> None:
    paths = [str(copied / "mien/assets/weights" / weight) for weight in WEIGHTS]
    command = [sys.executable, "-c", DAMAGE, *paths]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(PYTHONPATH=str(copied)), timeout=300)
    found = [json.loads(text) for text in done.stdout.splitlines()]
    assert found == [["WeightsError", path, True] for path in paths], done.stderr


def test_a_missing_bundled_weight_is_said(copied: Path, sample: Path) -> None:
    path = copied / "mien/assets/weights/blazeface.onnx"
    path.rename(path.with_suffix(".gone"))
    try:
        refused(mien("predict", sample, env={"PYTHONPATH": str(copied)}), "blazeface.onnx")
    finally:
        path.with_suffix(".gone").rename(path)
