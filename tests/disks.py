"""A full disk, for this process: beyond so many bytes no file grows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """While the block runs, the system refuses what goes beyond `size` bytes of a file, in the middle of it."""
    resource = pytest.importorskip("resource", reason="the size of files is limited where the system is one of POSIX")
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
