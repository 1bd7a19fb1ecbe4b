"""Results on a terminal: a table of faces, bars of a single face, the summary of videos."""

from collections.abc import Mapping, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ..inference.summary import FaceSummary
from ..types import Face, Result
from ..visualization.faces import COLORS, UNKNOWN
from .terminal import block_bar, plain_table

NAMES = ("image", "face", "box", "expression", "confidence", "runner-up", "certain", "pitch yaw roll", "gaze")
SPARE = ("runner-up", "gaze", "pitch yaw roll", "box")  # what a narrow terminal does without, in this order


def show(results: Sequence[Result], console: Console) -> None:
    """Print a table with one row per face, and one for each image without a face, in as many columns as fit."""
    if not results:
        return
    rows, room = [], max(22, console.width - 100)
    for result in results:
        name = result.source if len(result.source) <= room else f"…{result.source[1 - room :]}"
        for number, face in enumerate(result.faces, 1):
            second = sorted(face.scores.items(), key=lambda item: -item[1])[1:2]
            cells = [
                Text(name if number == 1 else ""),
                str(number),
                Text(str(face.box)),
                Text.assemble(("■ ", style_of(face.label) if face.certain else "dim"), face.label),
                Text(f"{face.confidence:.1%}"),
                Text("".join(f"{name} {share:.1%}" for name, share in second), "dim"),
                *measures(face),
            ]
            rows.append(dict(zip(NAMES, cells, strict=True)))
        if not result.faces:
            rows.append({"image": Text(name), "face": Text("–", "dim"), "expression": Text("no face found", "dim")})
    names = list(NAMES)
    for spare in SPARE:
        if console.measure(_table(rows, names), options=console.options.update(width=1000)).maximum > console.width:
            names.remove(spare)
    console.print(_table(rows, names))
    faces = [face for result in results for face in result.faces]
    if len(results) == 1 and len(faces) == 1:
        console.print()
        console.print(_bars(faces[0], plain=not console.encoding.lower().startswith("utf")))
    for result in results:
        for note in result.notes:
            console.print(Text(f"{result.source}: {note}", "dim"))


def _table(rows: Sequence[Mapping[str, RenderableType]], names: Sequence[str]) -> Table:
    table = plain_table(*names, text={*names} - {"face", "confidence"})
    table.columns[names.index("expression")].no_wrap = True
    for row in rows:
        table.add_row(*(row.get(name, "") for name in names))
    return table


def measures(face: Face) -> list[Text]:
    """Return the last cells of a face: whether it is certain, head pose, and gaze (`camera` if directed at the camera)."""
    certain = Text("yes") if face.certain else Text("no", "yellow")
    if face.pose is None:
        return [certain, Text(), Text()]
    gaze = "–"
    if face.gaze is not None:
        gaze = "camera" if face.gaze.at_camera else _degrees(face.gaze.yaw, face.gaze.pitch)
    return [certain, Text(_degrees(face.pose.pitch, face.pose.yaw, face.pose.roll)), Text(gaze)]


def _degrees(*angles: float) -> str:
    return " ".join(f"{angle:.0f}°" for angle in angles)


def show_videos(faces: Sequence[FaceSummary], console: Console) -> None:
    """Print one row for each face of videos: presence, expressions, blinks, mean head pose, gaze at the camera."""
    if not faces:
        return
    several = len({face.source for face in faces}) > 1
    names = ("face", "from", "visible", "expressions", "blinks", "per minute", "pitch yaw roll", "at the camera")
    text = ("video", "expressions", "pitch yaw roll", "at the camera")
    table = plain_table(*(["video"] if several else []), *names, text=text)
    for face in faces:
        shares = [f"{label} {share:.0%}" for label, share in list(face.expressions.items())[:3]]
        pose = [angle for angle in (face.pitch, face.yaw, face.roll) if angle is not None]
        name = [Text(face.source)] if several else []
        seen = [str(face.track), f"{face.first:.1f} s", f"{face.seconds:.1f} s", Text(", ".join(shares)), str(len(face.blinks))]
        at_camera = "" if face.at_camera is None else f"{face.at_camera:.0%}"
        table.add_row(*name, *seen, f"{face.blink_rate:.0f}", _degrees(*pose), at_camera)
    console.print(table)


def _bars(face: Face, *, plain: bool) -> Table:
    table = Table.grid(padding=(0, 1))
    for name, share in face.scores.items():
        best = "bold" if name == face.label else ""
        bar = Text(block_bar(share, 32, plain=plain), style_of(name))
        table.add_row(Text(name, best), bar, Text(f"{share:6.1%}", best))
    return table


def style_of(name: str) -> str:
    """Return the color of a class; neutral, nearly white, has the color of the text, to be visible on a light terminal."""
    red, green, blue = COLORS.get(name, UNKNOWN)
    return "" if name == "neutral" else f"rgb({red},{green},{blue})"
