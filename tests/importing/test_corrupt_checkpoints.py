"""Truncated and mutated checkpoints are read or refused with one line; nothing else is raised."""

import functools
import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_samples import SAMPLES, zipped
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.errors import WeightsError
from mien.models.checkpoints import read_checkpoint


@pytest.mark.parametrize("name", ["plain", "plain legacy", "module legacy", "safetensors", "npz compressed"])
def test_cut_files_are_refused(name: str, tmp_path: Path) -> None:
    path = SAMPLES[name][0](tmp_path / "weights.npz")
    whole = path.read_bytes()
    for length in sorted({*range(0, len(whole) - 1, max(1, len(whole) // 60)), len(whole) - 1}):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            read_checkpoint(path)


@functools.cache
def bytes_of(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return SAMPLES[name][0](Path(folder, "weights.npz")).read_bytes()


@functools.cache
def pickle_of(name: str) -> tuple[bytes, dict[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(bytes_of(name))) as archive:
        read = {entry.split("/", 1)[1]: archive.read(entry) for entry in archive.namelist()}
    return read["data.pkl"], {key.removeprefix("data/"): value for key, value in read.items() if key.startswith("data/")}


mutations = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255), st.booleans()), min_size=1, max_size=12)


def mutate(data: bytes, changes: list[tuple[float, int, bool]]) -> bytes:
    changed = bytearray(data)
    for where, byte, insert in changes:
        at = int(where * len(changed))
        changed[at : at + (not insert)] = bytes([byte])
    return bytes(changed)


def read_or_refuse(path: Path) -> None:
    try:
        checkpoint = read_checkpoint(path)
    except WeightsError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(tensor, torch.Tensor) for tensor in checkpoint.state.values())


@pytest.mark.parametrize(
    "name", ["plain", "plain legacy", "module legacy", "model_state_dict", "safetensors", "npz", "npz compressed"]
)
@settings(max_examples=60)
@given(changes=mutations)
def test_damaged_files_never_raise_anything_else(
    name: str, changes: list[tuple[float, int, bool]], tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated"
    path.write_bytes(mutate(bytes_of(name), changes))
    read_or_refuse(path)


@pytest.mark.parametrize("name", ["plain", "plain, protocol 4", "module", "parallel module"])
@settings(max_examples=60)
@given(changes=mutations)
def test_damaged_pickles_never_raise_anything_else(
    name: str, changes: list[tuple[float, int, bool]], tmp_path_factory: Any
) -> None:
    pickle, blocks = pickle_of(name)
    read_or_refuse(zipped(mutate(pickle, changes), tmp_path_factory.getbasetemp() / "mutated", blocks))
