"""Facial expression recognition: read faces offline, train and compare the published networks.

>>> import mien
>>> recognizer = mien.load()
>>> result = recognizer(mien.sample())
>>> [face.label for face in result.faces]
['happiness']
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# onnxruntime 1.32 and later write a device id and a database of events to the user's cache folder when they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from .cards import Card as Card
    from .data.datasets import open_dataset as open_dataset
    from .errors import MienError as MienError
    from .evaluation import evaluate as evaluate
    from .evaluation.fusion import fuse as fuse
    from .evaluation.report import Report as Report
    from .explaining import explain as explain
    from .exporting import export as export
    from .inference.recognizer import Recognizer as Recognizer
    from .inference.recognizer import load as load
    from .io.images import sample as sample
    from .training import torch_bridge as torch  # noqa: F401
    from .types import Box as Box
    from .types import Face as Face
    from .types import Result as Result
    from .types import to_frame as to_frame
    from .visualization.faces import draw as draw

_WHERE = {
    "Box": "types",
    "Card": "cards",
    "Face": "types",
    "MienError": "errors",
    "Recognizer": "inference.recognizer",
    "Report": "evaluation.report",
    "Result": "types",
    "draw": "visualization.faces",
    "evaluate": "evaluation",
    "explain": "explaining",
    "export": "exporting",
    "fuse": "evaluation.fusion",
    "load": "inference.recognizer",
    "open_dataset": "data.datasets",
    "sample": "io.images",
    "to_frame": "types",
}

__all__ = [*_WHERE]


def __getattr__(name: str) -> Any:
    """Import public names on first use (PEP 562), so that `import mien` is fast."""
    if name == "__version__":
        from .io.provenance import VERSION

        return VERSION
    if name == "torch":
        return importlib.import_module(".training.torch_bridge", __name__)
    if name not in _WHERE:
        raise AttributeError(f"module 'mien' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
