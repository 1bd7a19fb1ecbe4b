"""How the C library hands out memory while a network learns on a CPU.

glibc takes blocks of 32 MiB and more from the system and gives them back as soon as they are free. A step of training frees and
asks for the same hundreds of megabytes of activations again, so that the system clears every page of them in every step: a
fifth of the time at 128 pixels (docs/log.md, 29 November 2026). What is freed is kept instead; a run's memory then stays at its
peak, which it reached anyway.
"""

from __future__ import annotations

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD, TOP_PAD = -1, -3, -2
"""Parameters of mallopt(3), from glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Let malloc keep what is freed, for this process from now on; return whether it does, which is so with glibc only."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = {TRIM_THRESHOLD: -1, MMAP_THRESHOLD: 1 << 30, TOP_PAD: 64 << 20}
    return all([mallopt(ctypes.c_int(parameter), ctypes.c_int(value)) == 1 for parameter, value in wanted.items()])  # noqa: C419 - each is called
