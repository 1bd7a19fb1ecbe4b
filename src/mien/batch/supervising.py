"""Worker processes of one machine: restarted when they crash or hang, with the responsible file isolated.

A shard whose worker crashed is retried by a new worker. If that crashes too, the shard is bisected, starting with the items in
progress: an item that alone crashes two workers is reported as a failure, and the shard is processed without it. A worker that
was killed from outside succeeds on the second try, so no item is blamed by coincidence. A worker without a heartbeat for too
long is killed and counts as crashed.
"""

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import IO, Any

from ..errors import MienError
from ..inference.recognizer import BATCH
from .worker import WRITING

TIMEOUT = 300.0
"""Seconds without a heartbeat after which a worker is killed; no image within the pixel limit takes nearly as long."""

PATIENCE = 300.0  # minimum of the same limit while no image is processed: loading networks, reading the listing, writing a part

ENDING = 10.0
"""Seconds to wait for a process to exit. A process blocked on a dead disk may not exit even after SIGKILL; it is abandoned."""

PAUSES = (0.0, 0.0, 0.5, 2.0, 5.0)
"""Seconds before each attempt to start a worker after a failed start, for example while memory is short."""

ROUNDS = 8  # consecutive attempts at a shard without an isolated item, before giving up
Outcome = tuple[int, dict[str, Any], int]  # number of a shard, its tally, and how many workers it crashed


def run(
    folder: str, shards: Mapping[int, int], workers: int, threads: int, tell: Callable[[int], None], timeout: float = TIMEOUT
) -> Generator[Outcome]:
    """Process shards (number → number of items) in worker processes, and yield their outcomes in order of completion.

    `tell` receives the number of completed items in running shards, from any thread.
    """
    under_way: dict[Supervisor, int] = {}
    free = queue.SimpleQueue[Supervisor]()

    def note(keeper: Supervisor, at: int) -> None:
        under_way[keeper] = at
        tell(sum(under_way.copy().values()))

    def read(shard: int, items: int) -> Outcome:
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


class Process:
    """A subprocess that runs `mien.batch.worker`. Not thread-safe, except for `kill`.

    A thread receives the messages, so that waiting for them can time out: a process that is stopped or hangs in a decoder
    neither answers nor exits. `errors` receives its stderr.
    """

    def __init__(self, threads: int, cwd: str | None, errors: IO[bytes]) -> None:
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100 - "" is this folder
        numeric = {name: str(threads or os.cpu_count()) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        command = [sys.executable, "-c", "from mien.batch.worker import main; main()"]
        env = {**os.environ, **numeric, "PYTHONPATH": path}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=cwd, env=env
        )
        self._lines = queue.SimpleQueue[bytes]()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.kill = self._process.kill

    @property
    def runs(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def say(self, message: dict[str, Any]) -> None:
        """Send a message; BrokenPipeError if the process has exited."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self, limit: float) -> dict[str, Any] | None:
        """Return the next message, None after the process has exited; TimeoutError if none arrives in `limit` seconds."""
        try:
            line = self._lines.get(timeout=None if math.isinf(limit) else limit)
        except queue.Empty:
            raise TimeoutError from None
        return json.loads(line) if line.endswith(b"\n") else None

    def close(self) -> None:
        """Close its stdin, wait for its exit, and kill it if it does not exit."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._wait() is None:
            self.kill()
            self._wait()
        self._listener.join(ENDING)

    def epitaph(self) -> str:
        """Kill the process if it is running and return a description of how it ended."""
        self.kill()  # It may have closed its stdout and still be running.
        status = self._wait()
        if status is None:
            return "its worker process cannot be killed"
        if status >= 0:
            return f"its worker process exited with status {status}"
        name = signal.Signals(-status).name if -status in signal.valid_signals() else str(-status)
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"its worker process was killed by {name}{hint}"

    def _wait(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(ENDING)
        return None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            for line in answers:
                self._lines.put(line)
        self._lines.put(b"")


@dataclass(frozen=True, slots=True)
class Death:
    """Crash of a worker: the index of the item it had started last, and the reason in one line."""

    at: int
    why: str


class Supervisor:
    """Processes shards in a worker process. Not thread-safe, except for `kill`.

    `threads` are those of one network call and of numeric libraries in the worker. `tell` is called with this object and the
    index of the current item. `cwd` is the worker's folder; None or a missing folder: the current one. `timeout` is the number
    of seconds until the next image must be started or the next frame of a video read.
    """

    def __init__(
        self,
        folder: str,
        threads: int = 1,
        tell: Callable[["Supervisor", int], None] = lambda keeper, at: None,
        cwd: str | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.folder, self.threads, self.tell, self.timeout = folder, threads, tell, timeout
        self.cwd = cwd if cwd and os.path.isdir(cwd) else None  # noqa: PTH112 - one line
        self.lost = 0
        """Number of crashed workers."""
        self._process: Process | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        self._lock = threading.Lock()
        self._ended = False

    def read(self, shard: int, items: int) -> tuple[dict[str, Any], int]:
        """Process a shard, write its part, and return its tally and how many workers it crashed; MienError if none starts."""
        skip: dict[int, str] = {}
        idle, before = 0, self.lost
        while idle < ROUNDS:
            places = []
            for _ in range(2):
                end = self._ask({"shard": shard, "skip": skip})
                if not isinstance(end, Death):
                    return end, self.lost - before
                places.append(max(end.at, 0))
            found = self._find(shard, items, skip, *places)
            idle = 0 if found else idle + 1
            skip |= found
        message = f"shard {shard} crashed {2 * ROUNDS} workers, but none of its items alone does"
        raise MienError(f"{message}. Use fewer --workers or a smaller --shard-size, then --resume", value=shard)

    def kill(self) -> None:
        """Kill the worker and start no other."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Shut down the worker."""
        self._bury()
        self._errors.close()

    def _find(self, shard: int, items: int, skip: dict[int, str], first: int, last: int) -> dict[int, str]:
        """Return the items that crash workers: search at the last started item, then in its batch, then in the whole shard.

        A crash in the decoder is due to the item started last; a crash during inference may be due to any item of its batch.
        """
        group = max(0, last + 1 - BATCH)
        return (
            self._guilty(shard, last, last + 1, skip, sure=first == last)
            or self._guilty(shard, group, last + 1, skip)
            or self._guilty(shard, 0, items, skip)
        )

    def _guilty(self, shard: int, start: int, stop: int, skip: dict[int, str], *, sure: bool = False) -> dict[int, str]:
        """Return the items of a slice that crash workers, with reasons; `sure` tries a single item only once."""
        if start >= stop or all(place in skip for place in range(start, stop)):
            return {}
        task = {"shard": shard, "skip": skip, "start": start, "stop": stop}
        if not isinstance(end := self._ask(task), Death):
            return {}
        if stop - start == 1:
            again = end if sure else self._ask(task)
            return {start: again.why} if isinstance(again, Death) else {}
        middle = (start + stop) // 2
        return self._guilty(shard, start, middle, skip) | self._guilty(shard, middle, stop, skip)

    def _ask(self, task: dict[str, Any]) -> dict[str, Any] | Death:
        process, at, began = self._ready(), -1, False
        stage, limit = "reading the listing", max(PATIENCE, self.timeout)
        try:
            process.say(task)
            while (answer := process.hear(limit)) is not None:
                if "at" in answer:
                    began = answer["at"] != WRITING
                    stage, limit = ("", self.timeout) if began else ("writing its part", max(PATIENCE, self.timeout))
                    at = max(at, answer["at"])
                    self.tell(self, at)
                elif "done" in answer:
                    return answer["done"]
                elif "failed" in answer:
                    return Death(at, f"processing failed: {answer['failed']}")
                else:
                    raise MienError(answer["error"])
        except BrokenPipeError:
            pass
        except TimeoutError:
            self._end(process)
            if not began:
                message = f"no response for {limit:g} seconds while {stage} (shard {task['shard']} of {self.folder})"
                advice = "check that the storage responds, then --resume"
                raise MienError(f"{message}; {advice}", path=self.folder, value=task["shard"]) from None
            return Death(at, f"timed out after {limit:g} seconds (--timeout)")
        return Death(at, self._end(process))

    def _ready(self) -> Process:
        """Return a worker with loaded networks."""
        if self._process is not None and self._process.runs:
            return self._process
        why = ""
        for pause in PAUSES:
            time.sleep(pause)
            process, answer = self._start(), None
            try:
                process.say({"folder": self.folder})
                answer = process.hear(max(PATIENCE, self.timeout))
            except BrokenPipeError:
                pass
            except TimeoutError:
                self._end(process)
                message = f"a worker did not load its networks within {PATIENCE:g} seconds; check that its disk responds"
                raise MienError(message) from None
            if answer is not None:
                if "ready" in answer:
                    return process
                raise MienError(answer["error"])
            why = self._end(process)
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        words = f": {lines[-1][:200]}" if lines else ""
        raise MienError(f"a worker exits at startup ({why}){words}; fewer --workers need less memory")

    def _start(self) -> Process:
        self._bury()
        with self._lock:
            if self._ended:
                raise MienError("the run was stopped")
            self._process = Process(self.threads, self.cwd, self._errors)
        return self._process

    def _bury(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def _end(self, process: Process) -> str:
        """Count a worker as crashed and describe how it ended."""
        self.lost += 1
        return process.epitaph()
