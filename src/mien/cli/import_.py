"""`mien import`: the authors' checkpoints as weights of our networks."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..errors import needs
from .options import pairs
from .terminal import Json, for_programs, side_console, write_json


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
    side = side_console()
    side.print(f"read {file}: {report.checkpoint.container}, {len(report.checkpoint.state)} tensors", style="dim")
    if report.load:
        side.print(report.load.summary())
    side.print(f"wrote {report.weights}" + (f" and {report.card.name}" if report.card else ""))


def _value(text: str) -> Any:
    """Return a whole number, a number, true or false; otherwise the text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return {"true": True, "false": False}.get(text, text)
