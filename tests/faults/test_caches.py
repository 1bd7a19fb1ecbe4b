"""One cache of parsed datasets and several processes: none disturbs the others, and none leaves anything half written."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from command import environment
from miniatures import fer2013_csv
from surroundings import names_in

from disks import full_disk
from mien.data.datasets import cache as caches
from mien.data.datasets import open_dataset

TOGETHER = """
import sys
from mien.data.datasets import fer2013, open_dataset
parse = fer2013._parse
def waiting(paths):
    arrays = parse(paths)
    print("parsed", flush=True)
    sys.stdin.readline()
    return arrays
fer2013._parse = waiting
print(open_dataset("fer2013", sys.argv[1], "all").digest)
"""
"""Has found nothing in the cache and parsed the files when it waits for its word."""

STOPPED = """
import sys
import numpy as np
from mien.data.datasets import cache
save = np.save
def slowly(path, array, **options):
    save(path, array, **options)
    print(path, flush=True)
    sys.stdin.readline()
np.save = slowly
print(cache.mapped("numbers", sys.argv[1] * 64, lambda: {"one": np.arange(3), "two": np.arange(4)})["two"].tolist())
"""
"""Stops after the first array until it gets a word, and again after the second."""


@contextmanager
def child(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        yield process
        process.kill()


def test_three_processes_fill_one_cold_cache_at_once(tmp_path: Path, cache: Path) -> None:
    fer2013_csv(tmp_path)
    with child(TOGETHER, tmp_path) as one, child(TOGETHER, tmp_path) as two, child(TOGETHER, tmp_path) as three:
        processes = (one, two, three)
        assert [process.stdout.readline() for process in processes if process.stdout] == ["parsed\n"] * 3
        assert names_in(cache) == []
        for process in processes:  # a pipe each, and nothing between the three writes
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        digests = {process.communicate(timeout=120)[0] for process in processes}
        assert {process.returncode for process in processes} == {0}
    (place,) = (cache / "datasets").iterdir()
    assert place.name.startswith("fer2013-csv-") and len(names_in(place)) == 6
    assert digests == {open_dataset("fer2013", tmp_path, "all").digest + "\n"}


def numbers(letter: str) -> list[int]:
    return caches.mapped("numbers", letter * 64, lambda: {"n": np.arange(3)})["n"].tolist()


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(cache: Path) -> None:
    with child(STOPPED, "a") as living, child(STOPPED, "b") as killed:
        assert living.stdout and living.stdout.readline() and killed.stdout and killed.stdout.readline()
        assert numbers("c") == [0, 1, 2]
        assert len(list((cache / "datasets").glob(".part-*/one.npy"))) == 2
        killed.kill()
        killed.wait()
        assert numbers("d") == [0, 1, 2]
        assert len(list((cache / "datasets").glob(".part-*/one.npy"))) == 1
        said, _ = living.communicate("\n\n", timeout=120)
        assert living.returncode == 0 and said.endswith("[0, 1, 2, 3]\n")
    left = sorted(path.name for path in (cache / "datasets").iterdir())
    assert [re.sub(r"-v\d+-", "-", name)[:9] for name in left] == ["numbers-a", "numbers-c", "numbers-d"]


def test_a_full_disk_is_done_without(tmp_path: Path, cache: Path) -> None:
    fer2013_csv(tmp_path)
    with full_disk(2_000):
        held = open_dataset("fer2013", tmp_path, "all")
    assert names_in(cache) == [] and list((cache / "datasets").iterdir()) == []
    kept = open_dataset("fer2013", tmp_path, "all")
    assert held.digest == kept.digest and len(names_in(cache)) == 6
