"""Distribution of shards over worker processes of one machine, each with a thread that waits for it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from .supervising import TIMEOUT, Supervisor


def run(
    folder: str, shards: Mapping[int, int], workers: int, threads: int, tell: Callable[[int], None], timeout: float = TIMEOUT
) -> Generator[tuple[int, dict[str, Any], int]]:
    """Process shards in worker processes.

    Args:
        folder: folder of the job.
        shards: shard number → number of items.
        workers: processes.
        threads: threads of one network call.
        tell: called with the number of completed items in running shards, from any thread.
        timeout: see `Supervisor`.

    Yields:
        For each shard, in order of completion: its number, its tally, and how many workers it crashed.
    """
    under_way: dict[Supervisor, int] = {}
    free = queue.SimpleQueue[Supervisor]()

    def note(keeper: Supervisor, at: int) -> None:
        under_way[keeper] = at
        tell(sum(under_way.copy().values()))

    def read(shard: int, items: int) -> tuple[int, dict[str, Any], int]:
        keeper = free.get()
        try:
            return shard, *keeper.read(shard, items)
        finally:
            under_way[keeper] = 0
            free.put(keeper)

    keepers = [Supervisor(folder, threads, note, timeout=timeout) for _ in range(min(workers, len(shards)))]
    for keeper in keepers:
        free.put(keeper)
    try:
        with ThreadPoolExecutor(len(keepers)) as crew:
            waiting = [crew.submit(read, *shard) for shard in shards.items()]
            try:
                for done in as_completed(waiting):
                    yield done.result()
            finally:
                crew.shutdown(wait=False, cancel_futures=True)
                for keeper in keepers:
                    keeper.kill()
    finally:
        for keeper in keepers:
            keeper.close()
