"""POST /v1/explain: which parts of a face its reading rests on, where this installation can tell."""

from __future__ import annotations

import importlib.util

from fastapi import FastAPI


def available() -> bool:
    """Return whether there is something that explains readings."""
    return importlib.util.find_spec("mien.explaining") is not None


def install(app: FastAPI) -> None:
    """Add the route."""
