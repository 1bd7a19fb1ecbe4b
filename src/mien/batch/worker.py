"""The worker process: commands on stdin, messages on stdout, one JSON object per line.

    ← {"folder": …}                                        once
    → {"ready": true}
    ← {"shard": 12, "skip": {"7": "reason"}}               process the shard and write its part
    ← {"shard": 12, "skip": {}, "start": 0, "stop": 8}     process this slice without writing it
    → {"at": 3}                                            before the item of this index; −1: still at the same item;
                                                           −2: writing the part
    → {"done": {…tally…}} | {"failed": "reason"}           then waits for the next command
    → {"error": "reason"}                                  the job cannot be processed; exits

The process exits when stdin or stdout is closed, so that a killed driver leaves no workers behind. The driver kills workers
that send no message for too long.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import Any

from ..errors import MienError
from ..io.provenance import VERSION
from .job import identity, load
from .shards import ShardReader
from .storage import Folder


def main() -> None:
    """Process commands until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The driver handles Ctrl-C.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # Output of libraries must not mix with messages.

    def say(**message: Any) -> None:
        answers.write(json.dumps(message).encode() + b"\n")

    def begin(at: int) -> None:
        say(at=at)

    with contextlib.suppress(BrokenPipeError):
        try:
            reader = _open(json.loads(sys.stdin.buffer.readline()))
        except (MienError, OSError) as error:
            say(error=str(error))
            return
        say(ready=True)
        for line in sys.stdin.buffer:
            try:
                task = json.loads(line)
                skip = {int(place): why for place, why in task["skip"].items()}
                done: dict[str, Any] = {}
                if "start" in task:
                    reader.try_out(task["shard"], task["start"], task["stop"], skip, begin)
                else:
                    done = reader.write(task["shard"], skip, begin)
                say(done=done)
            except BrokenPipeError:
                raise
            except MienError as error:
                say(error=str(error))
                return
            except OSError as error:
                say(error=f"a part cannot be written: {error}")
                return
            except Exception as error:  # An unexpected decoder error must not end the run.
                say(failed=f"{type(error).__name__}: {error}"[:300])


def _open(opening: dict[str, Any]) -> ShardReader:
    folder = Folder(opening["folder"])
    job = load(folder)
    if job is None:
        raise MienError(f"{folder} is missing or empty; all machines must have access to the same folder", path=str(folder))
    if job.mien != VERSION:
        raise MienError(
            f"this machine has mien {VERSION}, the run was started with {job.mien}; install the same version on all machines",
            value=VERSION,
            expected=job.mien,
        )
    reader = ShardReader(folder, job)
    if (found := identity(reader.read.card)) != job.model:
        raise MienError(
            f"this machine has the model {found}, the run was started with {job.model}; copy the same file to all machines",
            value=found,
            expected=job.model,
        )
    return reader
