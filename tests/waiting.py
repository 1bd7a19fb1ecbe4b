"""Waiting for what nobody tells: the one place in which tests look again and again.

Whatever can say itself how far it is, by a line on a pipe, a callback or an event, is asked to. Here is looked at what cannot:
answers that a server keeps until it is asked, and processes that Ray starts. `test_suite.py` refuses other pauses in tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE = 0.02
"""Seconds between two looks."""


def until(look: Callable[[], T], seconds: float = 120) -> T:
    """Return the first answer that is true.

    Raises:
        TimeoutError: there was none.
    """
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise TimeoutError(f"nothing came in {seconds:g} seconds, last {found!r}")
        time.sleep(PAUSE)
    return found
