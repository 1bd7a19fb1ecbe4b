"""Measure the bundled classifiers: results/mien.csv, results/peers.csv, and in results/groups and results/robustness.

    python tools/measure_bundled.py --data ../shared/data --peers out/peers

`--peers` is a folder that `tools/run_peers.py` filled for FER2013 and for London. Generated pages follow by `make pages`, the
golden scores of the tests by `tools/make_golden_scores.py`.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mien import cards

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("mien-base", "mien-nano")
CLEAN = "clean:results/fer2013.clean.json"
FOLDERS = {"fer2013": "fer2013", "ferplus": "fer2013", "london": "london"}
"""Dataset → its folder in `--data`."""
MEASURED = (
    ("scores", "fer2013", ""),
    ("scores", "fer2013", CLEAN),
    ("fer2013", "fer2013", ""),
    ("fer2013", "fer2013", CLEAN),
    ("ferplus", "ferplus", ""),
    ("scores", "london", ""),
)
"""Head, dataset and protocol of each row of results/mien.csv; no protocol: the dataset's own."""
DEGRADED = (
    ("lfw", "csv", "lfw_expressions/labels.csv", ("--split", "validation")),
    ("london", "london", "london", ()),
)
"""Name, dataset, root and options of each table in results/robustness."""
GROUPED = MEASURED.index(("scores", "london", ""))
"""Which of these knows groups of people."""
GROUPS = ("model", "version", "dataset", "group", "value", "against", "n", "accuracy", "low", "high", "date", "commit")
"""Columns of results/groups/london.csv: a row for each value of a group, and one for the gap between best and worst."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of fer2013/ and london/")
    parser.add_argument("--out", type=Path, default=ROOT / "out/measured", help="folder of the evaluations")
    parser.add_argument("--peers", type=Path, help="folder of other packages' answers; without it results/peers.csv stays")
    parser.add_argument("--only", nargs="*", default=MODELS, choices=MODELS, help="classifiers to measure; peers.csv has all")
    parser.add_argument("--no-robustness", action="store_true", help="leave results/robustness as it is")
    args = parser.parse_args()
    roots = {name: (args.data / folder).resolve() for name, folder in FOLDERS.items()}
    for model in args.only:
        for number, (head, data, protocol) in enumerate(MEASURED):
            where = ("--dataset", data, "--root", roots[data], "--out", args.out / f"{model}-{number}")
            how = ("--output", head, "--no-page", "--overwrite", *(("--protocol", protocol) if protocol else ()))
            call("evaluate", model, *where, *how, "--results", "results/mien.csv")
        for name, data, root, options in () if args.no_robustness else DEGRADED:
            where = ("--dataset", data, "--root", (args.data / root).resolve(), *options)
            call("robustness", model, *where, "--out", f"results/robustness/{model}-{name}.csv")
    forget_older(ROOT / "results/mien.csv")
    write_groups(args.out, args.only)
    if args.peers:
        for data, protocols in (("fer2013", ("", f"@{CLEAN}")), ("london", ("",))):
            files = sorted(args.peers.resolve().glob(f"{data}-*.npz"))
            peers = [f"peer:{path.stem.removeprefix(f'{data}-')}={path}" for path in files]
            heads = [f"{model}@{head}" for model in MODELS for head in ("scores", "fer2013")]
            where = [f"--dataset={data}{protocol}" for protocol in protocols]
            where += ["--root", roots[data], "--out", args.out / f"peers-{data}", "--overwrite"]
            call("compare", *heads, *peers, *where, "--results", "results/peers.csv")
        forget_older(ROOT / "results/peers.csv")


def write_groups(out: Path, measured: Sequence[str]) -> None:
    """Bring the rows of these classifiers in results/groups/london.csv up to date."""
    table = ROOT / "results/groups/london.csv"
    rows = [row for row in _rows(table) if row["model"] not in measured] if table.exists() else []
    rows += [row for model in measured for row in groups_of(out / f"{model}-{GROUPED}")]
    table.parent.mkdir(exist_ok=True)
    _write(table, GROUPS, sorted(rows, key=lambda row: row["model"]))


def groups_of(evaluation: Path) -> Iterator[dict[str, str]]:
    """Yield what an evaluation says of groups: accuracies, then the gap between the best and the worst."""
    figures, about = (json.loads((evaluation / f"{name}.json").read_text()) for name in ("metrics", "evaluation"))
    told = {
        "model": about["model"]["name"],
        "version": about["model"]["version"],
        "dataset": about["dataset"]["name"],
        "date": about["environment"]["date"],
        "commit": about["environment"]["commit"],
    }
    for name, group in figures["groups"].items():
        values = [(value, "", each["n"], each["accuracy"]) for value, each in group["values"].items()]
        if gap := group.get("gap"):
            values.append((gap["best"], gap["worst"], "", gap["accuracy"]))
        for value, against, n, found in values:
            row = {key: f"{found[of]:.4f}" for key, of in (("accuracy", "value"), ("low", "low"), ("high", "high"))}
            yield told | {"group": name, "value": value, "against": against, "n": str(n)} | row


def forget_older(table: Path) -> None:
    """Take the rows of bundled classifiers out of a table that are of another version than the one that ships."""
    versions = {model: str(cards.load(model).version) for model in MODELS}
    rows = _rows(table)
    _write(table, rows[0], [row for row in rows if row["version"] == versions.get(row["model"], row["version"])])


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write(table: Path, columns: Iterable[str], rows: Iterable[Mapping[str, str]]) -> None:
    part = table.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(table)


def call(*arguments: object) -> None:
    """Run `mien …`."""
    print("mien", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "mien", *map(str, arguments)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
