"""`mien export` and `import`: weights for other runtimes, and those of authors."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from .. import exporting
from ..errors import ConfigError, needs
from ..exporting import IMAGES, TOLERANCE
from ..exporting.repository import write_repository
from ..io.urls import FILE
from .options import Folds, pairs
from .terminal import File, Json, for_programs, note, print_rows, write_json


def export(
    model: File,
    /,
    *,
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    push_ready: Path | None = None,
    precision: Literal["fp32", "fp16", "int8"] | None = None,
    runtime: Literal["onnx", "openvino"] = "onnx",
    raw_input: bool = False,
    calibration: str | None = None,
    place: Folds = Folds(),  # noqa: B008 - frozen
    tolerance: float = TOLERANCE,
    calibration_images: int = IMAGES,
    keep: tuple[str, ...] = (),
    threads: int = 1,
    json: Json = False,
) -> None:
    """Write a network as one file that runs without torch, with its card inside.

    The outputs are compared with those of the source first, at batch sizes 1, 2 and 7: fp32 may differ by 1e-4, int8 may lose
    --tolerance points of accuracy on the validation split. Otherwise nothing is written.

    Examples:
        mien export runs/fer2013-dan-small/1 -o dan.onnx
        mien export runs/fer2013-dan-small/1 -o dan-int8.onnx --precision int8 --calibration fer2013 --root data/fer2013
        mien export mien-base -o face.onnx --raw-input
        mien export runs/fer2013-dan-small/1 --push-ready fer-dan
        mien export dan.safetensors -o dan-openvino.xml --runtime openvino

    Args:
        model: Folder of a run, a card (also of an ensemble), a .safetensors file, an exported .onnx file or a bundled model.
        out: Output file: .onnx, or .xml for OpenVINO (its weights go beside it, as .bin).
        push_ready: Instead of --out: folder for a model hub, with model.onnx, README.md, card.json and example.py; it loads as
            hf://OWNER/NAME.
        precision: fp32; fp16: float16 weights, float32 arithmetic; int8: quantized weights and arithmetic. Default: fp32, or
            that of an exported file.
        runtime: Runtime of the file.
        raw_input: Include preprocessing in the file: its input is uint8 RGB of any size, (N, H, W, 3).
        calibration: For int8: a dataset; its training split gives activation ranges, its validation split the accuracy.
        tolerance: Points of accuracy that int8 may lose.
        calibration_images: Training images for the activation ranges.
        keep: Nodes (names with * and ?) or operator types that stay float32 in int8.
        threads: Threads inside one call of the network.
    """
    if (out is None) == (push_ready is None) or (push_ready and runtime != "onnx"):
        expected = "--out or --push-ready"
        raise ConfigError(f"expected either {expected} (onnx only)", value=push_ready, expected=expected)
    path = out or (push_ready or Path()) / FILE
    if push_ready is not None:
        push_ready.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"precision": precision, "runtime": runtime, "raw_input": raw_input, "threads": threads}
    if calibration is not None:
        for name, split in (("training", "train"), ("validation", "validation")):
            options[name] = place.open_split(calibration, split, model)
    options |= {"tolerance": tolerance, "images": calibration_images, "keep": keep, "speed": True}
    done = exporting.export(model, path, progress=lambda step: note(f"{step} …", "dim"), **options)
    if push_ready is not None:
        write_repository(done.card, push_ready)
    figures = [dataclasses.asdict(each) for each in (done.source, done.file)]
    if for_programs(json):
        write_json({"out": str(done.path), "source": figures[0], "file": figures[1], "differences": done.differences})
        return
    text, rated = ("file", "precision"), ("accuracy", "ECE") if done.file.n else ()
    rows = []
    for each in (done.source, done.file):
        rates = [f"{each.accuracy:.4f}", f"{each.ece:.4f}"] if each.n else []
        rows.append([each.file, each.precision, f"{each.size / 1e6:.2f}", f"{each.speed:,.0f}", *rates])
    print_rows([*text, "MB", "images/s", *rated], rows, text=text)
    note(f"largest difference {max(done.differences.values()):.1e}; wrote {done.path}", "dim")


def import_(
    model: str,
    file: Path,
    *,
    out: Annotated[Path, Parameter(alias="-o")],
    labels: str | None = None,
    partial: bool = False,
    loose: bool = False,
    option: tuple[str, ...] = (),
    crop: str | None = None,
    json: Json = False,
) -> None:
    """Turn a checkpoint of a network's authors into a .safetensors file with its card beside it.

    State dicts, plain or wrapped, and whole pickled modules of PyTorch, old or new; safetensors; npz. Nothing in the file is
    executed, and the authors' code is not needed.

    Examples:
        mien import dan rafdb_epoch21_acc0.897_bacc0.8532.pth -o dan-rafdb.safetensors --labels rafdb
        mien import ddamfn affecnet8_epoch25_acc0.6469.pth -o ddamfn-affectnet8.safetensors
        mien import ddamfn MFN_msceleb.pth -o start.safetensors --partial
        mien import as-is resnet18_msceleb.pth -o resnet18-msceleb.safetensors

    Args:
        model: An architecture (see: mien models), timm:NAME, or as-is to change only the container.
        file: The checkpoint.
        out: Where to write; ends in .safetensors. The card gets the same name with .toml.
        labels: Label set in whose order the classes are; needed where authors used several.
        partial: The file is of another network that this one starts from; writes what fits, without a card.
        loose: Write what fits even if entries are unused, missing or of another shape.
        option: An option of the architecture that cannot be read from the file, as NAME=VALUE; may be given several times.
        crop: Template for cropping faces from photos (arcface112, ddamfn5, fer2013 …); default: the authors', or the dataset's.
    """
    with needs("train"):
        from ..models.checkpoints import import_checkpoint

    options = {name: _value(text) for name, text in pairs(option, "--option").items()}
    report = import_checkpoint(model, file, out, labels=labels, strict=not loose, partial=partial, options=options, crop=crop)
    if for_programs(json):
        entries = {} if report.load is None else {**dataclasses.asdict(report.load), "loaded": len(report.load.loaded)}
        card = str(report.card) if report.card else None
        write_json({"weights": str(report.weights), "card": card, "container": report.checkpoint.container, **entries})
    note(f"read {file}: {report.checkpoint.container}, {len(report.checkpoint.state)} tensors", "dim")
    if report.load:
        note(report.load.summary())
    note(f"wrote {report.weights}" + (f" and {report.card.name}" if report.card else ""))


def _value(text: str) -> Any:
    """Return a whole number, a number, true or false; otherwise the text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return {"true": True, "false": False}.get(text, text)
