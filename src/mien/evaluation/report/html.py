"""The report as one self-contained HTML page, without scripts or network access."""

import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cards import ASSETS
from ...errors import needs
from ...visualization.pages import data_uri, decimal, percent
from .metrics import CUTS, HEADLINE
from .plots import inline_svg, shown_columns

with needs("eval", "jinja2"):
    import jinja2

if TYPE_CHECKING:
    from . import Extra, Report

FIGURES = {
    "reliability": "Accuracy and number of predictions by confidence",
    "risk_coverage": "Share of errors among the most confident predictions",
    "learning_curves": "Loss and validation metrics over the epochs",
}


def environment(*, autoescape: bool, **filters: Callable[..., str]) -> jinja2.Environment:
    """Return the environment of the package's templates."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS / "templates"),
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not autoescape,
        undefined=jinja2.StrictUndefined,
    )
    found.filters |= filters
    return found


def page(report: "Report") -> str:
    """Return the whole page."""
    figures, about = report.figures, report.about
    confusion = None
    if "confusion" in figures:
        columns, counts = shown_columns(figures["classes"], np.array(figures["confusion"]))
        confusion = {"columns": columns, "rows": dict(zip(figures["classes"], counts.tolist(), strict=True))}
    extra: dict[str, list[Extra]] = {}
    for image in report.extra:
        extra.setdefault(image.section, []).append(image)
    templates = environment(autoescape=True, figure=decimal, percent=percent, plain=_plain, image=data_uri)
    return templates.get_template("report.html").render(
        title=report.title,
        figures=figures,
        about=about,
        headline=HEADLINE,
        confusion=confusion,
        drawings={name: inline_svg(report, name, says) for name, says in FIGURES.items()},
        mistakes=_mistakes(report),
        extra=extra,
        units_of=CUTS,
        command=shlex.join(about["command"]),
        facts=_facts,
    )


def _mistakes(report: "Report") -> list[dict[str, Any]]:
    table = report.predictions
    row_of = {name: row for row, name in enumerate(table.sample.tolist())}
    found = []
    for each in report.about.get("mistakes", ()):
        path, row = report.folder / each["file"], row_of.get(each["sample"])
        if row is not None and path.is_file():
            facts = {"content": path.read_bytes(), "sample": each["sample"], "label": str(table.label[row])}
            predicted = table.classes[table.predicted[row]]
            found.append(facts | {"predicted": predicted, "confidence": f"{table.confidence[row]:.0%}"})
    return found


def _facts(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return a nested table as lines of name and text, without empty ones."""
    lines: list[tuple[str, str]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            lines += _facts(value, f"{name}, ")
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            lines.append((name, f"{len(value)} entries"))
        elif value not in (None, "", [], ()):
            lines.append((name, _plain(value)))
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else str(value)
