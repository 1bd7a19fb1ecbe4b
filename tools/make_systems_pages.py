"""Write the figures and the recipes of each published system into its page in docs/systems, and the overview.

A page asks with `<!-- figures: MODEL… -->` or `<!-- recipes: MODEL… -->` and `<!-- end -->`. Published figures, and the recipes
of each, come from `mien.models.info`, ours from the rows of results/*.csv whose model bears the name of such a recipe; where
there is none, the table says so. No figure is typed.

python tools/make_systems_pages.py [--check]
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from docstrings import cell
from mien import models
from mien.evaluation.compare.rows import read_rows
from mien.models import Figure
from mien.training.config import TrainConfig
from pages import rewrite_or_check, table

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "systems"
PLACE = re.compile(r"(<!-- (figures|recipes|overview)(?:: (.+?))? -->\n).*?(<!-- end -->)", re.DOTALL)

DATASETS = {
    "FER2013": "fer2013", "RAF-DB": "rafdb", "FERPlus": "ferplus", "AffectNet-7": "affectnet7", "AffectNet-8": "affectnet8",
    "CK+ (10 folds by image)": "ckplus", "s-Aff-Wild2 validation": "affwild2",
}  # fmt: skip
"""Dataset as its authors call it → ours; what is missing here, no row of ours can be compared with."""

METRICS = {
    "accuracy %": ("accuracy", 100), "balanced accuracy %": ("uar", 100), "CCC valence": ("ccc_valence", 1),
    "CCC arousal": ("ccc_arousal", 1), "macro-F1 expressions": ("macro_f1", 1), "mean F1 action units": ("au_f1", 1),
    "P": ("abaw_p", 1),
}  # fmt: skip
"""Metric as published → column of results/*.csv and factor."""

NOT_RUN = "not run yet"
SYSTEMS = {
    "dda": ("dda-resnet34", "dda-resnet50", "resnet34", "resnet50"),
    "global-roi": ("global-roi", "global-cbam"),
    "ddamfn-mtl": ("ddamfn", "ddamfn-mtl"),
    "dan-efficientnet": ("dan", "efficientnet-b3"),
    "mfer": ("mfer",),
}
"""Page → the architectures it is about."""


@functools.cache
def recipes() -> dict[str, TrainConfig]:
    """Return every recipe by name."""
    return {path.stem: TrainConfig.load(path) for path in sorted((ROOT / "recipes").glob("*.toml"))}


@functools.cache
def measured() -> tuple[tuple[str, dict[str, str]], ...]:
    """Return (recipe, row) for each row of results/*.csv whose model is what a recipe trained."""
    rows = [row for path in sorted((ROOT / "results").glob("*.csv")) for row in read_rows(path)]
    return tuple((row["model"], row) for row in rows if row["model"] in recipes())


def figures(names: Sequence[str]) -> str:
    """Return published figures beside ours, and what reduced runs here gave."""
    parts = []
    rows = [_figure(name, figure) for name in names for figure in models.info(name).published]
    parts.append(table(("network", "data", "metric", "published", "ours", "recipes", "remark on the published figure"), rows))
    parts += [f"Published figures of {_listed(of)}: {source}." for source, of in _sources(names).items()]
    parts.append(
        "Runs of these networks on this project's own machine, not comparable with the above where a recipe is reduced:"
    )
    runs = [_run(recipe, row) for recipe, row in measured() if recipes()[recipe].model.name in names and _reduced(recipe)]
    head = ("recipe", "data", "protocol", "accuracy %", "UAR %", "macro-F1 %", "P")
    parts.append(table(head, sorted(runs)) if runs else f"{NOT_RUN.capitalize()}.")
    return "\n\n".join(parts)


def recipes_of(names: Sequence[str]) -> str:
    """Return what each recipe of these networks is."""
    chosen = [(name, config) for name, config in recipes().items() if config.model.name in names]
    rows = [
        (f"[`{name}`](../../recipes/{name}.toml)", cell(config.about), cell("; ".join(config.flaws)) or "–")
        for name, config in sorted(chosen, key=lambda each: (names.index(each[1].model.name), each[0]))
    ]
    return table(("recipe", "what it takes and what it changes", "flaws"), rows)


def overview(names: Sequence[str]) -> str:
    """Return one line for each architecture: best published figures, and how many of them were repeated here."""
    rows = []
    for page, architectures in SYSTEMS.items():
        for name in architectures:
            info = models.info(name)
            cells = [_figure(name, figure)[4] for figure in info.published]
            done = sum(text not in (NOT_RUN, "–") for text in cells)
            rows.append((f"[`{name}`]({page}.md)", cell(info.summary), cell(info.repository), f"{done} of {len(cells)}"))
    return table(("network", "what it is", "code that was read", "published figures run here"), rows)


def _figure(name: str, figure: Figure) -> tuple[str, ...]:
    fitting = () if isinstance(figure.recipes, str) else figure.recipes
    column, factor = METRICS[figure.metric]
    ours = [
        f"{factor * float(row[column]):.{2 if factor == 100 else 3}f} (`{recipe}`)"
        for recipe, row in measured()
        if recipe in fitting
        and row[column]
        and row["dataset"] == DATASETS.get(figure.dataset) == recipes()[recipe].data[0].dataset
    ]
    shown = ", ".join(f"[`{recipe}`](../../recipes/{recipe}.toml)" for recipe in fitting)
    value = f"{figure.value:.2f}" if factor == 100 else f"{figure.value:.3f}"
    return (
        f"`{name}`",
        cell(figure.dataset),
        figure.metric,
        value,
        "; ".join(ours) or NOT_RUN,
        shown or f"none: {cell(str(figure.recipes))}",
        cell(figure.note) or "–",
    )


def _reduced(recipe: str) -> bool:
    """Return whether a recipe is one of our own, made smaller, and not a published system's."""
    return recipe.rpartition("-")[2] not in ("author", "paper", "mien")


def _run(recipe: str, row: dict[str, str]) -> tuple[str, ...]:
    shown = [f"{100 * float(row[name]):.1f}" if row[name] else "–" for name in ("accuracy", "uar", "macro_f1")]
    protocol = "leak-free" if row["protocol"].startswith("clean:") else row["protocol"]
    return (
        f"[`{recipe}`](../../recipes/{recipe}.toml)",
        f"{row['dataset']} {row['split']}",
        protocol,
        *shown,
        row["abaw_p"] or "–",
    )


def _sources(names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(models.info(name).source, []).append(name)
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


WRITERS: dict[str, Callable[[Sequence[str]], str]] = {"figures": figures, "recipes": recipes_of, "overview": overview}


def page(path: Path) -> str:
    """Return a page as it should be."""
    return PLACE.sub(
        lambda found: f"{found[1]}\n{WRITERS[found[2]]((found[3] or '').split())}\n\n{found[4]}",
        path.read_text(encoding="utf-8"),
    )


def main() -> int:
    """Bring the pages up to date, or with --check say whether they are."""
    return rewrite_or_check({path: page(path) for path in sorted(FOLDER.glob("*.md"))}, __doc__, "results/")


if __name__ == "__main__":
    sys.exit(main())
