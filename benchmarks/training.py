"""Measure training and write `docs/benchmarks/<date>-<commit>-training.md`: what the loop, the formats and more processes cost.

    python -m benchmarks.training

Times are processor time of this process where one thread is compared with one thread, so that other work on the machine counts
little; the comparison of processes is by the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mien import models
from mien.io.provenance import commit
from mien.training.building import fastest_precision
from mien.training.config import TrainConfig
from mien.training.cpu_kernels import keep_freed_memory, small_maps
from mien.training.loop import open_run, optimization_step, start_epoch

ROOT = Path(__file__).parents[1]
TABLE: dict[str, Any] = {
    "batch": 32,
    "threads": 1,
    "precision": "fp32",
    "augment": [
        {"op": "flip"},
        {"op": "affine", "rotate": 10, "scale": [0.9, 1.1], "translate": 0.06, "interpolation": "bilinear"},
    ],
    "model": {"name": "mien-base", "scores": "fer2013"},
    "data": {"dataset": "synthetic", "root": ".", "options": {"number": "560"}},
    "input": {"size": 48, "color": "gray", "normalize": "half"},
    "loss": [{"output": "fer2013"}],
    "optim": {"lr": 0.01},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="page to write instead of docs/benchmarks/<date>-<commit>-training.md")
    parser.add_argument("--steps", type=int, default=10, help="steps of each measurement")
    args = parser.parse_args()
    torch.set_num_threads(1)
    parts = [overhead(args.steps), formats(args.steps), convolutions(args.steps), memory(args.steps), processes()]
    name = f"{datetime.date.today()}-{commit().rstrip('+') or 'unknown'}-training.md"
    page = args.out or ROOT / "docs" / "benchmarks" / name
    machine = platform.processor() or platform.machine()
    head = f"# Training, measured {datetime.date.today()}\n\n{machine}, {os.cpu_count()} cores, "
    head += (
        f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, fastest format here: {fastest_precision()}.\n"
    )
    page.write_text("\n".join([head, *parts]), encoding="utf-8")
    print(page.read_text())


def processor_ms(call: Callable[[], object], repeats: int) -> float:
    """Return the median processor time of a call in milliseconds."""
    call()
    times = []
    for _ in range(repeats):
        before = time.process_time()
        call()
        times.append(time.process_time() - before)
    return float(np.median(times)) * 1000


def overhead(steps: int) -> str:
    """Compare a step of the loop with forward, backward and step written out, taking turns."""
    config = TrainConfig.of(TABLE)
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(config, Path(folder))
        start_epoch(run)
        batches = list(islice(run.loader.epoch(0), 4))
        order = run.loader.order(0)
        bare_model = models.build("mien-base").train()
        optimizer = torch.optim.SGD(
            bare_model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, foreach=True
        )

        def bare(batch: Any) -> None:
            image = batch.images["image"].contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad(set_to_none=True)
            with small_maps():
                answer = bare_model(image)
            functional.cross_entropy(answer.fer2013, batch.targets["label"]).backward()
            optimizer.step()

        def ours(batch: Any) -> None:
            optimization_step(run, batch)

        times: dict[str, list[float]] = {"bare": [], "loop": []}
        for index in range(steps + 1):
            batch = batches[index % len(batches)]
            for name, call in (("bare", bare), ("loop", ours)):
                before = time.process_time()
                call(batch)
                if index:
                    times[name].append(time.process_time() - before)
        loader = processor_ms(lambda: run.loader.prepare(order, 0, 0), steps)
    bare_ms, loop_ms = (float(np.median(times[name])) * 1000 for name in ("bare", "loop"))
    ratios = np.array(times["loop"]) / np.array(times["bare"])
    rows = [
        ["forward, backward, step written out", f"{bare_ms:.0f}", ""],
        ["a step of the loop", f"{loop_ms:.0f}", f"{np.median(ratios) - 1:+.1%} (median of pairs)"],
        ["preparing its batch (in a thread beside it)", f"{loader:.1f}", f"{bare_ms / loader:.0f} × the rate of steps"],
    ]
    return table("A step of `mien-base`, 32 images of 48 pixels, one thread", ["what", "ms", "ratio"], rows)


def formats(steps: int) -> str:
    """Compare number formats and memory layouts on the same network."""
    image = torch.randn(32, 1, 48, 48)
    rows, first = [], 0.0
    native = fastest_precision() == "bf16"
    plain, last = torch.contiguous_format, torch.channels_last
    forms = [(None, plain, False), (None, last, False), (torch.bfloat16, plain, False), (torch.bfloat16, last, False)]
    for dtype, layout, quick in [*forms, (None, last, True), (torch.bfloat16, last, True)]:
        network = models.build("mien-base").train().to(memory_format=layout)
        fed = image.contiguous(memory_format=layout)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, foreach=True)
        emulated = dtype is not None and not native
        with small_maps() if quick else contextlib.nullcontext():
            value = processor_ms(lambda: _step(network, optimizer, fed, dtype), 1 if emulated else steps)  # noqa: B023
        first = first or value
        name = f"{'fp32' if dtype is None else 'bf16'}, channels {'last' if layout is last else 'first'}"
        name += ", `small_maps()`" * quick + " (emulated)" * emulated
        rows.append([name, f"{value:.0f}", f"{first / value:.2f} ×"])
    note = "" if native else 'This processor has no bf16 instructions: emulated bf16 is what `precision = "auto"` avoids.'
    return table("Formats", ["format", "ms a step", "against the first"], rows, note)


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, image: torch.Tensor, dtype: torch.dtype | None) -> None:
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        answer = network(image)
    answer[0].float().logsumexp(1).mean().backward()  # the first field of every network here is its class scores
    optimizer.step()


def convolutions(steps: int) -> str:
    """Compare torch's convolutions with those that the loop uses, in the format that `precision = "auto"` chooses."""
    dtype = torch.bfloat16 if fastest_precision() == "bf16" else None
    rows = []
    for name, channels in (("mien-base", 1), ("resnet34", 3), ("dan", 3), ("efficientnet-b3", 3)):
        network = models.build(name).train().to(memory_format=torch.channels_last)
        fed = torch.randn(64, channels, 48, 48).contiguous(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, foreach=True)
        plain = processor_ms(lambda: _step(network, optimizer, fed, dtype), steps)  # noqa: B023
        with small_maps():
            quick = processor_ms(lambda: _step(network, optimizer, fed, dtype), steps)  # noqa: B023
        rows.append([f"`{name}`", f"{64e3 / plain:.0f}", f"{64e3 / quick:.0f}", f"{plain / quick:.2f} ×"])
    title = f"Convolutions of small maps, 64 images of 48 pixels, {'bf16' if dtype else 'fp32'}"
    return table(title, ["network", "torch, images/s", "`small_maps()`, images/s", "ratio"], rows)


def memory(steps: int) -> str:
    """Compare malloc as it is with malloc that keeps what is freed, each in a process of its own."""
    rows = []
    for name, side, images in (("mien-base", 48, 128), ("timm:mobilenetv1_100", 112, 64)):
        found = []
        for kept in (False, True):
            code = f"from benchmarks.training import steps_in; steps_in({name!r}, {side}, {images}, {steps}, kept={kept})"
            done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout))
        (before, cleared), (after, left) = found
        rows.append([f"`{name}`, {images} × {side} pixels", f"{before:.0f}", f"{after:.0f}", f"{before / after:.2f} ×"])
        rows[-1] += [f"{cleared:,.0f}", f"{left:,.0f}"]
    header = ["network", "ms a step", "kept, ms", "ratio", "pages cleared a step", "kept"]
    return table("Freed memory that is kept, processor time", header, rows)


def steps_in(name: str, side: int, images: int, steps: int, *, kept: bool) -> None:
    """Print processor time in milliseconds and page faults of a step of training, of a process of its own."""
    torch.set_num_threads(1)
    if kept:
        keep_freed_memory()
    channels = 1 if name.startswith("mien") else 3
    network = models.build(name, **({} if channels == 1 else {"num_classes": 7})).train().to(memory_format=torch.channels_last)
    fed = torch.randn(images, channels, side, side).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, foreach=True)
    dtype = torch.bfloat16 if fastest_precision() == "bf16" else None
    with small_maps():
        for _ in range(2):
            _step(network, optimizer, fed, dtype)
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(steps):
            _step(network, optimizer, fed, dtype)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps([seconds / steps * 1000, (after.ru_minflt - before.ru_minflt) / steps]))


def processes() -> str:
    """Compare one process with two, each of one thread, by the rows that they write."""
    import tomli_w

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "run.toml"
        recipe.write_text(tomli_w.dumps(TrainConfig.of({**TABLE, "epochs": 2}).to_dict()))
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        first = 0.0
        for number in (1, 2):
            launch = ["-m", "torch.distributed.run", f"--nproc-per-node={number}", "--master-port=29533", "-m", "mien"]
            out = Path(folder) / str(number)
            subprocess.run(
                [sys.executable, *launch, "train", str(recipe), "-o", str(out)], env=env, check=True, capture_output=True
            )
            epochs = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            rate = epochs[-1]["per_second"]
            first = first or rate
            rows.append([str(number), f"{rate:.0f}", f"{rate / number:.0f}", f"{rate / first:.2f} ×"])
    return table(
        "Processes on this machine, one thread each", ["processes", "images/s", "for each process", "against one"], rows
    )


def table(title: str, header: list[str], rows: list[list[str]], note: str = "") -> str:
    lines = [f"## {title}", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *([note, ""] if note else [])])


if __name__ == "__main__":
    main()
