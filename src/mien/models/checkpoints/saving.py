"""Write weights: a `.safetensors` file that is either the old or the new one, never half of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ...errors import WeightsError
from ...io.files import atomic_write


def save_state(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors atomically; tied weights, which the format does not know, each as their own. WeightsError: that fails."""
    with atomic_write(path, error=WeightsError) as part:
        try:
            save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}, part)
        except SafetensorError as error:  # the error of the system as an error of the package
            raise OSError(error) from error
