"""Write and read the state of a run so that a resumed run continues as if it had never stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ..errors import WeightsError


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; the file is either the old or the new one, never half of it."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote; nothing but tensors and plain values is accepted.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"checkpoint {path} cannot be read ({error}); start the run anew or give another one") from error
