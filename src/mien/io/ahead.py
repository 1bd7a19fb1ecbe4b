"""Run an iterator ahead of its consumer, on a thread of its own."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

DEPTH = 2  # items that are made ahead

_END: Any = object()


def ahead(items: Iterator[T], name: str, depth: int = DEPTH) -> Generator[T]:
    """Yield the items of an iterator in order; up to `depth` of them are made ahead, on one thread that is named `name`.

    Nothing is made before the first item is requested. An exception is raised in place of the item that it stopped. When the
    generator ends or is closed, the thread has stopped and no longer uses the iterator.

    Example:
        >>> list(ahead(iter("abc"), "letters"))
        ['a', 'b', 'c']
    """
    with ThreadPoolExecutor(1, name) as pool:
        waiting: deque[Future[T]] = deque(pool.submit(next, items, _END) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(pool.submit(next, items, _END))
                yield item
        finally:
            for future in waiting:
                future.cancel()
