"""Tables of results from `results/*.csv`, `benchmarks/*.csv`, the cards and the recipes.

In `docs/` they are built with the site, at `<!-- generate: NAME ARGUMENTS -->`. In README.md they are committed between
`<!-- NAME: ARGUMENTS -->` and `<!-- end -->`, and `tools/generate.py` keeps them up to date. No figure is typed.

| name | arguments | table |
|---|---|---|
| results | FILE [DATASET …] | all metrics, a row for each evaluation |
| side-by-side | FILE [DATASET …] | accuracy alone: models down, datasets and protocols across |
| robustness | FILE … | cost of each corruption, a column for each file |
| tasks | FILE | valence, arousal, expressions and action units |
| groups | FILE | accuracy by group of people, and the largest gaps |
| card | MODEL | the test metrics of a model card |
| int8 | FILE | accuracy, size and speed of 8-bit files |
| photos | FILE [SET …] | accuracy on photographs, end to end |
| csv | FILE | any other file as it is |
| curves | | learning curves of the runs in docs/images/runs |
| figures, recipes-of | ARCHITECTURE … | published and measured figures; recipes |
| overview | | every published system in one line |
| trained | MODEL … | systems trained on FER2013: PrivateTest, FERPlus, minutes |
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Callable
from pathlib import Path

from docs import cell, join, table
from mien import cards, models
from mien.evaluation.compare.tables import read_rows
from mien.models import Figure
from mien.training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
PLACE = re.compile(r"(<!-- ([\w-]+): ([^\n]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
Row = dict[str, str]

DATASETS = {
    "FER2013": "fer2013", "RAF-DB": "rafdb", "FERPlus": "ferplus", "AffectNet-7": "affectnet7", "AffectNet-8": "affectnet8",
    "CK+ (10 folds by image)": "ckplus", "s-Aff-Wild2 validation": "affwild2",
}  # fmt: skip
"""Dataset in the words of the authors → ours. Figures on other datasets have no counterpart of ours."""

METRICS = {
    "accuracy %": ("accuracy", 100), "balanced accuracy %": ("uar", 100), "CCC valence": ("ccc_valence", 1),
    "CCC arousal": ("ccc_arousal", 1), "macro-F1 expressions": ("macro_f1", 1), "mean F1 action units": ("au_f1", 1),
    "P": ("abaw_p", 1),
}  # fmt: skip
"""Published metric → column of results/*.csv and factor."""

NOT_RUN = "not run yet"
SYSTEMS = {
    "dda": ("dda-resnet34", "dda-resnet50", "resnet34", "resnet50"),
    "global-roi": ("global-roi", "global-cbam"),
    "ddamfn-mtl": ("ddamfn", "ddamfn-mtl"),
    "dan-efficientnet": ("dan", "efficientnet-b3"),
    "mfer": ("mfer",),
    "poster": ("poster",),
}
"""Page of `docs/systems` → architectures."""


def results(name: str, *datasets: str) -> str:
    """Return the rows of a results file with all metrics."""
    rows = _rows(name, datasets)
    tested = any(row["p"] for row in rows)
    lines = []
    for row in sorted(rows, key=lambda row: (row["dataset"], row["split"], _protocol(row), -float(row["accuracy"]))):
        views = "" if row["views"] == "1" else f", {row['views']}{' views' * row['views'].isdigit()}"
        cells = [f"{row['dataset']} {row['split']}", _protocol(row), _model(row) + views, _accuracy(row)]
        cells += [_difference(row)] if tested else []
        cells += [
            _percent(row, "uar"),
            _percent(row, "macro_f1"),
            _plain(row["nll"]),
            _plain(row["ece"]),
            f"{int(row['n']):,}",
            row["date"],
        ]
        lines.append(cells)
    against = ["against the reference"] if tested else []
    return table(["data", "protocol", "model", "accuracy", *against, "UAR", "macro-F1", "NLL", "ECE", "n", "measured"], lines)


def side_by_side(name: str, *datasets: str) -> str:
    """Return the accuracies of a results file, the best of each column in bold."""
    cells = {(_model(row), (row["dataset"], row["split"], _protocol(row))): row for row in _rows(name, datasets)}
    columns = sorted({column for _, column in cells})
    value = {place: float(row["accuracy"]) for place, row in cells.items()}
    order = sorted({model for model, _ in cells}, key=lambda model: -sum(value.get((model, c), 0.0) for c in columns))
    best = {column: max(value.get((model, column), 0.0) for model in order) for column in columns}
    lines = []
    for model in order:
        texts = [
            (_accuracy(cells[model, c]), value[model, c] == best[c]) if (model, c) in cells else ("–", False) for c in columns
        ]
        lines.append([model, *(f"**{text}**" if first else text for text, first in texts)])
    return table(["model", *(f"{dataset} {split}, {protocol}" for dataset, split, protocol in columns)], lines)


def robustness(*names: str) -> str:
    """Return the cost of each corruption: corruptions down, files of `mien robustness` across."""
    files = [{row["name"]: row for row in _records(name)} for name in names]
    first = {name: row for rows in reversed(files) for name, row in rows.items()}
    clean = [next(iter(rows.values())) for rows in files]  # the first row is that of the unchanged images
    head = ["corruption", "severity", *("{model} on {data}, {faces} faces".format(**row) for row in clean)]
    lines = [
        [
            name.replace("tight to loose", "probabilities, tight to loose"),
            row["strength"],
            *(_cost(rows.get(name)) for rows in files),
        ]
        for name, row in first.items()
    ]
    return table(head, lines)


def _cost(row: Row | None) -> str:
    if row is None:
        return "–"
    if not row["accuracy"]:
        return f"moved by {float(row['moved']):.3f}"
    if not row["strength"]:
        return f"{100 * float(row['accuracy']):.1f} %"
    return "{:+.1f} ({:+.1f} … {:+.1f})".format(*(100 * float(row[key]) for key in ("change", "low", "high")))


def tasks(name: str, *datasets: str) -> str:
    """Return the metrics of multi-task networks, the best P first."""
    keys = {
        "ccc_valence": "CCC valence",
        "ccc_arousal": "CCC arousal",
        "macro_f1": "macro-F1 expressions",
        "au_f1": "mean F1 action units",
        "abaw_p": "P",
    }
    lines = [
        [
            f"{row['dataset']} {row['split']}",
            row["model"],
            *(f"{float(row[key]) + 0:.3f}" for key in keys),
            f"{int(row['n']):,}",
        ]
        for row in sorted(_rows(name, datasets), key=lambda row: -float(row["abaw_p"]))
    ]
    return table(["data", "model", *keys.values(), "n"], lines)


def groups(name: str) -> str:
    """Return the accuracy for groups of people, and the gap between the best and the worst of each kind."""
    rows, lines = [row | {"text": _percent(row, "accuracy", "")} for row in _records(name)], []
    for group, model in sorted({(row["group"], row["model"]) for row in rows}):
        those = [row for row in rows if (row["group"], row["model"]) == (group, model)]
        values = [f"{row['value']}: {row['text']} of {row['n']}" for row in those if not row["against"]]
        gaps = [f"{row['text']}, {row['value']} against {row['against']}" for row in those if row["against"]]
        lines.append([group, model, "; ".join(values).replace("_", " "), "; ".join(gaps).replace("_", " ") or "–"])
    return table(["group", "model", "accuracy", "largest gap"], lines)


def card(name: str) -> str:
    """Return the test metrics of a bundled model's card."""
    lines = [
        [row.dataset, row.metric, f"{row.value:.3f}", _interval(row.low, row.high), f"{row.n:,}", row.note]
        for row in cards.load(name).measured
        if row.split == "test"
    ]
    return table(["data, test split", "metric", "value", "95 % interval", "n", "output and protocol"], lines)


def int8(name: str) -> str:
    """Return accuracy, size and speed of 8-bit files beside their sources."""
    lines = []
    for row in _records(f"../benchmarks/{name}"):
        low, high, before, after = (100 * float(row[f"accuracy{end}"]) for end in ("_low", "_high", "", "_int8"))
        whole, small = float(row["speed_onnx"]), float(row["speed_int8"])
        lines.append([
            row["architecture"] + (f", `--keep {row['keep']}`" if row["keep"] else ""),
            f"{before:.2f} ({low:.1f} … {high:.1f})", f"{after:.2f}", row["lost"] + " (refused)" * (row["refused"] == "yes"),
            f"{float(row['ece']):.3f}, {float(row['ece_int8']):.3f}", f"{row['mb']}, {row['mb_int8']}",
            f"{whole:.1f} ×", f"{small:.1f} ×", f"{small / whole:.1f} ×", f"{int(row['n']):,}",
        ])  # fmt: skip
    speeds = ["fp32 file / torch", "int8 file / torch", "int8 / fp32"]
    return table(["network", "fp32, %", "int8, %", "points lost", "ECE", "MB", *speeds, "n"], lines)


def plain(name: str) -> str:
    """Return a CSV file as it is."""
    rows = _records(name)
    return table(list(rows[0]), [list(row.values()) for row in rows])


def curves() -> str:
    """Return the learning curves of every run, as images."""
    names = sorted(path.stem for path in (ROOT / "docs" / "images" / "runs").glob("*.png"))
    return table(
        ["recipe", "learning curves"],
        [[f"[`{name}`](../recipes/{name}.toml)", f"![Loss and metrics by epoch](images/runs/{name}.png)"] for name in names],
    )


@functools.cache
def _recipes() -> dict[str, TrainConfig]:
    return {path.stem: TrainConfig.load(path) for path in sorted((ROOT / "recipes").glob("*.toml"))}


@functools.cache
def _measured() -> tuple[tuple[str, Row], ...]:
    """Return (recipe, row) for each row of results/*.csv whose model was trained by a recipe."""
    # The benchmark of photographs has columns of its own.
    files = sorted({*(ROOT / "results").glob("*.csv")} - {ROOT / "results/photos.csv"})
    rows = [row for path in files for row in read_rows(path)]
    return tuple((row["model"], row) for row in rows if row["model"] in _recipes())


def figures(*names: str) -> str:
    """Return published figures beside ours, and the results of reduced runs."""
    rows = [_figure(name, figure) for name in names for figure in models.info(name).published]
    sources: dict[str, list[str]] = {}
    for name in names:
        sources.setdefault(models.info(name).source, []).append(f"`{name}`")
    runs = [
        [
            _link(name),
            f"{row['dataset']} {row['split']}",
            _protocol(row),
            *(_share(row[key]) for key in ("accuracy", "uar", "macro_f1")),
            row["abaw_p"] or "–",
        ]
        for name, row in _measured()
        if _recipes()[name].model.name in names and name.rpartition("-")[2] not in ("author", "paper", "mien")
    ]
    return join(
        table(("network", "data", "metric", "published", "ours", "recipes", "note on the published figure"), rows),
        *(f"Published figures of {', '.join(of)}: {source}." for source, of in sources.items()),
        "Reduced runs of these networks on this project's machine, not comparable with the table above:",
        table(("recipe", "data", "protocol", "accuracy %", "UAR %", "macro-F1 %", "P"), sorted(runs))
        if runs
        else "Not run yet.",
    )


def _figure(name: str, figure: Figure) -> tuple[str, ...]:
    fitting = () if isinstance(figure.recipes, str) else figure.recipes
    column, factor = METRICS[figure.metric]
    ours = [
        f"{factor * float(row[column]):.{2 if factor == 100 else 3}f} (`{recipe}`)"
        for recipe, row in _measured()
        if recipe in fitting
        and row[column]
        and row["dataset"] == DATASETS.get(figure.dataset) == _recipes()[recipe].data[0].dataset
    ]
    value = f"{figure.value:.2f}" if factor == 100 else f"{figure.value:.3f}"
    shown = ", ".join(map(_link, fitting)) or f"none: {cell(str(figure.recipes))}"
    return f"`{name}`", cell(figure.dataset), figure.metric, value, "; ".join(ours) or NOT_RUN, shown, cell(figure.note) or "–"


def recipes_of(*names: str) -> str:
    """Return the recipes of some architectures."""
    chosen = [(names.index(each.model.name), name, each) for name, each in _recipes().items() if each.model.name in names]
    rows = [
        (_link(name), cell(each.about), cell("; ".join(each.flaws)) or "–")
        for _, name, each in sorted(chosen, key=lambda c: c[:2])
    ]
    return table(("recipe", "contents and changes", "flaws"), rows)


def overview() -> str:
    """Return one line for each architecture of a published system."""
    rows = []
    for page, architectures in SYSTEMS.items():
        for name in architectures:
            info = models.info(name)
            done = sum(_figure(name, figure)[4] != NOT_RUN for figure in info.published)
            rows.append(
                (f"[`{name}`]({page}.md)", cell(info.summary), cell(info.repository), f"{done} of {len(info.published)}")
            )
    return table(("network", "summary", "reference code", "published figures repeated here"), rows)


def trained(*names: str) -> str:
    """Return the accuracy of systems trained on FER2013 on each test set, and what the zoo knows of their training."""
    zoo = {str(each.training.get("recipe", each.name)): (name, each) for name, each in cards.zoo().items()}
    rows = [row for file in ("fer2013", "lfw", "mien") for row in read_rows(ROOT / f"results/{file}.csv")]
    lines = []
    for name in names:
        shown, known = zoo.get(name, ("", None))
        found: dict[tuple[str, ...], Row] = {}
        # The file of the zoo where the run itself was not measured; a head of its own before the classes of another.
        for row in sorted(rows, key=lambda row: (row["model"] == name, row["output"] != "scores")):
            if row["model"] == name or (known and row["model"] == known.name):
                key = (row["dataset"], _protocol(row), row["views"])
                if row["dataset"] == "fer2013" or row["output"] != "scores":
                    found[key] = row
        lines.append([
            (_link(name) if name in _recipes() else f"`{name}`") + (f", `{shown}`" if known else ""),
            *(_percent(found[key], "accuracy") if key in found else "–" for key in TRAINED.values()),
            f"{float(known.training['minutes']):.0f}" if known and "minutes" in known.training else "–",
        ])  # fmt: skip
    return table(["recipe, file of the zoo", *TRAINED, "minutes"], lines)


TRAINED = {
    "PrivateTest": ("fer2013", "official", "1"),
    "leak-free": ("fer2013", "leak-free", "1"),
    "with mirror image": ("fer2013", "official", "2"),
    "ten crops": ("fer2013", "official", "ten-crop"),
    "FERPlus test": ("ferplus", "official", "1"),
    "LFW validation": ("csv", "official", "1"),
}
"""Column of `trained` → dataset, protocol and views."""


def _rows(name: str, datasets: tuple[str, ...]) -> list[Row]:
    return [row for row in read_rows(ROOT / "results" / name) if not datasets or row["dataset"] in datasets]


def _records(name: str) -> list[Row]:
    with (ROOT / "results" / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _link(recipe: str) -> str:
    return f"[`{recipe}`](../../recipes/{recipe}.toml)"


def _model(row: Row) -> str:
    return row["model"] + (f", output {row['output']}" if row["output"] not in ("", "scores") else "")


def _protocol(row: Row) -> str:
    return "leak-free" if row["protocol"].startswith("clean:") else row["protocol"]


def _percent(row: Row, name: str, ends: str | None = None) -> str:
    ends = f"{name}_" if ends is None else ends
    low, high = (f"{100 * float(row[f'{ends}{end}']):.1f}" for end in ("low", "high"))
    return f"{100 * float(row[name]):.1f} ({low}\N{NO-BREAK SPACE}…\N{NO-BREAK SPACE}{high})"


def _accuracy(row: Row) -> str:
    return _percent(row, "accuracy") + (_stars(row["p"]) if row["p"] else "")


def _difference(row: Row) -> str:
    if not row["difference"]:
        return ""
    low, high = (100 * float(row[f"difference_{end}"]) for end in ("low", "high"))
    return f"{100 * float(row['difference']):+.1f} ({low:+.1f} … {high:+.1f})"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} … {high:.3f}"


def _share(text: str) -> str:
    return f"{100 * float(text):.1f}" if text else "–"


def _stars(p: str) -> str:
    return "\\*" * sum(float(p) < level for level in (0.05, 0.01, 0.001))


def _plain(text: str) -> str:
    return f"{float(text):.3f}" if text not in ("", "nan") else "–"


def photos(name: str, *sets: str) -> str:
    """Return the end-to-end accuracy on photographs, the best first, of some sets or all; `default`: default settings only."""
    with (ROOT / name).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["accuracy"]]
    if "default" in sets:
        rows = [row for row in rows if row["output"] in ("scores", "") and row["detector"] in ("blazeface", "its own")]
    if wanted := {*sets} - {"default"}:
        rows = [row for row in rows if row["set"] in wanted]
    lines = []
    for row in sorted(rows, key=lambda row: (row["set"], -float(row["accuracy"]))):
        model = f"{row['model']} {row['version']}".strip() + (f", output {row['output']}" if row["output"] else "")
        cells = [
            row["set"],
            model,
            row["detector"],
            _percent(row, "accuracy"),
            _share(row["uar"]),
            _share(row["neutral_recall"]),
        ]
        lines.append([*cells, _plain(row["ece"]), row["missed"], f"{float(row['ms']):.0f}", f"{int(row['n']):,}"])
    return table(["images", "model", "detector", "accuracy %", "UAR %", "neutral %", "ECE", "no face", "ms", "n"], lines)


TABLES: dict[str, Callable[..., str]] = {
    "results": results, "side-by-side": side_by_side, "robustness": robustness, "tasks": tasks, "groups": groups, "card": card,
    "int8": int8, "photos": photos, "csv": plain, "curves": curves, "figures": figures, "recipes-of": recipes_of,
    "overview": overview, "trained": trained,
}  # fmt: skip


def fill(text: str) -> str:
    """Return a page with its committed tables up to date."""
    return PLACE.sub(lambda found: f"{found[1]}{TABLES[found[2]](*found[3].split())}\n{found[4]}", text)
