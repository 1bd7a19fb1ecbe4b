"""The random numbers of one batch: the same for every picture, however many processes share the batch."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


class Dice:
    """Draws for the pictures of one batch.

    Numbers are drawn for the whole batch and those of `part` are kept, so that two processes vary each picture as one would.
    Neither the size of pictures nor the outcome of other draws moves a draw: pictures of several sizes stay in step.

    Args:
        seed: what all draws follow from.
        total: pictures of the global batch.
        part: those of this process.

    Example:
        >>> whole = Dice(1, 6, slice(0, 6)).uniform(0, 1)
        >>> bool((Dice(1, 6, slice(2, 6)).uniform(0, 1) == whole[2:]).all())
        True
    """

    def __init__(self, seed: int, total: int, part: slice) -> None:
        self.seed, self.total = seed, total
        self._rows = torch.arange(total)[part]
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, *key: int | str) -> Dice:
        """Return dice for one step or picture: their draws follow from the seed and the key, and disturb no others."""
        text = repr((self.seed, key)).encode()
        child = Dice(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1, self.total, slice(0, 0))
        child._rows = self._rows
        return child

    def only(self, rows: Tensor, *key: int | str) -> Dice:
        """Return dice (see `of`) for some of the pictures, by their numbers (n,) among those of these dice."""
        child = self.of(*key)
        child._rows = self._rows[rows]
        return child

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return (n, *shape) float32 from [low, high)."""
        return torch.rand(self.total, *shape, generator=self._generator)[self._rows] * (high - low) + low

    def chance(self, p: float) -> Tensor:
        """Return (n,) bool, each true with probability p."""
        return self.uniform(0, 1) < p

    def permutation(self, length: int) -> Tensor:
        """Return (n, length) int64: the numbers 0 … length − 1 in an order of its own for each picture."""
        return self.uniform(0, 1, length).argsort(1)

    def noise(self, *shape: int, normal: bool = False) -> Tensor:
        """Return (n, *shape) float32, uniform in [0, 1) or normal, from a generator of its own for each picture."""
        seeds = torch.randint(1 << 62, (self.total,), generator=self._generator)[self._rows]
        values, own = torch.empty(len(self), *shape), torch.Generator()
        for value, seed in zip(values, seeds.tolist(), strict=True):
            own.manual_seed(seed)
            if normal:
                value.normal_(generator=own)
            else:
                value.uniform_(generator=own)
        return values
