"""`mien datasets`: supported datasets, and the content of a folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import Parameter

from ..data.datasets import DATASETS, Dataset, Reader, reader
from .options import Place
from .terminal import Json, for_programs, note, print_grid, print_rows, split_table, table_console, write_json


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Folder(Place):
    """Location of a dataset, if one is read."""

    root: Path | None = None  # pyrefly: ignore - without it nothing is read
    """Folder of the dataset; its layout is detected."""


def datasets(*names: str, place: Folder = Folder(), json: Json = False) -> None:
    """List the supported datasets; with --root, read one and count its images.

    Examples:
        mien datasets
        mien datasets rafdb
        mien datasets fer2013 --root data/fer2013
        mien datasets ferplus --root data/fer2013 --option mode=probability
        mien datasets csv --root lists/faces.csv --images photos

    Args:
        names: Datasets to describe in full.
    """
    readers = [reader(name) for name in names or DATASETS]
    if place.root is not None:
        for known in readers:
            whole = known.open(place.root, "all", place.protocol, damaged=place.damaged, options=place.options)
            _print_contents(known, whole, json=json)
    elif for_programs(json):
        for known in readers:
            write_json(_to_dict(known))
    elif names:
        for known in readers:
            _print_reader(known)
    else:
        columns = ("name", "classes", "dataset", "protocols")
        rows = [(known.name, str(len(known.labels) or "–"), known.title, ", ".join(known.protocols)) for known in readers]
        print_rows(columns, rows, text={*columns} - {"classes"}, no_wrap=("name",))
        table_console().print("\nDetails: mien datasets NAME. Content of a folder: mien datasets NAME --root DIR.", style="dim")


def _print_reader(known: Reader) -> None:
    rows = {
        "name": f"{known.name}: {known.title}",
        "labels": ", ".join(known.labels) or "as in the files",
        "layouts": "\n".join(f"{each.name}: {' and '.join(each.marks)}" for each in known.layouts),
        **{f"protocol {name}": "\n! ".join((each.says, *each.flaws)) for name, each in known.protocols.items()},
        **{f"option {name}": f"{o.says}: {'|'.join(o.choices) or 'any text'}" for name, o in known.options.items()},
        "source": known.obtain,
    }
    print_grid(rows)


def _to_dict(known: Reader) -> dict[str, Any]:
    return {
        "name": known.name,
        "title": known.title,
        "labels": known.labels,
        "layouts": {entry.name: entry.marks for entry in known.layouts},
        "protocols": {name: {"says": entry.says, "flaws": entry.flaws} for name, entry in known.protocols.items()},
        "options": {name: {"says": option.says, "choices": option.choices} for name, option in known.options.items()},
        "published": dict(known.published),
        "obtain": known.obtain,
    }


def _print_contents(known: Reader, whole: Dataset, *, json: bool) -> None:
    splits = known.deal(whole)
    if for_programs(json):
        for name, data in splits.items():
            facts = {"split": name, "images": len(data), "classes": data.counts, "digest": data.digest}
            about = {"dataset": data.name, "layout": data.layout, "protocol": data.protocol}
            write_json({**about, **facts, "flaws": data.flaws, "notes": data.notes})
        return
    table_console().print(split_table({name: (data.counts, len(data), data.digest) for name, data in splits.items()}))
    note(f"{known.title}: {whole.layout}, protocol {whole.protocol}", "dim")
    for text in (*whole.flaws, *whole.notes):
        note(f"! {text}", "yellow")
