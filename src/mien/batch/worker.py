"""The process that reads shards: told what to do on stdin and answering on stdout, a JSON object in each line.

    ← {"folder": …}                                        once
    → {"ready": true}
    ← {"shard": 12, "skip": {"7": "why"}}                  read it, write its part
    ← {"shard": 12, "skip": {}, "start": 0, "stop": 8}     only try this piece of it
    → {"at": 3}                                            before the item of this place; −1: still at the same one;
                                                           −2: all are read, the part is being written
    → {"done": {…tally…}} | {"failed": "why"}              then it waits for the next
    → {"error": "why"}                                     nothing can be read at all: it ends

When stdin closes, or nobody reads its answers any more, it ends: a driver that was killed leaves no workers behind. Who says
nothing for too long is ended by the driver.
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
    """Work until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints must not stand among the answers

    def say(**message: Any) -> None:
        answers.write(json.dumps(message).encode() + b"\n")

    with contextlib.suppress(BrokenPipeError):
        try:
            reader = _open(json.loads(sys.stdin.buffer.readline()))
        except (MienError, OSError) as error:
            say(error=str(error))
            return
        say(ready=True)
        for line in sys.stdin.buffer:
            try:
                say(done=_do(reader, json.loads(line), lambda at: say(at=at)))
            except BrokenPipeError:
                raise
            except MienError as error:
                say(error=str(error))
                return
            except OSError as error:
                say(error=f"a part cannot be written: {error}")
                return
            except Exception as error:  # a file that breaks a decoder in a way nobody foresaw must not end the run
                say(failed=f"{type(error).__name__}: {error}"[:300])


def _open(opening: dict[str, Any]) -> ShardReader:
    folder = Folder(opening["folder"])
    job = load(folder)
    if job is None:
        raise MienError(f"{folder} is not there, or empty: the folder must be one that all machines share")
    if job.mien != VERSION:
        raise MienError(f"this machine has mien {VERSION}, the run was begun with {job.mien}; install the same everywhere")
    reader = ShardReader(folder, job)
    if (found := identity(reader.read.card)) != job.model:
        raise MienError(f"this machine has the model {found}, the run was begun with {job.model}; put the same file everywhere")
    return reader


def _do(reader: ShardReader, task: dict[str, Any], begin: Any) -> dict[str, Any]:
    skip = {int(place): why for place, why in task["skip"].items()}
    if "start" not in task:
        return reader.write(task["shard"], skip, begin)
    reader.try_out(task["shard"], task["start"], task["stop"], skip, begin)
    return {}
