"""The report of an evaluation: metrics, figures and a page, computed from `predictions.csv` and `evaluation.json`.

report = Report.read("out/fer2013")
report.figures["official"]["accuracy"]["value"]
report.add_image("Grad-CAM", "surprise", png, "evidence of the network")
report.write()                                   # metrics.json, report.html, figures/
"""

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cards import ASSETS
from ...errors import DatasetError, needs
from ...io.files import write_file
from ...visualization.pages import data_uri, decimal, percent
from ...visualization.plotting import require_matplotlib
from .metrics import CUTS, HEADLINE, measure
from .plots import inline_svg, shown_columns, write_figures
from .predictions import Predictions, read_predictions

if TYPE_CHECKING:
    import jinja2

__all__ = ["EVALUATION", "PREDICTIONS", "Report"]

PREDICTIONS = "predictions.csv"
EVALUATION = "evaluation.json"
METRICS = "metrics.json"
PAGE = "report.html"
EXTRA = "figures/extra"
PNG = b"\x89PNG\r\n\x1a\n"
FIGURES = {
    "reliability": "Accuracy and number of predictions by confidence",
    "risk_coverage": "Share of errors among the most confident predictions",
    "learning_curves": "Loss and validation metrics over the epochs",
}


@dataclass(frozen=True, slots=True)
class Extra:
    """An image added to a report."""

    section: str  # heading
    title: str
    note: str  # caption
    order: int  # images are shown in this order
    png: bytes


@dataclass(frozen=True, eq=False)
class Report:
    """A finished evaluation, from `mien.evaluate` or, by `Report.read`, from its folder.

    `predictions` is the table, `about` the content of `evaluation.json`: model, dataset, mapping of labels, versions, speed.
    """

    folder: Path
    predictions: Predictions
    about: Mapping[str, Any]

    @staticmethod
    def read(folder: str | Path) -> "Report":
        """Read the folder of an evaluation; raises DatasetError if it is missing, unfinished or corrupt."""
        folder = Path(folder)
        try:
            about = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            message = f"{folder} holds no finished evaluation ({EVALUATION}: {error}); run mien evaluate"
            raise DatasetError(message, path=folder) from error
        return Report(folder, read_predictions(folder / PREDICTIONS), about)

    @cached_property
    def figures(self) -> dict[str, Any]:
        """All metrics, as in `metrics.json`; see `mien.evaluation.report.metrics.measure`."""
        thresholds = self.about["model"].get("card", {}).get("figures", {}).get("unit_thresholds", {})
        return measure(self.predictions, thresholds, self.about.get("metrics", ()))

    @property
    def extra(self) -> list[Extra]:
        """Images added by `add_image`, in that order."""
        pairs = [(path, path.with_suffix(".png")) for path in (self.folder / EXTRA).glob("*.json")]
        found = [Extra(**json.loads(path.read_text("utf-8")), png=png.read_bytes()) for path, png in pairs if png.is_file()]
        return sorted(found, key=lambda each: (each.order, each.section, each.title))

    @property
    def stored(self) -> bool:
        """Whether the predictions come from a table of another package, which has seen the images itself."""
        return "card" not in self.about["model"] and bool(self.about["model"].get("sha256"))

    @property
    def title(self) -> str:
        """Model and dataset, for headings."""
        model, data = self.about["model"], self.about["dataset"]
        output = f", output {model['output']}" if model.get("output") not in ("", "scores", None) else ""
        return f"{model['name']}{output} on {data['name']} {data['split']}"

    def add_image(self, section: str, title: str, png: bytes, note: str = "") -> None:
        """Add an image to the report, such as a t-SNE plot, under the heading `section`, with a title and a caption.

        It is stored with its texts in `figures/extra`; one of the same section and title is replaced. Raises ConfigError if the
        disk is full or the folder is not writable, ValueError if the bytes are not a PNG file.
        """
        if not png.startswith(PNG):
            raise ValueError(f"the image {title!r} is not a PNG file: it begins with {png[:8]!r}")
        known = self.extra
        same = [each.order for each in known if (each.section, each.title) == (section, title)]
        order = same[0] if same else max((each.order for each in known), default=0) + 1
        stem = hashlib.blake2b(f"{section}\0{title}".encode(), digest_size=8).hexdigest()
        about = {"section": section, "title": title, "note": note, "order": order}
        for suffix, content in (("png", png), ("json", json.dumps(about, ensure_ascii=False).encode())):
            write_file(self.folder / EXTRA / f"{stem}.{suffix}", content)

    @staticmethod
    def require_page() -> None:
        """Raise MissingExtra early if jinja2 or matplotlib is not installed."""
        environment(autoescape=True)
        require_matplotlib()

    def html(self) -> str:
        """Return the page, without scripts or network access; raises MissingExtra without jinja2 or matplotlib."""
        figures, confusion = self.figures, None
        if "confusion" in figures:
            columns, counts = shown_columns(figures["classes"], np.array(figures["confusion"]))
            confusion = {"columns": columns, "rows": dict(zip(figures["classes"], counts.tolist(), strict=True))}
        extra: dict[str, list[Extra]] = {}
        for image in self.extra:
            extra.setdefault(image.section, []).append(image)
        templates = environment(autoescape=True, figure=decimal, percent=percent, plain=_plain, image=data_uri)
        return templates.get_template("report.html").render(
            title=self.title,
            figures=figures,
            about=self.about,
            headline=HEADLINE,
            confusion=confusion,
            drawings={name: inline_svg(self, name, says) for name, says in FIGURES.items()},
            mistakes=self._mistakes(),
            extra=extra,
            units_of=CUTS,
            command=shlex.join(self.about["command"]),
            facts=_facts,
        )

    def write(self, *, page: bool = True) -> None:
        """Write `metrics.json`, and if `page` is set `report.html` and `figures/`.

        Raises ConfigError if the disk is full or the folder is not writable, MissingExtra without jinja2 or matplotlib.
        """
        model, data = self.about["model"], self.about["dataset"]
        about = {
            **{key: model.get(key) for key in ("name", "version", "sha256", "output")},
            "dataset": data["name"],
            **{key: data[key] for key in ("split", "protocol", "digest", "flaws")},
            "views": len(self.about["identity"]["views"]),
            "mapping": self.about["mapping"]["says"],
        }
        text = json.dumps({"about": about, **self.figures}, indent=1, ensure_ascii=False)
        write_file(self.folder / METRICS, text + "\n", errors="backslashreplace")
        if page:
            write_figures(self)
            write_file(self.folder / PAGE, self.html(), errors="backslashreplace")

    def _mistakes(self) -> list[dict[str, Any]]:
        table = self.predictions
        row_of = {name: row for row, name in enumerate(table.sample.tolist())}
        found = []
        for each in self.about.get("mistakes", ()):
            path, row = self.folder / each["file"], row_of.get(each["sample"])
            if row is not None and path.is_file():
                facts = {"content": path.read_bytes(), "sample": each["sample"], "label": str(table.label[row])}
                predicted = table.classes[table.predicted[row]]
                found.append(facts | {"predicted": predicted, "confidence": f"{table.confidence[row]:.0%}"})
        return found


def environment(*, autoescape: bool, **filters: Callable[..., str]) -> "jinja2.Environment":
    """Return the environment of the package's templates; raises MissingExtra without jinja2."""
    with needs("eval", "jinja2"):
        import jinja2

    options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    loader = jinja2.FileSystemLoader(ASSETS / "templates")
    found = jinja2.Environment(loader=loader, autoescape=autoescape, keep_trailing_newline=not autoescape, **options)
    found.filters |= filters
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
