"""The reference sections of the documentation, built with the site by the hook in `tools/site_hooks.py`.

A page contains `<!-- generate: NAME -->`; the function of that name in `SECTIONS` returns the Markdown that replaces it. The
Python API is rendered by mkdocstrings instead (`::: mien.cards`).

    python tools/docs.py NAME       print one section
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from string import Template
from typing import Any, get_args, get_type_hints

ROOT = Path(__file__).resolve().parents[1]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """Return text that may stand in a table cell."""
    return " ".join(text.split()).replace("|", "\\|")


def summary(thing: object) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return cell((inspect.getdoc(thing) or "").partition("\n\n")[0])


def join(*parts: str) -> str:
    """Join the non-empty parts as Markdown paragraphs."""
    return "\n\n".join(part.strip() for part in parts if part.strip())


def fields(kind: type) -> str:
    """Return a table of the fields of a dataclass with the docstring below each."""
    body = ast.parse(inspect.cleandoc(inspect.getsource(kind))).body[0].body  # pyrefly: ignore
    docs = {
        node.target.id: ast.literal_eval(following.value)
        for node, following in pairwise(body)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(following, ast.Expr)
    }
    hints = get_type_hints(kind)
    rows = [
        (f"`{each.name}`", _type(str(each.type)), _default(each), cell(docs.get(each.name, "")))
        for each in dataclasses.fields(kind)  # pyrefly: ignore
        if not dataclasses.is_dataclass(hints[each.name]) and not each.name.startswith("_")
    ]
    return table(("field", "type", "default", "description"), rows)


def _type(text: str) -> str:
    """Return a type annotation in the words of a TOML file."""
    if text.startswith("Literal["):
        return ", ".join(f"`{choice}`" for choice in ast.literal_eval(f"({text[8:-1]},)"))
    words = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
    if text.startswith("tuple["):
        return f"list of {words.get(text[6:-1].partition(',')[0], 'table')}s"
    plain = text.removesuffix(" | None")
    return "table" if text.startswith("dict[") else words.get(plain, f"`{cell(text)}`")


def _default(each: dataclasses.Field[Any]) -> str:
    value = each.default if each.default_factory is dataclasses.MISSING else each.default_factory()
    if value is dataclasses.MISSING:
        return "required"
    if value is None or value in ("", (), {}):
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (tuple, dict)):
        return "one table" if dataclasses.is_dataclass(value[0]) else f"`{list(value)}`"  # pyrefly: ignore
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def cli() -> str:
    """Return the help of every command."""
    from mien.cli import build

    text = build().generate_docs(output_format="markdown", recursive=True, heading_level=1)
    return re.sub(r"^# mien$.*?^## mien predict$", "## mien predict", text, flags=re.MULTILINE | re.DOTALL)


def rest() -> str:
    """Return the operations and schemas of the server's OpenAPI document."""
    from mien.serving.app import create
    from mien.serving.problems import PROBLEMS, TYPE

    document = create().openapi()
    parts = ["## Requests"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += [f"### {method.upper()} {path}", f"{operation['summary']}."]
            if rows := [
                (f"`{each['name']}`", each["in"], _schema(each["schema"]), cell(each.get("description", "")))
                for each in operation.get("parameters", ())
            ]:
                parts.append(table(("parameter", "in", "type", "description"), rows))
            for kind, body in operation.get("requestBody", {}).get("content", {}).items():
                schema = body["schema"]
                inner = f"{_schema(schema)}." if "properties" not in schema else ""
                parts += [f"Body `{kind}`: {inner}", _properties(schema) if not inner else ""]
            rows = [(status, _response(found)) for status, found in sorted(operation["responses"].items())]
            parts.append(table(("status", "response"), rows))
    problems = [(f"`{name}`", str(status), title) for name, (status, title) in PROBLEMS.items()]
    parts += [
        "## Problems",
        f"Every error is `application/problem+json`; its `type` is `{TYPE}` followed by one of these names.",
    ]
    parts += [table(("name", "status", "title"), problems), "## Schemas"]
    for name, schema in document["components"]["schemas"].items():
        parts += [f"### {name}", schema.get("description", ""), _properties(schema)]
    return join(*parts)


def _response(response: Mapping[str, Any]) -> str:
    content = response.get("content", {})
    shapes = [_schema(each["schema"]) for each in content.values() if each.get("schema")]
    kinds = [f"`{kind}`" for kind in content if kind != "application/json"]
    return " ".join([cell(response["description"]), ", ".join([*shapes, *kinds])]).strip()


def _properties(schema: Mapping[str, Any]) -> str:
    rows = []
    for name, about in schema.get("properties", {}).items():
        default = about.get("default")
        shown = "–" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        required = "required" if name in schema.get("required", ()) else shown
        rows.append((f"`{name}`", _schema(about), required, cell(about.get("description", ""))))
    return table(("field", "type", "default", "description"), rows) if rows else ""


def _schema(schema: Mapping[str, Any]) -> str:
    """Return a JSON schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_schema, schema["anyOf"])))
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(_schema({**schema, "type": each}) for each in kind)
    if kind == "array":
        return f"array of {_schema(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_schema(schema['additionalProperties'])}"
    if schema.get("format") == "binary":
        return "file"
    low, high = schema.get("minimum"), schema.get("maximum")
    return kind if low is None or high is None else f"{kind} from {low:g} to {high:g}"


def cards() -> str:
    """Return the cards that ship with the package."""
    from mien.cards import bundled

    rows = [
        (f"`{card.name}`", card.kind, card.license, cell(card.summary), cell(card.origin), cell(card.data) or "–")
        for card in bundled().values()
    ]
    limits = [f"* `{card.name}`: {cell(card.limits)}" for card in bundled().values() if card.limits]
    head = ("name", "kind", "license", "summary", "origin", "training data")
    return join(table(head, rows), "Limits:", "\n".join(limits))


def card_fields() -> str:
    """Return the fields of a card, table after table."""
    from mien.cards import Calibration, Card, Crop, Input, Measured

    tables = {
        "The card": Card,
        "`[input]`": Input,
        "`[crop]`": Crop,
        "`[calibration]`": Calibration,
        "`[[measured]]`": Measured,
    }
    return join(*(join(f"## {title}", inspect.getdoc(kind) or "", fields(kind)) for title, kind in tables.items()))


def errors() -> str:
    """Return the tree of errors and the remedy for each: the second paragraph of its docstring or of its parent's."""
    import mien
    from mien.errors import MienError

    for module in pkgutil.walk_packages(mien.__path__, "mien."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    def walk(kind: type, depth: int) -> Iterator[tuple[str, str, str]]:
        paragraphs = [(inspect.getdoc(each) or "").split("\n\n") for each in kind.__mro__ if issubclass(each, MienError)]
        remedy = next((found[1] for found in paragraphs if len(found) > 1), "")
        yield f"{'&nbsp;&nbsp;' * depth}`{kind.__name__}`", summary(kind), cell(remedy)
        for each in kind.__subclasses__():
            if each.__module__.startswith("mien.") and not each.__name__.startswith("_"):
                yield from walk(each, depth + 1)

    return table(("error", "meaning", "what to do"), list(walk(MienError, 0)))


def config() -> str:
    """Return every field of a training recipe."""
    from mien.training.config import TrainConfig

    def tables(kind: type, path: str) -> Iterator[str]:
        yield join(f"## {f'`{path}`' if path else 'The run'}", (inspect.getdoc(kind) or "") if path else "", fields(kind))
        hints = get_type_hints(kind)
        for each in dataclasses.fields(kind):  # pyrefly: ignore
            hint = hints[each.name]
            if inner := next((kind for kind in (hint, *get_args(hint)) if dataclasses.is_dataclass(kind)), None):
                suffix = "" if inner is hint else "[]"
                yield from tables(inner, f"{path}.{each.name}{suffix}".lstrip("."))  # pyrefly: ignore

    return join(*tables(TrainConfig, ""))


def transforms() -> str:
    """Return the augmentation transforms with their parameters."""
    from mien.training.augmentation import TRANSFORMS, parameters

    rows = []
    for op, step in TRANSFORMS.items():
        shown = [
            f"`{name}`" if each.default is each.empty else f"`{name} = {_toml(each.default)}`"
            for name, each in parameters(op).items()
        ]
        rows.append((f"`{op}`", ", ".join(shown) or "–", summary(step)))
    return table(("op", "parameters and defaults", "description"), rows)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_toml(each)}" for name, each in value.items() if name != "op")
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_toml, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def recipes() -> str:
    """Return a table of the recipes for each architecture."""
    from mien.data.datasets import reader
    from mien.models import MODELS
    from mien.training.config import TrainConfig

    kinds = {"author": "as published", "paper": "as in the paper", "mien": "corrected"}
    order = {name: index for index, name in enumerate(MODELS)}
    found = {path.stem: TrainConfig.load(path) for path in sorted((ROOT / "recipes").glob("*.toml"))}
    parts, head = [], ("recipe", "kind", "data", "epochs", "batch", "optimizer", "schedule", "augmentation", "flaws")
    names = sorted(found, key=lambda name: (order.get(found[name].model.name, len(order)), name))
    for system, group in groupby(names, key=lambda name: found[name].model.name):
        rows = []
        for name in group:
            recipe = found[name]
            sources = [(reader(each.dataset), each.protocol) for each in recipe.data]
            protocols = [(known, protocol or next(iter(known.protocols))) for known, protocol in sources]
            flaws = dict.fromkeys([*recipe.flaws, *(flaw for known, name in protocols for flaw in known.protocols[name].flaws)])
            optim, schedule = recipe.optim, recipe.schedule
            extras = "".join(
                f", {key} {value:g}" for key in ("weight_decay", "sam", "ema", "clip") if (value := getattr(optim, key))
            )
            warmup = f", warm-up {schedule.warmup:g}" if schedule.warmup else ""
            steps = [
                f"{step['op']} {_toml(step)}".strip() for step in recipe.augment if step["op"] not in ("resize", "normalize")
            ]
            rows.append(
                (
                    f"[`{name}`](../recipes/{name}.toml)",
                    kinds.get(name.rpartition("-")[2], "ours"),
                    ", ".join([*(f"{known.name} `{protocol}`" for known, protocol in protocols), f"{recipe.input.size} px"]),
                    str(recipe.epochs),
                    str(recipe.batch),
                    f"{optim.name} {optim.lr:g}{extras}",
                    f"{schedule.kind}{warmup}",
                    cell("; ".join(steps)) or "–",
                    cell("; ".join(flaws)) or "–",
                )
            )
        parts += [f"## {system}", table(head, rows)]
    return join(*parts)


class _Diagram(Template):
    """A Mermaid text in which `${module.path}` stands for a shape."""

    braceidpattern = r"[\w.\[\]]+"


def models() -> str:
    """Return what each architecture is, its size, inputs, outputs and published results."""
    from mien import models
    from mien.errors import UnknownName

    described = {}
    for name in models.MODELS:
        try:
            described[name] = models.info(name), models.count(name)
        except UnknownName:  # described by the card of its weights
            continue
    rows = [
        (
            f"[`{name}`](#{name})",
            cell(info.summary),
            f"{count.parameters / 1e6:.1f} M",
            f"{count.macs / 1e9:.2f} G",
            str(info.inputs[0].size),
        )
        for name, (info, count) in described.items()
    ]
    parts = [table(("name", "summary", "parameters", "MACs", "pixels"), rows)]
    for module, names in groupby(described, key=lambda name: models.MODELS[name].partition(":")[0]):
        title, _, text = inspect.cleandoc(sys.modules[module].__doc__ or "").partition("\n")
        parts += [f"## {title.rstrip('.')}", text, *(_architecture(*described[name]) for name in names)]
    return join(*parts)


def _architecture(info: Any, count: Any) -> str:
    shapes = {path: " × ".join(map(str, shape)) for path, shape in count.shapes.items()}

    def output(name: str) -> str:
        several = [shape for field, shape in count.outputs.items() if field.startswith(f"{name}[")] or [count.outputs[name]]
        return ", ".join(" × ".join(map(str, shape)) for shape in dict.fromkeys(several))

    facts = [
        ("parameters", f"{count.parameters:,}" + (f", of which {count.dead:,} are unused" if count.dead else "")),
        ("MACs", f"{count.macs:,}"),
        *((name, getattr(info, name)) for name in ("paper", "repository", "license")),
        *((f"input `{each.name}`", f"{shapes[each.name]}; height and width: {each.sizes}") for each in info.inputs),
        *((f"output `{name}`", f"{output(name)}: {meaning}") for name, meaning in info.outputs.items()),
        *((f"option `{name}`", cell(meaning)) for name, meaning in info.options.items()),
        ("Grad-CAM layers", ", ".join(f"`{layer}` ({shapes[layer]})" for layer in info.cam_layers)),
    ]
    figures = [(each.dataset, f"{each.value:g}", each.metric, each.note) for each in info.published]
    return join(
        f"### {info.name}",
        f"{info.summary}.",
        f"```mermaid\n{_Diagram(info.diagram).substitute(shapes)}\n```",
        table(("", ""), [row for row in facts if row[1]]),
        table(("dataset", "value", "metric", "note"), figures) if figures else "",
        f"Source: {info.source}." if figures else "",
    )


def datasets() -> str:
    """Return the layouts, protocols and options of every dataset reader."""
    from mien.data.datasets import DATASETS, reader
    from mien.labels import LABEL_SETS

    known = {name: reader(name) for name in DATASETS}
    rows = [
        (
            f"[`{name}`](#{name})",
            str(len(each.labels) or "–"),
            cell(each.title),
            ", ".join(f"{k} {v:,}" for k, v in each.published.items()) or "–",
        )
        for name, each in known.items()
    ]
    parts = ["## The datasets", table(("name", "classes", "contents", "published image counts"), rows)]
    for name, each in known.items():
        parts += [f"### {name}", inspect.getdoc(inspect.getmodule(each.layouts[0].read)) or ""]
        parts.append(f"{each.obtain} Classes: {', '.join(each.labels) or 'as in the files'}.")
        layouts = [
            (layout.name, " and ".join(f"`{cell(mark)}`" for mark in layout.marks) or "–", layout.copies or "–")
            for layout in each.layouts
        ]
        protocols = [
            (f"`{key}`", cell(entry.says), cell("; ".join(entry.flaws)) or "–") for key, entry in each.protocols.items()
        ]
        options = [
            (f"`{key}`", cell(option.says), ", ".join(f"`{choice}`" for choice in option.choices) or "any text")
            for key, option in each.options.items()
        ]
        parts += [
            table(("layout", "recognized by", "public copies with it"), layouts),
            table(("protocol", "definition", "flaws"), protocols),
        ]
        parts.append(table(("option", "meaning", "values, the default first"), options) if options else "")
    sets = [(f"`{name}`", ", ".join(classes)) for name, classes in LABEL_SETS.items()]
    return join(*parts, "## Label sets", table(("name", "classes, from 0"), sets))


def crops() -> str:
    """Return the crops that `mien prepare align` makes, beside those of the authors."""
    from mien.data.preparation.crops import AUTHORS, CROPS

    def how(crop: Any) -> str:
        if crop is None:
            return "–"
        return f"{crop.detector}, landmarks of the {crop.points}, {crop.choice} face; without a face: {crop.faceless}"

    rows = [(f"`{name}`", f"{crop.says}, {crop.size} px", how(crop), how(AUTHORS.get(name))) for name, crop in CROPS.items()]
    return table(("crop", "description", "default", "with `--author`"), rows)


def floors() -> str:
    """Return a drawing of the layers of the import contract, the lowest at the bottom."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    layers = [re.split(r"\s*[|:]\s*", line) for line in tool["importlinter"]["contracts"][0]["layers"]]
    width, height, gap = 720, 40, 6
    parts = []
    for row, names in enumerate(layers):
        y, each = row * (height + gap), (width - (len(names) - 1) * gap) / len(names)
        for column, name in enumerate(names):
            x = column * (each + gap)
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{each:.1f}" height="{height}" rx="6"/>'
                f'<text x="{x + each / 2:.1f}" y="{y + height / 2 + 5}">{name}</text>'
            )
    size = f'viewBox="0 0 {width} {len(layers) * (height + gap) - gap}"'
    label = "Layers of mien, the lowest at the bottom: " + "; ".join(", ".join(names) for names in reversed(layers))
    return f'<div class="floors"><svg role="img" aria-label="{label}" {size}>{"".join(parts)}</svg></div>'


def action_units() -> str:
    """List the estimated action units with their blendshapes, and those that cannot be estimated."""
    from mien.faces.action_units import CENTRAL, SIDED, UNITS, UNSUPPORTED

    rows = []
    for unit in UNITS:
        names = (
            [f"`{SIDED[unit]}Left`, `{SIDED[unit]}Right`"] if unit in SIDED else [f"`{name}`" for name in CENTRAL.get(unit, ())]
        )
        rows.append([unit, ", ".join(names) or "gap between the inner lips of the mesh"])
    missing = "\n".join(f"* {unit}: {reason}." for unit, reason in UNSUPPORTED.items())
    return join(table(["unit", "from"], rows), "Not estimated, and missing in the output rather than zero:", missing)


def measured() -> str:
    """Return the tables of the newest benchmark of the measures, without cost and machine."""
    newest = max((ROOT / "docs" / "benchmarks").glob("*-measures.md"))
    sections = newest.read_text(encoding="utf-8").split("\n## ")[1:]
    chosen = [section for section in sections if not section.startswith("Cost")]
    return join(*(f"**{section.partition(chr(10))[0]}.**\n{section.partition(chr(10))[2]}" for section in chosen))


SECTIONS: dict[str, Callable[[], str]] = {
    "cli": cli, "rest": rest, "cards": cards, "card-fields": card_fields, "errors": errors, "config": config,
    "transforms": transforms, "recipes": recipes, "models": models, "datasets": datasets, "crops": crops, "floors": floors,
    "action_units": action_units, "measured": measured,
}  # fmt: skip

if __name__ == "__main__":
    print(SECTIONS[" ".join(sys.argv[1:])]())
