"""The training loop, for one process or several.

`train` opens the data, builds the parts of the run, and repeats: for every epoch, for every batch an `optimization_step`, then
`end_epoch`. All random numbers of a step follow from (seed, epoch, step), so the state of a run is its weights, its optimizer
and its `Progress`: an interrupted run resumes and ends in bit-identical weights.

Several processes (`torchrun`, `accelerate launch`) share each batch: together they see the same augmented images as one process
would.
"""

import contextlib
import dataclasses
import math
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from torch import Tensor, nn

from ..config import differences
from ..errors import ConfigError, TrainingError
from ..evaluation.report.plots import confusion_matrix
from ..faces.preprocessing import Preprocess
from ..io.files import locked_folder
from ..metrics.affect import UnitThresholds
from . import run_dir, validation
from .augmentation import mixup
from .building import CORRECT, LABELED, Parts, build_parts, device_of, fastest_precision, open_accelerator
from .config import TrainConfig
from .cpu_kernels import keep_freed_memory
from .data import Mixture, card_crop, card_input, open_splits, placed
from .loader import Batch, Loader
from .optim import Schedule, freeze, frozen_statistics, sam_ascend, sam_restore
from .teachers import Report, pseudo_labeled
from .transforms import hash_of


class Interrupted(TrainingError):
    """Training was interrupted by SIGTERM after writing a checkpoint; resume with `--resume`."""


@dataclass(slots=True)
class Progress:
    """Position and results of a run, saved in every checkpoint.

    `step` counts the steps done in this epoch; `best` is the best value of the validation metric. Of this epoch there are the
    `sums` of the loss and its terms over the images, the images `seen` by this process, and the `seconds` of the steps. `rows`
    are the metrics of the finished epochs, `skipped` the unreadable images and reasons.
    """

    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    sums: dict[str, float] = field(default_factory=dict)
    seen: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """An opened run."""

    config: TrainConfig
    out: Path
    report: Report
    accelerator: Accelerator
    train: Mixture
    validation: Mixture
    loader: Loader
    schedule: Schedule
    parts: Parts
    progress: Progress

    @property
    def checkpoint(self) -> Path:
        """The file from which the run resumes."""
        return self.out / "last.pt"

    @property
    def digests(self) -> list[str]:
        """Digests of the training and validation split of each dataset."""
        return [each for pair in zip(self.train.digests, self.validation.digests, strict=True) for each in pair]


def train(config: TrainConfig, out: str | Path, *, resume: bool = False, report: Report = lambda event: None) -> Path:
    """Train a network and keep the best epoch on the validation split. The test split is never used for model selection.

    With `resume` the run in `out`, its folder, is continued; without it, a folder with a run is an error. `report` is called by
    the first process with `{"event": "teacher" | "start" | "step" | "epoch", …}`; the keys of an epoch are those of
    `metrics.jsonl`. Returns the path of `best.safetensors`; its card is `best.toml` beside it. Raises ConfigError: an invalid
    field, or `out` contains a run, or one with another config or dataset; DatasetError: missing or empty dataset;
    TrainingError: the loss is NaN or infinite, a file cannot be written, or no epoch has the metric of validation; Interrupted:
    the run was interrupted; its checkpoint is written.
    """
    run = open_run(config, Path(out), resume, report)
    config, progress = run.config, run.progress
    with contextlib.ExitStack() as stack:
        if run.accelerator.is_main_process:
            stack.enter_context(locked_folder(run.out))
            run_dir.open_run(run.out, config, (run.train, run.validation), run.accelerator.device)
        stack.callback(run_dir.finish_tracker, run.accelerator)
        interrupted = _sigterm(stack)
        run.report({"event": "start", **summary(run)})
        while progress.epoch < config.epochs and not out_of_patience(config, progress):
            start_epoch(run)
            for batch in run.loader.epoch(progress.epoch, progress.step):
                started = time.perf_counter()
                optimization_step(run, batch)
                progress.seconds += time.perf_counter() - started
                progress.step += 1
                due = config.checkpoint_steps and progress.step % config.checkpoint_steps == 0
                if due or interrupted.is_set():
                    save(run)
                if interrupted.is_set():
                    where = f"epoch {progress.epoch + 1}, step {progress.step}"
                    raise Interrupted(f"interrupted in {where}; use --resume to continue")
            end_epoch(run)
    best = run.out / "best.safetensors"
    if not best.exists():
        raise TrainingError(f"no epoch of {run.out} has a {config.validation.metric}; see metrics.jsonl", path=run.out)
    return best


def open_run(config: TrainConfig, out: Path, resume: bool = False, report: Report = lambda event: None) -> Run:
    """Check the config, open the data, build the parts, restore a resumed run; ConfigError, DatasetError, TrainingError."""
    config = TrainConfig.of(config.to_dict())  # Configs built in Python are checked like recipes.
    if config.precision == "auto":
        config = dataclasses.replace(config, precision=fastest_precision(device_of(config).type))
    exists = (out / "last.pt").exists()
    if exists and not resume:
        advice = "continue it with --resume, or choose another folder (--out)"
        raise ConfigError(f"{out} already contains a run; {advice}", path=out)
    Preprocess(card_input(config.input), card_crop(config.input))  # Raises where they do not match.
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = open_accelerator(config, out)
    if not accelerator.is_main_process:
        report = lambda event: None  # noqa: E731
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    train_split, validation_split = open_splits(config)
    loader = Loader(train_split, config, accelerator.process_index, accelerator.num_processes, report)
    torch.manual_seed(hash_of(config.seed))
    parts = build_parts(config, train_split, accelerator, initialize=not exists)
    schedule = Schedule(config.schedule, config.epochs, loader.steps)
    run = Run(config, out, report, accelerator, train_split, validation_split, loader, schedule, parts, Progress())
    if exists:
        restore(run)
    return run


def summary(run: Run) -> dict[str, Any]:
    """Return position, size and settings of a run, for the report at its start."""
    config, learner = run.config, run.parts.learner
    datasets = [
        {
            "name": train.data.name,
            "protocol": train.data.variant,
            "train": len(train),
            "validation": len(held_out),
            "leaks": train.leaks,
            "empty": [name for name, count in zip(train.labels, train.counts.tolist(), strict=True) if not count],
        }
        for train, held_out in zip(run.train.parts, run.validation.parts, strict=True)
    ]
    return {
        "epoch": run.progress.epoch,
        "epochs": config.epochs,
        "step": run.progress.step,
        "steps": run.loader.steps,
        "batch": config.batch,
        "device": str(run.accelerator.device),
        "processes": run.accelerator.num_processes,
        "precision": config.precision,
        "model": config.model.name,
        "parameters": sum(parameter.numel() for parameter in learner.model.parameters()),
        "trainable": sum(p.numel() for name, p in learner.named_parameters() if name in run.parts.trainable),
        "datasets": datasets,
    }


def start_epoch(run: Run) -> None:
    """Set training mode and freeze the parameters of the current stage."""
    run.parts.distributed.train()
    stages = sorted(run.config.stages, key=lambda stage: stage.epoch)
    current = [stage for stage in stages if stage.epoch <= run.progress.epoch]
    freeze(run.parts.learner, current[-1] if current else None, run.parts.trainable)


def optimization_step(run: Run, batch: Batch) -> None:
    """Do one step: forward and backward pass, gradient clipping, update of the weights and their average."""
    config, parts, progress, optim = run.config, run.parts, run.progress, run.config.optim
    step = progress.epoch * run.loader.steps + progress.step
    rate = optim.lr * run.schedule.factor(step)
    for group in parts.optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    learning = [p for p in parts.learner.parameters() if p.requires_grad]
    torch.manual_seed(hash_of(config.seed, progress.epoch, progress.step, run.accelerator.process_index))  # for dropout
    parts.optimizer.zero_grad(set_to_none=True)
    terms = gradients(run, batch)
    if optim.sam:
        moves = sam_ascend(learning, optim.sam)
        parts.optimizer.zero_grad(set_to_none=True)
        with frozen_statistics(parts.learner) if optim.sam_batch_norm == "once" else contextlib.nullcontext():
            gradients(run, batch)
        sam_restore(learning, moves)
    if optim.clip:
        run.accelerator.clip_grad_norm_(learning, optim.clip)
    parts.stepper.step()
    if parts.average:
        parts.average.update(step)
    count = len(batch.rows)
    for name, value in terms.items():
        progress.sums[name] = progress.sums.get(name, 0.0) + value * count
    progress.seen += count
    if config.tracker:
        run.accelerator.log({f"step/{name}": value for name, value in ({"lr": rate} | terms).items()}, step=step)
    where = {"event": "step", "epoch": progress.epoch, "step": progress.step}
    run.report({**where, "loss": terms["loss"], "lr": rate, "images": count})


def gradients(run: Run, batch: Batch) -> dict[str, float]:
    """Compute the gradients of a batch, in parts if gradients are accumulated; return the loss and its terms.

    Raises TrainingError if no image is readable, the loss is NaN or infinite, or BatchNorm has a single image.
    """
    config, parts, progress, total = run.config, run.parts, run.progress, len(batch.rows)
    place = f"epoch {progress.epoch + 1}, step {progress.step}"
    if not total:
        raise TrainingError(f"no image of a batch is readable ({place}); see skipped.txt in {run.out}", path=run.out)
    sums: dict[str, float] = {}
    chunks = torch.arange(total).chunk(config.accumulate)
    for index, chunk in enumerate(chunks):
        share = len(chunk) / total
        images = {name: placed(value[chunk], run.accelerator.device, config) for name, value in batch.images.items()}
        targets = {name: value[chunk].to(run.accelerator.device) for name, value in batch.targets.items()}
        more = index + 1 < len(chunks) and run.accelerator.num_processes > 1
        with run.accelerator.no_sync(parts.distributed) if more else contextlib.nullcontext():
            if parts.pseudo_teacher:
                targets = pseudo_labeled(parts.pseudo_teacher, config, images, targets, progress.epoch)
            mix = None
            if config.mix.mixup:
                images, mix = mixup(images, config.mix.mixup, hash_of(config.seed, progress.epoch, progress.step))
            try:
                loss, terms = parts.distributed(images, targets, mix)
            except ValueError as error:
                if len(chunk) > 1:
                    raise
                advice = "set sampler.drop_last = true, or change batch or accumulate"
                raise TrainingError(f"a batch of one cannot be used with BatchNorm ({place}): {error}; {advice}") from error
            if not loss.isfinite():
                raise _not_finite(run, batch, terms)
            run.accelerator.backward(loss * share * batch.share)
        for name, value in {"loss": loss, **terms}.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) * share
    return sums


def end_epoch(run: Run) -> None:
    """Validate, save, and write the metrics of the epoch; TrainingError: a parameter is not finite, or a file not written."""
    config, parts, progress = run.config, run.parts, run.progress
    progress.skipped |= run.train.skipped
    row = training_row(run)
    outputs, metrics, units = validate(run)
    row |= metrics
    if config.validation.metric == "last":
        row["best"] = True
    else:
        value = validation.quality(row, config.validation.metric)
        row["best"] = value > progress.best
        progress.best = max(progress.best, value)
    if config.schedule.kind == "plateau":
        watched = config.schedule.metric or config.validation.metric
        smaller_is_better = watched.strip().rpartition(".")[2] in validation.SMALLER_IS_BETTER
        value = validation.quality(row, watched)
        run.schedule.epoch_ended(-value if smaller_is_better else 1 - value)
    if bad := _first_not_finite(parts.learner):
        problem = f"{bad} is NaN or infinite at the end of epoch {progress.epoch + 1}"
        advice = f"reduce optim.lr, then resume from the last checkpoint, {run.checkpoint}"
        raise TrainingError(f"{problem}; {advice}", path=run.checkpoint)
    progress.rows.append(row)
    progress.epoch += 1
    progress.step, progress.sums, progress.seen, progress.seconds = 0, {}, 0, 0.0
    if run.accelerator.is_main_process:
        if row["best"]:
            figures = units.figures() if units else {}
            calibration = validation.calibration(outputs, run.validation, config)
            run_dir.keep_best(run, row, calibration, figures)
        save(run)
        curves = run_dir.write_epochs(run.out, progress.rows, progress.skipped)
        if config.tracker:
            step = progress.epoch * run.loader.steps
            run.accelerator.log({key: float(value) for key, value in row.items()}, step=step)
            counts = validation.confusion(outputs, run.validation, config)
            matrix = confusion_matrix(run.validation.labels, counts)
            run_dir.log_figures(run.accelerator, {"confusion": matrix, "curves": curves}, step)
    run.accelerator.wait_for_everyone()
    run.report({"event": "epoch", **row})


def training_row(run: Run) -> dict[str, Any]:
    """Return epoch, mean losses over all processes, learning rate and speed of the epoch."""
    progress = run.progress
    sums = [(progress.sums, progress.seen)]
    if run.accelerator.num_processes > 1:
        sums = gather_object(sums)
    seen = sum(number for _, number in sums)
    means = {name: sum(part[name] for part, _ in sums) / max(seen, 1) for name in progress.sums}
    last_step = (progress.epoch + 1) * run.loader.steps - 1
    rate = run.config.optim.lr * run.schedule.factor(last_step)
    row: dict[str, Any] = {"epoch": progress.epoch + 1, "loss": means.pop("loss"), "lr": rate}
    correct, labeled = means.pop(CORRECT, 0.0), means.pop(LABELED, 0.0)
    if labeled:
        row["train_accuracy"] = correct / labeled
    row |= {f"loss {name}": value for name, value in means.items() if len(means) > 1}
    return row | {"seconds": round(progress.seconds, 3), "per_second": round(seen / max(progress.seconds, 1e-9), 2)}


def validate(run: Run) -> tuple[dict[str, np.ndarray], dict[str, float], UnitThresholds | None]:
    """Return outputs, metrics and action unit thresholds on the validation split."""
    config, kept, accelerator = run.config, run.parts.kept, run.accelerator
    if accelerator.num_processes > 1:
        # BatchNorm statistics differ between processes; those of the first are used.
        for buffer in kept.buffers():
            buffer.copy_(broadcast(buffer))
    mine = accelerator.process_index, accelerator.num_processes
    found = validation.predict(kept, run.validation, config, mine, run.parts.learner.criterion)
    outputs = validation.interleave(gather_object([found]) if accelerator.num_processes > 1 else [found])
    run.progress.skipped |= run.validation.skipped
    metrics = validation.measure(outputs, run.validation, config)
    units = validation.unit_thresholds(outputs, run.validation, config)
    if units:
        metrics["au_f1_at_thresholds"] = units.f1
    return outputs, metrics, units


def out_of_patience(config: TrainConfig, progress: Progress) -> bool:
    """Return whether `validation.patience` epochs have passed without improvement."""
    if not config.validation.patience or not progress.rows:
        return False
    best = max((index for index, row in enumerate(progress.rows) if row["best"]), default=-1)
    return len(progress.rows) - 1 - best >= config.validation.patience


def save(run: Run) -> None:
    """Write the checkpoint, in the first process."""
    if not run.accelerator.is_main_process:
        return
    parts, scaler = run.parts, run.accelerator.scaler
    state = {
        "identity": {"config": run_dir.identity_of(run.config), "data": run.digests},
        "learner": parts.learner.state_dict(),
        "kept": parts.kept.state_dict() if parts.average else {},
        "optimizer": parts.optimizer.state_dict(),
        "schedule": run.schedule.plateau,
        "progress": dataclasses.asdict(run.progress),
    }
    if scaler is not None:
        state["scaler"] = scaler.state_dict()
    run_dir.save_checkpoint(run.checkpoint, state)


def restore(run: Run) -> None:
    """Set the state of a run from its checkpoint; ConfigError: another config or dataset, WeightsError: it is corrupt."""
    parts, path, scaler = run.parts, run.checkpoint, run.accelerator.scaler
    saved = run_dir.load_checkpoint(path)
    if (expected := saved["identity"]["data"]) != run.digests:
        message = f"the dataset has changed since {path} was written; start a new run with --out"
        raise ConfigError(message, path=path, value=run.digests, expected=expected)
    theirs, ours = run_dir.identity_of_saved(saved["identity"]["config"]), run_dir.identity_of(run.config)
    if theirs != ours:
        changed = tuple(f"{name} was {before!r}, is {now!r}" for name, before, now in differences(theirs, ours))
        message = f"{run.out} contains a run with another config ({', '.join(changed[:4])})"
        raise ConfigError(f"{message}; choose another folder (--out)", path=run.out, value=changed)
    # In checkpoints of mien 0.1 the criterion is called objective, and the progress is not nested.
    learner = {name.replace("objective.", "criterion.", 1): value for name, value in saved["learner"].items()}
    progress = saved.get("progress") or {**saved["at"], **{name: saved[name] for name in ("sums", "rows", "skipped")}}
    parts.learner.load_state_dict(learner)
    if parts.average:
        parts.kept.load_state_dict(saved["kept"])
    parts.optimizer.load_state_dict(saved["optimizer"])
    if scaler is not None and "scaler" in saved:
        scaler.load_state_dict(saved["scaler"])
    run.schedule.plateau = saved["schedule"]
    for name, value in progress.items():
        setattr(run.progress, name, value)


def _first_not_finite(module: nn.Module) -> str | None:
    return next((name for name, parameter in module.named_parameters() if not parameter.isfinite().all()), None)


def _not_finite(run: Run, batch: Batch, terms: dict[str, Tensor]) -> TrainingError:
    bad = _first_not_finite(run.parts.learner)
    which = ", ".join(name for name, value in terms.items() if not value.isfinite()) or "sum"
    names = tuple(map(str, run.train.names[batch.rows[:4]]))
    place = f"epoch {run.progress.epoch + 1}, step {run.progress.step}, images {', '.join(names)} …"
    where = f"the first such parameter is {bad}" if bad else "all parameters are finite"
    advice = f"Reduce optim.lr (now {run.config.optim.lr:g}) or set optim.clip; the last checkpoint is {run.checkpoint}"
    message = f"loss is NaN or infinite (term {which}) in {place}; {where}. {advice}"
    return TrainingError(message, path=run.checkpoint, value=names)


def _sigterm(stack: contextlib.ExitStack) -> threading.Event:
    """Return an event that SIGTERM sets until the stack is closed, so that the current step is finished first."""
    received = threading.Event()
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, lambda number, frame: received.set())
        stack.callback(signal.signal, signal.SIGTERM, before)
    return received
