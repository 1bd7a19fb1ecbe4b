"""Run `mien train` several times, killed by signal 9 each time; imports are done once.

    python kills.py RECIPE OUT KIND:STEPS:NUMBER …

Each process is a fork of this one. It resumes the run in OUT, does STEPS complete steps, and is killed

* `step:3:500`: at the 500th call or return of a function in the step after that;
* `byte:3:500`: before byte 500 of the checkpoint after that step;
* `epoch:3:500`: at the 500th call or return at the end of that step's epoch.

Prints how each process ended, as `subprocess` says it.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import matplotlib.backends.backend_agg  # noqa: F401
import torch

from mien.cli import main
from mien.training import loop


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Truncated:
    """A file whose writer is killed before a byte; what comes before it is on the disk."""

    def __init__(self, file: Any, left: int) -> None:
        self.file, self.left = file, left

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if len(view) > self.left:
            self.file.write(view[: self.left])
            self.file.flush()
            die()
        self.left -= len(view)
        return self.file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def train(recipe: str, out: str, kind: str, steps: int, number: int) -> None:
    """Train until the moment comes."""
    learn, end, save = loop.optimization_step, loop.end_epoch, torch.save
    begun = called = 0

    def count(*_: object) -> None:
        nonlocal called
        called += 1
        if called >= number:
            die()

    def learn_until(run: Any, batch: Any) -> None:
        nonlocal begun
        begun += 1
        if kind == "step" and begun > steps:
            sys.setprofile(count)
        learn(run, batch)

    def end_until(run: Any) -> None:
        if kind == "epoch" and begun > steps:
            sys.setprofile(count)
        end(run)

    def save_until(state: Any, file: Any) -> None:
        save(state, Truncated(file, number) if kind == "byte" and begun > steps else file)

    loop.optimization_step, loop.end_epoch, torch.save = learn_until, end_until, save_until
    main(["train", recipe, "-o", out, "--resume"])


if __name__ == "__main__":
    recipe, out, *moments = sys.argv[1:]
    for moment in moments:
        kind, steps, number = moment.split(":")
        if not (child := os.fork()):
            train(recipe, out, kind, int(steps), int(number))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
