"""The inputs that fuzzing kept, read again without the fuzzer: only errors of the package come out, each of one line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))

from fuzz.corpus import CORPUS, TARGETS, check, inputs, pack, smallest  # noqa: E402

NEEDED = {"tables": "torch", "checkpoints": "torch", "videos": "av"}
"""Target → what it reads with, which the core does not bring."""


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_is_read_or_refused(target: str) -> None:
    if target in NEEDED:
        pytest.importorskip(NEEDED[target], reason=f"this target needs {NEEDED[target]}")
    module = importlib.import_module(f"fuzz.{target}")
    found = list(inputs(module))
    assert len(found) > 15
    for data in found:
        check(module, data)


def test_the_corpus_is_small() -> None:
    assert sorted(path.stem for path in CORPUS.iterdir()) == sorted(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 200_000


def test_what_is_kept_reaches_everything_and_is_packed_without_dates(tmp_path: Path) -> None:
    module = importlib.import_module("fuzz.cards")
    seeds = list(module.seeds())
    kept = smallest(module, [*seeds, b"\0", b"\2", b""])
    assert b"\0" in kept and b"\2" not in kept and len(kept) < len(seeds)
    for name in ("a.zip", "b.zip"):
        pack(tmp_path / name, kept)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_other_errors_are_noticed() -> None:
    class Target:
        @staticmethod
        def target(data: bytes) -> None:
            from mien.errors import SourceError

            raise {b"ours": SourceError("one line"), b"two": SourceError("two\nlines")}.get(data, KeyError(data))

    check(Target, b"ours")  # pyrefly: ignore
    with pytest.raises(AssertionError, match="of several lines"):
        check(Target, b"two")  # pyrefly: ignore
    with pytest.raises(KeyError):
        check(Target, b"other")  # pyrefly: ignore
