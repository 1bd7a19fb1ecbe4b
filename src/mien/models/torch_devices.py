"""Devices of torch: the names of `mien.runtime.devices` mean the same hardware in training and in use."""

import torch

from ..errors import ConfigError
from ..runtime.devices import Device

CUDA = "a build of torch for CUDA with its driver (torch.cuda.is_available() must be True)"
MPS = "macOS on Apple's processors (torch.backends.mps.is_available() must be True)"


def torch_device(device: Device) -> torch.device:
    """Return torch's device; for `auto` the best one: CUDA, then MPS, then the CPU. Raises ConfigError if it is unavailable."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    kind = ("cuda" if cuda else "mps" if mps else "cpu") if device.kind == "auto" else device.kind
    if (kind == "cuda" and not cuda) or (kind == "mps" and not mps):
        needed = CUDA if kind == "cuda" else MPS
        missing = f"torch {torch.__version__} does not find it here. It needs {needed}"
        raise ConfigError(f"device {str(device)!r}: {missing}; or take the device cpu")
    if kind != "cuda":
        return torch.device(kind)
    if device.index >= (count := torch.cuda.device_count()):
        raise ConfigError(f"device {str(device)!r}: torch finds GPUs up to cuda:{count - 1}")
    return torch.device(kind, device.index)


def named(device: torch.device) -> Device:
    """Return our name of a device of torch."""
    return Device(device.type, device.index or 0)
