"""Whether another process of this machine still runs."""

import os
import sys
from typing import Any


def process_exists(number: int) -> bool:
    """Return whether a process with this number runs."""
    if sys.platform == "win32":
        return _exists_on_windows(number)
    try:
        os.kill(number, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def _exists_on_windows(number: int) -> bool:  # pragma: no cover
    """Query the kernel: on Windows `os.kill` with signal 0 would end the process."""
    import ctypes

    kernel: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # pyrefly: ignore
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(0x0010_0000, False, number)  # SYNCHRONIZE: the right to wait for its end
    if not handle:
        return ctypes.get_last_error() == 5  # pyrefly: ignore  # access denied: it belongs to another user
    ended = kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == 0
    kernel.CloseHandle(ctypes.c_void_p(handle))
    return not ended
