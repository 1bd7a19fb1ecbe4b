"""Results for eyes: a table of faces, and for a single face the bars of all its probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..types import Face, Result
from ..visualization.faces import COLORS, UNKNOWN
from .terminal import block_bar


def show(results: Sequence[Result], console: Console) -> None:
    """Print a table with one row for each face; an image without a face has a row that says so."""
    if not results:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("image", "face", "box", "expression", "confidence", "runner-up", "certain"):
        right = name in ("face", "confidence")
        table.add_column(name, justify="right" if right else "left", overflow="fold" if name == "image" else "ellipsis")
    for result in results:
        for number, face in enumerate(result.faces, 1):
            table.add_row(Text(result.source), str(number), *_cells(face))
        if not result.faces:
            table.add_row(Text(result.source), Text("–", "dim"), "", Text("no face found", "dim"))
    console.print(table)
    faces = [face for result in results for face in result.faces]
    if len(results) == 1 and len(faces) == 1:
        console.print()
        console.print(_bars(faces[0], plain=not console.encoding.lower().startswith("utf")))
    for result in results:
        for note in result.notes:
            console.print(Text(f"{result.source}: {note}", "dim"))


def _cells(face: Face) -> list[Text]:
    second = sorted(face.scores.items(), key=lambda item: -item[1])[1:2]
    certain = Text("yes") if face.certain else Text("no", "yellow")
    return [
        Text(str(face.box)),
        Text.assemble(("■ ", _style(face.label) if face.certain else "dim"), face.label),
        Text(f"{face.confidence:.1%}"),
        Text("".join(f"{name} {share:.1%}" for name, share in second), "dim"),
        certain,
    ]


def _bars(face: Face, *, plain: bool) -> Table:
    table = Table.grid(padding=(0, 1))
    for name, share in face.scores.items():
        best = "bold" if name == face.label else ""
        bar = Text(block_bar(share, 32, plain=plain), _style(name))
        table.add_row(Text(name, best), bar, Text(f"{share:6.1%}", best))
    return table


def _style(name: str) -> str:
    """Color of a class; the nearly white of neutral would not show on a light terminal, so it is the color of the text."""
    red, green, blue = COLORS.get(name, UNKNOWN)
    return "" if name == "neutral" else f"rgb({red},{green},{blue})"
