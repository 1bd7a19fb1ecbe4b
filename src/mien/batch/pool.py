"""Distribution of shards over worker processes of one machine; a thread per process hands out one shard at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Mapping
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
    waiting = iter(shards.items())
    lock, done = threading.Lock(), queue.Queue[Any]()
    under_way: dict[int, int] = {}
    keepers = [
        Supervisor(folder, threads, lambda at, who=who: _note(who, at), timeout=timeout)
        for who in range(min(workers, len(shards)))
    ]

    def _note(who: int, at: int) -> None:
        under_way[who] = at
        tell(sum(under_way.copy().values()))

    def keep(who: int, keeper: Supervisor) -> None:
        try:
            with keeper:
                while True:
                    with lock:
                        shard = next(waiting, None)
                    if shard is None:
                        break
                    before = keeper.lost
                    tally = keeper.read(*shard)
                    under_way[who] = 0
                    done.put((shard[0], tally, keeper.lost - before))
        except BaseException as error:
            done.put(error)
        finally:
            done.put(None)

    crew = [threading.Thread(target=keep, args=pair, daemon=True) for pair in enumerate(keepers)]
    for thread in crew:
        thread.start()
    working = len(crew)
    try:
        while working:
            found = done.get()
            if found is None:
                working -= 1
            elif isinstance(found, BaseException):
                raise found
            else:
                yield found
    finally:
        with lock:
            waiting = iter(())
        for keeper in keepers:
            keeper.kill()
        for thread in crew:
            thread.join()
