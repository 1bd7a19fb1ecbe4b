"""The report of an evaluation: metrics, figures and a page, computed from `predictions.csv` and `evaluation.json`.

report = Report.read("out/fer2013")
report.figures["official"]["accuracy"]["value"]
report.add_image("Grad-CAM", "surprise", png, "evidence of the network")
report.write()                                   # metrics.json, report.html, figures/
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ...io.files import write_file
from ...visualization.plotting import require_matplotlib
from .metrics import measure
from .predictions import Predictions, read_predictions

__all__ = ["EVALUATION", "PREDICTIONS", "Report"]

PREDICTIONS = "predictions.csv"
EVALUATION = "evaluation.json"
METRICS = "metrics.json"
PAGE = "report.html"
EXTRA = "figures/extra"
PNG = b"\x89PNG\r\n\x1a\n"


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
        from . import html  # noqa: F401

        require_matplotlib()

    def html(self) -> str:
        """Return the self-contained page; raises MissingExtra without jinja2 or matplotlib."""
        from .html import page

        return page(self)

    def write(self, *, page: bool = True) -> None:
        """Write `metrics.json`, and if `page` is set `report.html` and `figures/`.

        Raises ConfigError if the disk is full or the folder is not writable, MissingExtra without jinja2 or matplotlib.
        """
        text = json.dumps({"about": self._headline(), **self.figures}, indent=1, ensure_ascii=False)
        write_file(self.folder / METRICS, text + "\n", errors="backslashreplace")
        if page:
            from .plots import write_figures

            write_figures(self)
            write_file(self.folder / PAGE, self.html(), errors="backslashreplace")

    def _headline(self) -> dict[str, Any]:
        model, data = self.about["model"], self.about["dataset"]
        return {
            **{key: model.get(key) for key in ("name", "version", "sha256", "output")},
            "dataset": data["name"],
            **{key: data[key] for key in ("split", "protocol", "digest", "flaws")},
            "views": len(self.about["identity"]["views"]),
            "mapping": self.about["mapping"]["says"],
        }
