"""Facial expression recognition: read faces offline, train and compare the published networks.

>>> import mien
>>> read = mien.load()
>>> result = read(mien.sample())
>>> [face.label for face in result.faces]
['happiness']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .cards import Card as Card
    from .datasets import open_dataset as open_dataset
    from .drawing import draw as draw
    from .errors import MienError as MienError
    from .evaluation import evaluate as evaluate
    from .explaining import explain as explain
    from .exporting import export as export
    from .images import sample as sample
    from .recognizer import Recognizer as Recognizer
    from .recognizer import load as load
    from .report import Report as Report
    from .types import Box as Box
    from .types import Face as Face
    from .types import Result as Result

_WHERE = {
    "Box": "types",
    "Card": "cards",
    "Face": "types",
    "MienError": "errors",
    "Recognizer": "recognizer",
    "Report": "report",
    "Result": "types",
    "draw": "drawing",
    "evaluate": "evaluation",
    "explain": "explaining",
    "export": "exporting",
    "load": "recognizer",
    "open_dataset": "datasets",
    "sample": "images",
}

__all__ = [
    "Box",
    "Card",
    "Face",
    "MienError",
    "Recognizer",
    "Report",
    "Result",
    "draw",
    "evaluate",
    "explain",
    "export",
    "load",
    "open_dataset",
    "sample",
]


def __getattr__(name: str) -> Any:
    """Import public names on first use (PEP 562), so that `import mien` costs next to nothing."""
    if name not in _WHERE:
        raise AttributeError(f"module 'mien' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
