"""Results on a terminal: a table of faces, bars of all probabilities for a single face, and the summary of videos."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..inference.summary import FaceSummary
from ..types import Face, Result
from ..visualization.faces import COLORS, UNKNOWN
from .terminal import block_bar


def show(results: Sequence[Result], console: Console) -> None:
    """Print a table with one row per face, and one for each image without a face."""
    if not results:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("image", "face", "box", "expression", "confidence", "runner-up", "certain", "pitch yaw roll", "gaze"):
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
        Text("" if face.pose is None else degrees(face.pose.pitch, face.pose.yaw, face.pose.roll)),
        Text(gaze_text(face)),
    ]


def degrees(*angles: float) -> str:
    """Return angles as "16° −1° 3°"."""
    return " ".join(f"{angle:.0f}°" for angle in angles)


def gaze_text(face: Face) -> str:
    """Return the gaze of a face as yaw and pitch, or that it looks at the camera."""
    if face.gaze is None:
        return "" if face.pose is None else "–"
    return "camera" if face.gaze.at_camera else degrees(face.gaze.yaw, face.gaze.pitch)


def show_videos(faces: Sequence[FaceSummary], console: Console) -> None:
    """Print one row for each face of videos: presence, expressions, blinks, mean head pose, gaze at the camera."""
    if not faces:
        return
    several = len({face.source for face in faces}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = ("face", "from", "visible", "expressions", "blinks", "per minute", "pitch yaw roll", "at the camera")
    for name in (*(("video",) if several else ()), *names):
        table.add_column(name, justify="right" if name in ("face", "from", "visible", "blinks", "per minute") else "left")
    for face in faces:
        shares = [f"{label} {share:.0%}" for label, share in list(face.expressions.items())[:3]]
        pose = [angle for angle in (face.pitch, face.yaw, face.roll) if angle is not None]
        table.add_row(
            *([Text(face.source)] if several else []),
            str(face.track),
            f"{face.first:.1f} s",
            f"{face.seconds:.1f} s",
            Text(", ".join(shares)),
            str(len(face.blinks)),
            f"{face.blink_rate:.0f}",
            degrees(*pose),
            "" if face.at_camera is None else f"{face.at_camera:.0%}",
        )
    console.print(table)


def _bars(face: Face, *, plain: bool) -> Table:
    table = Table.grid(padding=(0, 1))
    for name, share in face.scores.items():
        best = "bold" if name == face.label else ""
        bar = Text(block_bar(share, 32, plain=plain), _style(name))
        table.add_row(Text(name, best), bar, Text(f"{share:6.1%}", best))
    return table


def _style(name: str) -> str:
    """Return the color of a class; neutral, nearly white, has the color of the text, to be visible on a light terminal."""
    red, green, blue = COLORS.get(name, UNKNOWN)
    return "" if name == "neutral" else f"rgb({red},{green},{blue})"
