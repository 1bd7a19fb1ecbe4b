"""Plots in one style: matplotlib figures for reports and papers, identical to the byte for identical data.

The colors are those of Okabe and Ito, which color-blind readers can distinguish. matplotlib is imported when a figure is made.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, needs
from ..io.files import write_file

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.figure import Figure
else:
    Figure = Any  # for annotations elsewhere

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLORS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "png": {"dpi": 200, "metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,
    "svg.hashsalt": "mien",
    "path.simplify": True,
}


def require_matplotlib() -> None:
    """Fail early if plots cannot be drawn. Raises MissingExtra: matplotlib is not installed."""
    with needs("eval", "matplotlib"):
        import matplotlib.figure  # noqa: F401


def styled(**more: Any) -> AbstractContextManager[None]:
    """Return a context in which figures are drawn in the common style; `more` are further matplotlib settings."""
    require_matplotlib()
    import matplotlib

    return matplotlib.rc_context({**STYLE, **more})


def new_figure(width: float, height: float, *subplots: int, **options: Any) -> tuple[Figure, Any]:
    """Return a figure of this size in inches, and its axes; further arguments as for matplotlib's `subplots`."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(*subplots, **options)


def figure_bytes(figure: Figure, kind: str, **more: Any) -> bytes:
    """Return a figure as a file of a format in `FORMATS`; `more` are further matplotlib settings."""
    file = io.BytesIO()
    with styled(**more):
        figure.savefig(file, format=kind, **FORMATS[kind])
    return file.getvalue()


def figure_kind(path: str | Path) -> str:
    """Return the format of a figure file by its suffix.

    Raises ConfigError: another suffix; MissingExtra: matplotlib is not installed.
    """
    require_matplotlib()
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        known = tuple(f".{each}" for each in FORMATS)
        raise ConfigError(f"{path}: the suffix of a plot must be {', '.join(known)}", value=str(path), expected=known)
    return kind


def write_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure atomically as `.png`, `.svg` or `.pdf`.

    Raises ConfigError: another suffix, a full disk, or a folder that is not writable.
    """
    write_file(path, figure_bytes(figure, figure_kind(path)))
    return Path(path)
