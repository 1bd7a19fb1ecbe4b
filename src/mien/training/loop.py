"""One straight training loop, on one process or many.

Everything random in a step follows from (seed, epoch, step), so the state of a run is its weights, its optimizer and where it
stands: a run that was killed and resumed ends in the same weights, bit for bit, as one that was not.

Several processes (`accelerate launch`, `torchrun`) share each batch: together they take the same images, varied in the same
way, as one process would.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from accelerate.utils import broadcast, gather_object
from torch import Tensor
from torch.nn import functional

from .. import models
from ..errors import ConfigError, TrainingError
from ..faces.preprocessing import Preprocess
from ..io.files import locked_folder
from . import augmentation, limits, validation
from . import run_dir as checkpoint
from . import run_dir as records
from .augmentation import mix_pairs
from .batch_norm import synchronize
from .building import Learner, blank_answer, device_of, fastest_precision, open_accelerator, options_of
from .config import TrainConfig
from .cpu_kernels import keep_freed_memory
from .criterion import Objective, target_of
from .data import card_input, evaluation_batches, open_splits
from .init_weights import load_start
from .loader import Batch, Loader, hash_of
from .optim import Average, climb, descend, freeze, optimizer, still_statistics
from .pseudo_labels import Filling
from .schedule import Schedule

Report = Callable[[dict[str, Any]], None]


class Interrupted(TrainingError):
    """The run was asked to stop (SIGTERM); its state is written.

    Go on with `--resume`.
    """


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    resume: bool = False,
    report: Report = lambda event: None,
) -> Path:
    """Train one network; the best epoch on the validation split is kept. The test split chooses nothing.

    Args:
        config: the run.
        out: folder of the run.
        resume: go on with the run that `out` holds. Otherwise a folder that holds one is refused.
        report: called with `{"event": "teacher" | "start" | "step" | "epoch", …}`; rows of epochs are as in `metrics.jsonl`.

    Returns:
        Path of `best.safetensors`; its card is `best.toml` beside it.

    Raises:
        ConfigError: a field makes no sense, or `out` holds a run already, of another config, or of other data.
        DatasetError: the data is not there.
        TrainingError: the loss is no number, the state cannot be written, or the run was told to stop.
    """
    if config.precision == "auto":
        config = dataclasses.replace(config, precision=fastest_precision(device_of(config).type))
    return _Run(config, Path(out), resume, report).go()


class _Run:
    def __init__(self, config: TrainConfig, out: Path, resume: bool, report: Report) -> None:
        self.config, self.out, self.report = config, out, report
        self.last = out / "last.pt"
        if self.last.exists() and not resume:
            raise ConfigError(f"{out} holds a run already; go on with it by --resume, or give another folder with --out")
        limits.check(config)
        validation.check_metrics(config)
        augmentation.check(config.augment)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.accelerator = open_accelerator(config, out)
        self.process, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        self.main, self.device = self.accelerator.is_main_process, self.accelerator.device
        if self.device.type == "cpu":
            keep_freed_memory()
        self.train, self.validation = open_splits(config)
        self.digests = [digest for pair in zip(self.train.digests, self.validation.digests, strict=True) for digest in pair]
        self.loader = Loader(self.train, config, self.process, self.processes, report if self.main else lambda event: None)
        self.schedule = Schedule(config.schedule, config.epochs, self.loader.steps)
        self.identity = {"config": checkpoint.identity_of(config), "data": self.digests}
        goes_on = resume and self.last.exists()
        self._build(fresh=not goes_on)
        self.epoch, self.step, self.rows, self.best = 0, 0, [], -float("inf")
        self.sums: dict[str, float] = {}
        self.seen, self.seconds = 0, 0.0
        self.skipped: dict[str, str] = {}
        if goes_on:
            self._restore()

    def _build(self, fresh: bool) -> None:
        config = self.config
        torch.manual_seed(hash_of(config.seed))
        self.options = options_of(config, self.train)
        model = models.build(config.model.name, **self.options)
        if config.model.init and fresh:
            load_start(model, config.model.name, config.model.init, feed=card_input(config.input), images=self._some_images)
        answer = blank_answer(model, config)
        names = [part.name for part in self.train.parts]
        objective = Objective(config.loss, answer, len(self.train.labels), self.train.counts, config.loss_weighting, names)
        for term in config.loss:
            concerned = [part for part in self.train.parts if not term.data or part.name in term.data]
            if (target := target_of(term)) and not any(target in part.targets for part in concerned):
                raise ConfigError(
                    f"loss term {term.kind!r} needs {target}, which {concerned[0].data.name} does not have; leave it out"
                )
        if config.sync_batch_norm and self.processes > 1:
            model = synchronize(model)
        if config.channels_last:
            model = model.to(memory_format=torch.channels_last)  # pyrefly: ignore
        self.learner = Learner(model, objective).to(self.device)
        if config.compile:
            model.compile()  # in place: names of parameters stay as they are
        self.learner.precision = torch.bfloat16 if config.precision == "bf16" else None
        if config.precision == "fp16":
            self.learner.precision = torch.float16
        self.able = [name for name, parameter in self.learner.named_parameters() if parameter.requires_grad]
        self.optimizer = optimizer(self.learner, config.optim)
        self.wrapped, self.stepper = self.accelerator.prepare(self.learner, self.optimizer)
        self.kept = copy.deepcopy(model).eval() if config.optim.ema else model
        self.average = Average(self.kept, model, config.optim.ema) if config.optim.ema else None
        averaged = self.kept if self.average else None
        self.filling = Filling(config, averaged, self.options, self.device) if config.fill.confidence else None

    def _some_images(self) -> Tensor:
        """Return up to 256 training images, spread over the split, as the network is fed."""
        rows = np.unique(np.linspace(0, len(self.train) - 1, 256).astype(int))
        batches = evaluation_batches(self.train, Preprocess(card_input(self.config.input)), len(rows), rows)
        _, images, readable = next(batches)
        found = images["image"][torch.from_numpy(readable)]
        side = self.config.input.size  # images of `input.native` are still of their own size
        return functional.interpolate(found, (side, side), mode="bilinear", antialias=True)

    def go(self) -> Path:
        with contextlib.ExitStack() as ours:
            if self.main:
                ours.enter_context(locked_folder(self.out))
                records.open_run(self.out, self.config, (self.train, self.validation), self.device)
            return self._go()

    def _go(self) -> Path:
        config = self.config
        self.report(
            {"event": "start", "epoch": self.epoch, "epochs": config.epochs, "steps": self.loader.steps, "step": self.step}
        )
        with _told_to_stop() as told:
            for epoch in range(self.epoch, config.epochs):
                if self._given_up():
                    break
                self.epoch = epoch
                self._enter(epoch)
                for batch in self.loader.epoch(epoch, self.step):
                    started = time.perf_counter()
                    self._learn(batch)
                    self.step += 1
                    self.seconds += time.perf_counter() - started
                    if told.is_set() or (config.checkpoint_steps and self.step % config.checkpoint_steps == 0):
                        self._save()
                    if told.is_set():
                        raise Interrupted(f"stopped by a signal at epoch {epoch + 1}, step {self.step}; go on with --resume")
                self._end_epoch()
        best = self.out / "best.safetensors"
        if not best.exists():
            raise TrainingError(f"no epoch of {self.out} gave a {config.validation.metric}; look at metrics.jsonl")
        return best

    def _enter(self, epoch: int) -> None:
        self.wrapped.train()
        stages = sorted(self.config.stages, key=lambda stage: stage.epoch)
        current = [stage for stage in stages if stage.epoch <= epoch]
        freeze(self.learner, current[-1] if current else None, self.able)
        self.learning = [p for p in self.learner.parameters() if p.requires_grad]

    def _learn(self, batch: Batch) -> None:
        """One step: forward, backward, clip, update, average."""
        config, optim = self.config, self.config.optim
        at = self.epoch * self.loader.steps + self.step
        rate = optim.lr * self.schedule.factor(at)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        torch.manual_seed(hash_of(config.seed, self.epoch, self.step, self.process))
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._gradients(batch)
        if optim.sam:
            moves = climb(self.learning, optim.sam)
            self.optimizer.zero_grad(set_to_none=True)
            with still_statistics(self.learner) if optim.sam_batch_norm == "once" else contextlib.nullcontext():
                self._gradients(batch)
            descend(self.learning, moves)
        if optim.clip:
            self.accelerator.clip_grad_norm_(self.learning, optim.clip)
        self.stepper.step()
        if self.average:
            self.average.update(at)
        n = len(batch.rows)
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * n
        self.seen += n
        self.report({"event": "step", "epoch": self.epoch, "step": self.step, "loss": terms["loss"], "lr": rate, "images": n})

    def _gradients(self, batch: Batch) -> dict[str, float]:
        """Leave the gradients of a batch in the parameters; return the loss and its terms."""
        config, total = self.config, len(batch.rows)
        if not total:
            raise TrainingError(
                f"no image of a batch can be read (epoch {self.epoch + 1}, step {self.step}); see {self.out}/skipped.txt"
            )
        sums: dict[str, float] = {}
        parts = torch.arange(total).chunk(config.accumulate)
        for index, part in enumerate(parts):
            share = len(part) / total
            images = {name: self._fed(value[part]) for name, value in batch.images.items()}
            targets = {name: value[part].to(self.device) for name, value in batch.targets.items()}
            more = index + 1 < len(parts) and self.processes > 1
            with self.accelerator.no_sync(self.wrapped) if more else contextlib.nullcontext():
                if self.filling:
                    targets = self.filling(images, targets, self.epoch)
                images, mix = mix_pairs(images, config.mix, hash_of(config.seed, self.epoch, self.step))
                try:
                    loss, terms = self.wrapped(images, targets, mix)
                except ValueError as error:
                    if len(part) > 1:
                        raise
                    raise TrainingError(
                        f"nothing can be learned from a single image (epoch {self.epoch + 1}, step {self.step}): {error}; "
                        "set sampler.drop_last, or another batch or accumulate"
                    ) from error
                if not loss.isfinite():
                    raise self._no_number(batch, terms)
                self.accelerator.backward(loss * share * batch.share)
            for name, value in {"loss": loss, **terms}.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) * share
        return sums

    def _fed(self, image: Tensor) -> Tensor:
        image = image.to(self.device, non_blocking=True)
        return image.contiguous(memory_format=torch.channels_last) if self.config.channels_last else image

    def _no_number(self, batch: Batch, terms: dict[str, Tensor]) -> TrainingError:
        bad = [name for name, p in self.learner.named_parameters() if not p.isfinite().all()]
        which = ", ".join(name for name, value in terms.items() if not value.isfinite())
        names = ", ".join(str(name) for name in self.train.names[batch.rows[:4]])
        where = f"the first parameter that is none is {bad[0]}" if bad else "all parameters are still numbers"
        return TrainingError(
            f"the loss is no number (term {which or 'sum'}) at epoch {self.epoch + 1}, step {self.step}, "
            f"images {names} …; {where}. "
            f"Lower optim.lr (now {self.config.optim.lr:g}) or set optim.clip; the last good state is in {self.last}"
        )

    def _end_epoch(self) -> None:
        """Validate, keep the best, write everything down."""
        config = self.config
        self.skipped |= self.train.skipped
        row = self._summary() | self._validate()
        if config.validation.metric == "last":
            better = True
        else:
            value = validation.quality(row, config.validation.metric)
            better = value > self.best
            self.best = max(self.best, value)
        if config.schedule.kind == "plateau":
            watched = config.schedule.metric or config.validation.metric
            figure = validation.quality(row, watched)
            falling = watched.strip().rpartition(".")[2] in validation.SMALLER_IS_BETTER
            self.schedule.epoch_ended(-figure if falling else 1 - figure)
        row["best"] = better
        bad = next((name for name, p in self.learner.named_parameters() if not p.isfinite().all()), None)
        if bad:
            raise TrainingError(
                f"{bad} is no number at the end of epoch {self.epoch + 1}; the last good state is in {self.last}. "
                "Lower optim.lr, then resume"
            )
        self.rows.append(row)
        self.epoch, self.step, self.sums, self.seen, self.seconds = self.epoch + 1, 0, {}, 0, 0.0
        if self.main:
            if better:
                figures = self.units.figures() if self.units else {}
                records.keep_best(
                    self.out, self.kept, config, self.options, self.validation, self.digests, row, self.calibration, figures
                )
            self._save()
            records.write_rows(self.out, self.rows)
            records.draw_curves(self.out, self.rows, config.validation.metric)
            self._list_skipped()
        if config.tracker:
            self.accelerator.log({k: v for k, v in row.items() if isinstance(v, (int, float))}, step=row["epoch"])
        self.accelerator.wait_for_everyone()
        self.report({"event": "epoch", **row})

    def _summary(self) -> dict[str, Any]:
        parts = [(self.sums, self.seen)]
        if self.processes > 1:
            parts = gather_object(parts)
        seen = sum(number for _, number in parts)
        means = {name: sum(sums[name] for sums, _ in parts) / max(seen, 1) for name in self.sums}
        step = (self.epoch + 1) * self.loader.steps - 1
        row: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "loss": means.pop("loss"),
            "lr": self.config.optim.lr * self.schedule.factor(step),
        }
        row |= {f"loss {name}": value for name, value in means.items() if len(means) > 1}
        return row | {"seconds": round(self.seconds, 3), "per_second": round(seen / max(self.seconds, 1e-9), 2)}

    def _validate(self) -> dict[str, float]:
        if self.processes > 1:  # BatchNorm's statistics are each process's own; those of the first count
            for buffer in self.kept.buffers():
                buffer.copy_(broadcast(buffer))
        found = validation.predict(self.kept, self.validation, self.config, self.process, self.processes)
        shares = gather_object([found]) if self.processes > 1 else [found]
        self.skipped |= self.validation.skipped
        outputs = validation.interleave(shares)
        figures = validation.measure(outputs, self.validation, self.config)
        self.units = validation.unit_thresholds(outputs, self.validation, self.config)
        self.calibration = validation.calibration(outputs, self.validation, self.config)
        return figures | ({"au_f1_at_thresholds": self.units.f1} if self.units else {})

    def _given_up(self) -> bool:
        patience = self.config.validation.patience
        if not patience or not self.rows:
            return False
        best = max((index for index, row in enumerate(self.rows) if row["best"]), default=-1)  # of all NaN none is best
        return len(self.rows) - 1 - best >= patience

    def _list_skipped(self) -> None:
        if self.skipped:
            text = "".join(f"{name}\t{' '.join(reason.split())}\n" for name, reason in sorted(self.skipped.items()))
            records.write(self.out / "skipped.txt", text)

    def _save(self) -> None:
        if not self.main:
            return
        state = {
            "identity": self.identity,
            "learner": self.learner.state_dict(),
            "kept": self.kept.state_dict() if self.average else {},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state(),
            "at": {"epoch": self.epoch, "step": self.step, "seen": self.seen, "seconds": self.seconds, "best": self.best},
            "sums": self.sums,
            "rows": self.rows,
            "skipped": self.skipped,
        }
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        checkpoint.save(self.last, state)

    def _restore(self) -> None:
        saved = checkpoint.load(self.last)
        theirs = saved["identity"]
        if theirs["data"] != self.digests:
            raise ConfigError(f"the data has changed since {self.last} was written (digest); start a new run with --out")
        if theirs["config"] != self.identity["config"]:
            changed = checkpoint.differences(theirs["config"], self.identity["config"])
            raise ConfigError(
                f"{self.out} holds a run of another config ({', '.join(changed[:4])}); give another folder with --out"
            )
        self.learner.load_state_dict(saved["learner"])
        if self.average:
            self.kept.load_state_dict(saved["kept"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.accelerator.scaler is not None and "scaler" in saved:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.schedule.restore(saved["schedule"])
        at = saved["at"]
        self.epoch, self.step, self.seen = int(at["epoch"]), int(at["step"]), int(at["seen"])
        self.seconds, self.best = float(at["seconds"]), float(at["best"])
        self.sums, self.rows, self.skipped = saved["sums"], saved["rows"], saved["skipped"]


@contextlib.contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """Give an event that SIGTERM sets; the step that runs is finished first."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.set())
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
