"""Write weights: a `.safetensors` file that is either the old or the new one, never half of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import WeightsError


def save_state(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors; tied weights, which the format does not know, each as their own.

    Raises:
        WeightsError: the disk is full or the folder cannot be written; the old file, if there is one, is as it was.
    """
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}, part)
        part.replace(path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise WeightsError(f"{path} cannot be written ({error}); free some space, or choose another place") from error
