"""What is freed is kept: a second step finds its memory where the first one left it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
from mien.training.cpu_kernels import keep_freed_memory
assert sys.argv[1] == "as it is" or keep_freed_memory()
def step():
    for _ in range(3):
        b"x" * (40 << 20)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is told in glibc's way")
def test_freed_memory_is_not_cleared_again() -> None:
    cleared = [
        int(subprocess.run([sys.executable, "-c", STEPS, way], capture_output=True, text=True, check=True).stdout)
        for way in ("as it is", "kept")
    ]
    assert cleared[0] > 3 * 40 * 256 > 1000 > cleared[1]  # in pages of 4 KiB
