"""`mien models`: what weights are here, and what can be trained."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from .. import cards
from ..cards import Card
from ..errors import UnknownName, WeightsError, did_you_mean
from ..models import MODELS
from ..models.info import described
from .terminal import Json, counted, for_programs, print_grid, print_rows, table_console, write_json

MORE = "Published accuracies are those of the authors. How they were obtained, licenses and all else: mien models NAME."

NOT_SHOWN = ("cam_layers", "diagram", "label_sets", "crop")


def models(*names: str, json: Json = False) -> None:
    """List the bundled weights, those of the zoo and the architectures that can be trained.

    The zoo is a folder of the repository, or the folder that MIEN_ZOO names.

    Examples:
        mien models
        mien models mien-base
        mien models dan
        mien models --json | jq .license

    Args:
        names: Weights or architectures to describe in full.
    """
    known_weights = {**cards.bundled(), **cards.zoo()}
    unknown = [name for name in names if name not in known_weights and name not in MODELS]
    if unknown and unknown[0].startswith(cards.ZOO):
        try:
            cards.zoo_names(unknown[0])
        except WeightsError as error:  # Its message states where the zoo was searched for.
            raise UnknownName(str(error)) from error
    if unknown:
        known = sorted({*known_weights, *MODELS})
        hint = did_you_mean(unknown[0], known, ".")
        message = f"there are neither weights nor an architecture called {unknown[0]!r}{hint} Known: {', '.join(known)}"
        raise UnknownName(message)
    weights = [
        {"what": "weights", **card.to_dict(), "name": name, "bytes": _bytes(card)}
        for name in names or known_weights
        if (card := known_weights.get(name))
    ]
    architectures = [
        _architecture(name) for name in names or MODELS if name in MODELS and not (names and name in known_weights)
    ]
    if for_programs(json):
        for table in (*weights, *architectures):
            write_json(table)
    elif names:
        for table in (*weights, *architectures):
            print_grid({name: "\n".join(_lines(value)) for name, value in table.items()})
    else:
        console = table_console()
        _print_weights(known_weights)
        console.print()
        _print_architectures(architectures)
        console.print(f"\n{MORE}", style="dim")


def _architecture(name: str) -> dict[str, Any]:
    """Return description and cost of an architecture, without torch."""
    table = {key: value for key, value in described().get(name, {}).items() if key not in NOT_SHOWN}
    if "published" in table:
        keys = ("dataset", "value", "metric", "note")
        table["published"] = [{key: figure[key] for key in keys} for figure in table["published"]]
    return {"what": "architecture", "name": name, **table}


def _print_weights(known: Mapping[str, Card]) -> None:
    rows, wide = [], table_console().width >= 110
    order = lambda each: (each[0].startswith(cards.ZOO), each[1].kind != "classifier", each[1].kind, each[0])  # noqa: E731
    for name, card in sorted(known.items(), key=order):
        size: Any = Text("missing", "red")
        if (number := _bytes(card)) is not None:
            size = f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"
        classes = counted(len(card.labels), "expression") if card.labels else ""
        description = "; ".join(filter(None, (classes, _accuracies(card)))) or card.summary
        more = (card.license, _input(card)) if wide else ()
        rows.append((name, card.kind, size, *more, description))
    columns = ("name", "kind", "size", *(("license", "input") if wide else ()), "summary")
    print_rows(columns, rows, text={*columns} - {"size"}, no_wrap=columns[:3])


def _print_architectures(tables: Sequence[Mapping[str, Any]]) -> None:
    rows = []
    for each in tables:
        if "summary" not in each:
            rows.append((each["name"], *[""] * 3, "see its weights"))
            continue
        inputs = ", ".join(f"{one['name']} {one['channels']}×{one['size']}²" for one in each["inputs"])
        first: dict[str, float] = {}
        for figure in each["published"]:
            if figure["metric"] == "accuracy %" and "→" not in figure["dataset"]:  # trained on one set, tested on another
                first.setdefault(figure["dataset"], figure["value"])
        published = ", ".join(f"{dataset} {value:g}" for dataset, value in first.items())
        cost = (f"{each['parameters'] / 1e6:.2f} M", f"{each['macs'] / 1e9:.2f}")
        rows.append((each["name"], *cost, inputs, published or f"mien models {each['name']}"))
    text = ("architecture", "input", "published accuracy, %")
    print_rows((text[0], "parameters", "GMAC", *text[1:]), rows, text=text, no_wrap=text[:1])


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
    what = " ".join(filter(None, (one["dataset"], one.get("split"), one["metric"])))
    return f"{what} {one['value']:g}{interval}{rows}{note}"


def _accuracies(card: Card) -> str:
    """Return the accuracy on each test split, the first that the card gives."""
    found: dict[str, float] = {}
    for each in card.measured:
        if each.split == "test" and each.metric == "accuracy":
            found.setdefault(each.dataset, each.value)
    return ", ".join(f"{dataset} test {value:.1%}" for dataset, value in found.items())


def _input(card: Card) -> str:
    size, color = (card.input.size, card.input.color) if card.input else (card.reading.get("size"), card.reading.get("color"))
    sides = "×".join(map(str, size)) if isinstance(size, (list, tuple)) else str(size or "any")
    return f"{sides} {color or ''}".strip()


def _bytes(card: Card) -> int | None:
    path = card.folder / card.file
    return path.stat().st_size if path.is_file() else None
