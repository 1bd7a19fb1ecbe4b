"""Deterministic weights and inputs, so that outputs of whole networks can be compared without storing a weight.

Every number follows from a seed and the name of the tensor it belongs to: the first eight bytes (little-endian) of the sha256
of `seed:name` seed a PCG64 stream of float32 draws in [0, 1), which are then moved into a range that suits the tensor's role.
The folder ../shared/golden holds what the authors' networks answered with these weights.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

Shape = tuple[int, ...]


def generator(seed: str, name: str) -> np.random.Generator:
    """Return the stream of random numbers of one tensor."""
    first_eight = hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8]
    return np.random.Generator(np.random.PCG64(int.from_bytes(first_eight, "little")))


def tensor(seed: str, name: str, shape: Shape, dtype: str = "float32") -> np.ndarray:
    """Return the values of one state-dict entry: counters are 3, the rest lies in a range given by its role.

    Running variances [0.5, 1.5), running means [-0.1, 0.1), layer scales [0.1, 0.3), other weights of one dimension
    [0.75, 1.25), biases [-0.05, 0.05); everything else has mean 0 and variance 1 / fan-in.
    """
    if dtype != "float32":
        return np.full(shape, 3, dtype)
    draw = generator(seed, name).random(shape, dtype=np.float32)
    role = name.rpartition(".")[2]
    if role == "running_var":
        return draw + np.float32(0.5)
    if role == "gamma":
        return draw * np.float32(0.2) + np.float32(0.1)
    if role == "weight" and len(shape) < 2:
        return draw * np.float32(0.5) + np.float32(0.75)
    if role == "running_mean":
        width = 0.2
    elif len(shape) < 2:
        width = 0.1
    else:
        width = (12.0 / int(np.prod(shape[1:]))) ** 0.5
    return (draw - np.float32(0.5)) * np.float32(width)


def images(seed: str, name: str, shape: Shape) -> np.ndarray:
    """Return float32 images (N, C, H, W) in [-2, 2), the range of normalized ones."""
    return generator(seed, f"input/{name}").random(shape, dtype=np.float32) * np.float32(4) - np.float32(2)


def read_keys(path: str | Path) -> list[tuple[str, Shape, str]]:
    """Return (name, shape, dtype) of every entry of a state dict listed in a `.tsv` file."""
    rows = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        name, shape, dtype = line.split("\t")
        rows.append((name, () if shape == "scalar" else tuple(map(int, shape.split("x"))), dtype))
    return rows


def state_dict(seed: str, keys: list[tuple[str, Shape, str]]) -> dict[str, np.ndarray]:
    """Return the filled tensor of every entry in `keys`."""
    return {name: tensor(seed, name, shape, dtype) for name, shape, dtype in keys}
