"""Networks as files that run without torch: ONNX or OpenVINO, checked against their source before they are written.

    import mien
    mien.export("runs/fer2013-dan-small/1", "dan.onnx")                  # what mien.load opens; any number of faces at once
    mien.export("runs/fer2013-dan-small/1", "dan.onnx", raw_input=True)  # uint8 RGB images of any size in
    mien.export("runs/fer2013-dan-small/1", "dan.onnx", precision="int8",  # ranges from training images, judged on validation
                training=mien.open_dataset("fer2013", root, "train"),
                validation=mien.open_dataset("fer2013", root, "validation"))

An output is called by its role: `scores` (probabilities, calibrated), `valence_arousal`, `action_units`, heads, `feature`. The
card lies inside the file.

(A sub-package `export` would hide the function of that name; see docs/log.md.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ..errors import ConfigError, MissingExtra
from ..registry import lookup
from ..runtime.open_model import TORCH_SIDE
from .writing import check_place

if TYPE_CHECKING:
    from ..data.datasets import Dataset
    from .exporter import Exported

__all__ = ["PRECISIONS", "Precision", "Runtime", "export"]

Precision = Literal["fp32", "fp16", "int8"]
Runtime = Literal["onnx", "openvino"]

PRECISIONS = get_args(Precision)
ENDINGS = {"onnx": (".onnx",), "openvino": (".xml",)}
"""Runtime → ending of its files (in a tuple: a registry would import a name)."""
TOLERANCE = 0.5
"""Points of accuracy that int8 may lose."""
IMAGES = 512
"""Training images that ranges are taken from."""


def export(
    model: str | Path,
    out: str | Path,
    *,
    precision: Precision | None = None,
    runtime: Runtime = "onnx",
    raw_input: bool = False,
    training: Dataset | None = None,
    validation: Dataset | None = None,
    tolerance: float = TOLERANCE,
    images: int = IMAGES,
    keep: Sequence[str] = (),
    speed: bool = False,
    threads: int = 1,
    progress: Callable[[str], None] = lambda step: None,
) -> Exported:
    """Write a network as a file that runs without torch. It is written whole, or not at all.

    Args:
        model: whatever `mien.load` opens: folder of a run, card, `.safetensors`; an exported `.onnx` can be stored anew.
        out: the file; ends in `.onnx`, or `.xml` for OpenVINO (whose weights lie beside it, as `.bin`).
        precision: `"fp32"`; `"fp16"`: weights stored in half the bytes, arithmetic as before; `"int8"`: weights and arithmetic.
            None: fp32 of weights, and what an exported file has.
        runtime: `"onnx"` or `"openvino"`.
        raw_input: put the preparation of images into the file: it takes (N, H, W, 3) uint8 RGB of any size.
        training: images that int8 takes its ranges from.
        validation: images that int8 is judged by.
        tolerance: points of accuracy on `validation` that int8 may lose.
        images: how many of `training` are looked at.
        keep: patterns of node names, or types of operators, that int8 leaves in float.
        speed: also measure images a second, of the source and of the file.
        threads: threads inside one call, while measuring.
        progress: called with what is done next.

    Returns:
        What was written, and its figures beside those of the source.

    Raises:
        ExportError: the file would differ from its source by more than 1e-4 (fp32), or lose more accuracy than `tolerance`
            (int8); the source is an int8 file and another precision is asked for; `out` cannot be written; or the card of
            OpenVINO's files would take the place of another file.
        ConfigError: the options make no sense together.
        WeightsError: the model cannot be opened.
        MissingExtra: torch, onnx or openvino is not installed.

    Example:
        >>> mien.export("mien-base", "face.onnx", raw_input=True).card.input.dtype  # doctest: +SKIP
        'uint8'
    """
    if precision is not None:
        lookup(precision, dict.fromkeys(PRECISIONS), "precision", plugins=False)
    (ending,) = lookup(runtime, ENDINGS, "runtime", plugins=False)
    path = Path(out)
    if path.suffix.lower() != ending:
        raise ConfigError(f"{path}: a file for {runtime} ends in {ending}")
    if precision == "int8" and (training is None or validation is None):
        raise ConfigError("int8 needs training images for its ranges and validation ones to be judged by (--calibration)")
    if precision != "int8" and (training is not None or validation is not None or keep):
        raise ConfigError(f"training and validation images, and what stays float, are for int8, not {precision or 'fp32'}")
    if images < 1:
        raise ConfigError(f"ranges cannot be taken from {images} images; give 1 or more (--images)")
    check_place(path)
    try:
        from .exporter import Request, write
    except ModuleNotFoundError as error:
        name = error.name or ""
        raise (MissingExtra(name, "train") if name in {*TORCH_SIDE, "onnx", "tomli_w"} else error) from error
    request = Request(precision, runtime, raw_input, training, validation, tolerance, images, tuple(keep), speed, threads)
    return write(model, path, request, progress)
