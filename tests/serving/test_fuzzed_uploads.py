"""A few of the corrupted files of `fuzzing.py`; docs/log.md has the run of ten thousand."""

from __future__ import annotations

import os
import random

import httpx
from fuzzing import corrupted, run, seeds


def test_corrupt_files_never_make_it_fail(client: httpx.Client) -> None:
    fates = run(client, 200, seed=int(os.environ.get("FUZZ_SEED", "7")))
    assert fates["files"] == 200
    assert fates["unreadable"] > 20 and fates["ok"] > 20, "the mutations are too mild or too wild to tell anything"


def test_mutations_change_files() -> None:
    rng = random.Random(0)
    assert sum(corrupted(seed, rng) != seed for seed in seeds() * 10) > 140
