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

from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import TORCH_SIDE, needs

if TYPE_CHECKING:
    from .exporter import export as export

__all__ = ["PRECISIONS", "Precision", "Runtime", "export"]

Precision = Literal["fp32", "fp16", "int8"]
Runtime = Literal["onnx", "openvino"]

PRECISIONS = get_args(Precision)
ENDINGS = {"onnx": ".onnx", "openvino": ".xml"}  # runtime → suffix of its files
ADVICE = "free some space, or choose another place with --out"
TOLERANCE = 0.5  # maximum loss of accuracy by int8, in points
IMAGES = 512  # number of training images for activation ranges


def __getattr__(name: str) -> Any:
    """Import `export` on first use, since it needs torch and onnx."""
    if name != "export":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs("train", among=TORCH_SIDE):
        from .exporter import export
    return export
