"""Export networks as ONNX or OpenVINO files that run without torch, after a comparison with the source.

    import mien
    mien.export("runs/fer2013-dan-small/1", "dan.onnx")                  # for mien.load; any batch size
    mien.export("runs/fer2013-dan-small/1", "dan.onnx", raw_input=True)  # input: uint8 RGB images of any size
    mien.export("runs/fer2013-dan-small/1", "dan.onnx", precision="int8",  # ranges from training, accuracy on validation
                training=mien.open_dataset("fer2013", root, "train"),
                validation=mien.open_dataset("fer2013", root, "validation"))

Outputs are named by their role: `scores` (calibrated probabilities), `valence_arousal`, `action_units`, heads, `feature`. The
card is inside the file. An ensemble becomes one file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ..errors import ConfigError, ExportError, MissingExtra
from ..io.files import write_errors
from ..registry import lookup
from ..runtime.open_model import TORCH_SIDE

if TYPE_CHECKING:
    from ..data.datasets import Dataset
    from .exporter import Exported

__all__ = ["PRECISIONS", "Precision", "Runtime", "export"]

Precision = Literal["fp32", "fp16", "int8"]
Runtime = Literal["onnx", "openvino"]

PRECISIONS = get_args(Precision)
ENDINGS = {"onnx": ".onnx", "openvino": ".xml"}
"""Runtime → suffix of its files."""
ADVICE = "free some space, or choose another place with --out"
TOLERANCE = 0.5
"""Maximum loss of accuracy by int8, in points."""
IMAGES = 512
"""Number of training images for activation ranges."""


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
    """Write a network as a file that runs without torch, atomically.

    Args:
        model: any model that `mien.load` opens: folder of a run, card (also of an ensemble), `.safetensors`, exported `.onnx`.
        out: output file: `.onnx`, or `.xml` for OpenVINO (its weights go beside it, as `.bin`).
        precision: `"fp32"`; `"fp16"`: float16 weights, float32 arithmetic; `"int8"`: quantized weights and arithmetic. None:
            fp32, or that of an exported file.
        runtime: `"onnx"` or `"openvino"`.
        raw_input: include preprocessing in the file: its input is (N, H, W, 3) uint8 RGB of any size.
        training: images for the activation ranges of int8.
        validation: images for the accuracy of int8.
        tolerance: maximum loss of accuracy on `validation`, in points.
        images: number of images of `training` that are used.
        keep: patterns of node names, or operator types, that stay float32.
        speed: also measure images per second of source and file.
        threads: threads inside one call.
        progress: called with the next step.

    Returns:
        The file with its measurements and those of the source.

    Raises:
        ExportError: the file would differ from its source by more than 1e-4 (fp32), or lose more accuracy than `tolerance`
            (int8); an int8 source with another precision; `out` cannot be written; or the card of OpenVINO's files would
            replace another file.
        ConfigError: contradictory options.
        WeightsError: the model cannot be opened.
        MissingExtra: torch, onnx or openvino is not installed.

    Example:
        >>> mien.export("mien-base", "face.onnx", raw_input=True).card.input.dtype  # doctest: +SKIP
        'uint8'
    """
    for name, known, kind in ((precision or "fp32", PRECISIONS, "precision"), (runtime, ENDINGS, "runtime")):
        lookup(name, dict.fromkeys(known), kind, plugins=False)
    path, ending = Path(out), ENDINGS[runtime]
    if path.suffix.lower() != ending:
        raise ConfigError(f"{path}: the suffix for {runtime} must be {ending}", value=path.suffix, expected=ending)
    if not path.parent.is_dir():
        raise ExportError(f"{path} cannot be written: folder {path.parent} not found; create it first", path=path)
    if path.is_dir():
        raise ExportError(f"{path} is a folder; choose another name with --out", path=path)
    if path.exists() and Path(model).exists() and path.samefile(model):
        raise ConfigError(f"{path} is the source of the export; give another output", path=path)
    if precision == "int8" and (training is None or validation is None):
        raise ConfigError("int8 needs training and validation images (--calibration)", value=precision)
    if precision != "int8" and (training is not None or validation is not None or keep):
        message = f"training, validation and keep are options of int8, got {precision or 'fp32'}"
        raise ConfigError(message, value=precision, expected="int8")
    if images < 1:
        raise ConfigError(f"images must be at least 1, got {images} (--calibration-images)", value=images, expected=">= 1")
    with write_errors(path, ADVICE, ExportError), tempfile.TemporaryFile(dir=path.parent):
        pass
    try:
        from .exporter import write
    except ModuleNotFoundError as error:
        name = error.name or ""
        raise (MissingExtra(name, "train") if name in {*TORCH_SIDE, "onnx", "tomli_w"} else error) from error
    return write(
        model,
        path,
        precision,
        runtime,
        raw_input=raw_input,
        training=training,
        validation=validation,
        tolerance=tolerance,
        images=images,
        keep=tuple(keep),
        speed=speed,
        threads=threads,
        progress=progress,
    )
