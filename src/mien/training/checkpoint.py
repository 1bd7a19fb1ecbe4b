"""Write and read the state of a run so that a resumed run continues as if it had never stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ..errors import TrainingError, WeightsError
from .config import TrainConfig

MAY_CHANGE = ("threads", "workers", "checkpoint_steps", "tracker", "about", "flaws", "device", "compile")
"""Fields of a config that a resumed run may have otherwise than the run that it goes on with."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; the file is either the old or the new one, never half of it.

    Raises:
        TrainingError: the disk is full or the folder cannot be written; the old file, if there is one, is as it was.
    """
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch wraps what its file says
        part.unlink(missing_ok=True)
        kept = "the last one is untouched" if path.exists() else "there is none yet"
        reason = str(error).splitlines()[0][:200]
        raise TrainingError(
            f"checkpoint {path} cannot be written ({reason}); {kept}. Free some space or the folder, then resume"
        ) from error


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote; nothing but tensors and plain values is accepted.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0][:200]
        raise WeightsError(f"checkpoint {path} cannot be read ({reason}); start the run anew or give another one") from error


def identity_of(config: TrainConfig) -> dict[str, Any]:
    """Return the fields of a config that make a run what it is."""
    table = config.to_dict()
    for name in MAY_CHANGE:
        table.pop(name)
    for name in ("root", "cache"):
        table["data"].pop(name)
    return table


def differences(theirs: Any, ours: Any, path: str = "") -> list[str]:
    """Return the fields in which two identities differ, with both values."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = sorted({*theirs, *ours})
        return [found for key in keys for found in differences(theirs.get(key), ours.get(key), f"{path}.{key}".strip("."))]
    return [] if theirs == ours else [f"{path} was {theirs!r}, is {ours!r}"]
