"""`mien models`: what weights are here, and what can be trained."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import cards
from ..cards import Card
from ..errors import UnknownName
from ..models import MODELS, ModelInfo, count, info
from ..weights import WEIGHTS
from .terminal import for_programs, table_console, write_json


def models(*names: str, json: bool = False, architectures: bool = False) -> None:
    """List the bundled weights and the architectures that can be trained.

    Examples:
        mien models
        mien models mien-base
        mien models dan
        mien models --architectures
        mien models --json | jq .licence

    Args:
        names: Weights or architectures to tell everything about.
        json: Write JSON Lines, also on a terminal.
        architectures: Describe the architectures: parameters, multiply-accumulates, published figures (needs mien[train]).
    """
    bundled = cards.bundled()
    unknown = [name for name in names if name not in bundled and name not in MODELS]
    if unknown:
        known = ", ".join(sorted({*bundled, *MODELS}))
        raise UnknownName(f"there are neither weights nor an architecture called {unknown[0]!r}. Known: {known}")
    wanted = names or dict.fromkeys([*(() if architectures else bundled), *MODELS])
    tables = [table for name in wanted for table in _tables(name, bundled, architectures, overview=not names)]
    console = table_console()
    if for_programs(json):
        for table in tables:
            write_json(table)
    elif names:
        for table in tables:
            _print_all(table, console)
    elif architectures:
        _print_architectures(tables, console)
    else:
        _print_weights(bundled, console)
        console.print(f"\nArchitectures: {', '.join(MODELS)}.", style="dim")
        console.print("About one: mien models NAME. About all: mien models --architectures.", style="dim")


def _tables(name: str, bundled: Mapping[str, Card], architectures: bool, *, overview: bool) -> Iterator[dict[str, Any]]:
    """Yield all there is about the weights of a name, else, or also, about its architecture.

    What an architecture costs takes the import of torch, so an overview names architectures only.
    """
    if name in bundled and not architectures:
        yield {"what": "weights", **bundled[name].to_dict(), "bytes": _bytes(bundled[name])}
    if name in MODELS and (overview or architectures or name not in bundled):
        deep = _has_torch() and (architectures or not overview)
        yield {"what": "architecture", "name": name, **(_architecture(name) if deep else {})}


def _architecture(name: str) -> dict[str, Any]:
    try:
        about, cost = info(name), count(name)
    except UnknownName:  # an architecture whose file describes nothing is only named
        return {}
    inputs = [{"name": each.name, "channels": each.channels, "size": each.size, "sizes": each.sizes} for each in about.inputs]
    told = {
        f.name: getattr(about, f.name) for f in dataclasses.fields(ModelInfo) if f.name not in ("name", "inputs", "diagram")
    }
    told["outputs"], told["published"] = dict(about.outputs), [dataclasses.asdict(figure) for figure in about.published]
    return {**told, "inputs": inputs, "parameters": cost.parameters, "dead_parameters": cost.dead, "macs": cost.macs}


def _print_weights(bundled: Mapping[str, Card], console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "kind", "size", "licence", "input", "what it tells"):
        table.add_column(name, justify="right" if name == "size" else "left", no_wrap=name in ("name", "size"))
    for card in sorted(bundled.values(), key=lambda card: (card.kind, card.name)):
        size = Text("missing", "red") if (number := _bytes(card)) is None else _size(number)
        told = "; ".join(filter(None, (", ".join(card.labels), _accuracies(card)))) or card.summary
        table.add_row(card.name, card.kind, size, card.licence, _input(card), told)
    console.print(table)


def _print_architectures(tables: Sequence[Mapping[str, Any]], console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "parameters", "GMAC", "input", "published %", "what it is"):
        table.add_column(name, justify="right" if name in ("parameters", "GMAC") else "left", no_wrap=name == "name")
    for each in tables:
        if "summary" not in each:
            table.add_row(each["name"])
            continue
        inputs = ", ".join(f"{one['name']} {one['channels']}×{one['size']}²" for one in each["inputs"])
        first: dict[str, float] = {}
        for figure in each["published"]:
            if figure["metric"] == "accuracy %":
                first.setdefault(figure["dataset"], figure["value"])
        published = ", ".join(f"{dataset} {value:g}" for dataset, value in first.items())
        cost = (f"{each['parameters'] / 1e6:.2f} M", f"{each['macs'] / 1e9:.2f}")
        table.add_row(each["name"], *cost, inputs, published, each["summary"])
    console.print(table)
    if not _has_torch():
        console.print("\nWith pip install 'mien[train]' this tells parameters, inputs and published figures.", style="dim")


def _print_all(table: Mapping[str, Any], console: Console) -> None:
    grid = Table.grid(padding=(0, 2))
    for name, value in table.items():
        grid.add_row(Text(name, "bold"), Text("\n".join(_lines(value))))
    console.print(grid)
    console.print()


def _lines(value: Any) -> Iterator[str]:
    """Lay a nested value out for reading: one line for each entry of a list or table."""
    if isinstance(value, Mapping) and {"dataset", "value", "metric"} <= value.keys():
        yield _measurement(value)
    elif isinstance(value, Mapping):
        yield from (f"{key}: {', '.join(_lines(item))}" for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        each = [", ".join(_lines(item)) for item in value]
        yield from each if any(isinstance(item, Mapping) for item in value) else [", ".join(each)]
    else:
        yield f"{value:,}" if type(value) is int else str(value)


def _measurement(one: Mapping[str, Any]) -> str:
    interval = f" ({one['low']:g} … {one['high']:g})" if one.get("low") is not None and one.get("high") is not None else ""
    rows = f", n = {one['n']:,}" if "n" in one else ""
    note = f", {one['note']}" if one.get("note") else ""
    return (
        " ".join(filter(None, (one["dataset"], one.get("split"), one["metric"]))) + f" {one['value']:g}{interval}{rows}{note}"
    )


def _accuracies(card: Card) -> str:
    """Return the accuracy on each test split, the first that the card gives."""
    found: dict[str, float] = {}
    for each in card.measured:
        if each.split == "test" and each.metric == "accuracy":
            found.setdefault(each.dataset, each.value)
    return ", ".join(f"{dataset} test {value:.1%}" for dataset, value in found.items())


def _input(card: Card) -> str:
    size, colour = (
        (card.input.size, card.input.colour) if card.input else (card.reading.get("size"), card.reading.get("colour"))
    )
    sides = "×".join(map(str, size)) if isinstance(size, (list, tuple)) else str(size or "any")
    return f"{sides} {colour or ''}".strip()


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"


def _bytes(card: Card) -> int | None:
    path = WEIGHTS / card.file
    return path.stat().st_size if path.is_file() else None


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None
