"""Timeline of a video: each face over time, as an image (PNG, SVG, PDF) or an HTML page.

For each face: a band of the expression (palest where the model abstains), the probabilities (thin and pale: of the frame
alone), valence and arousal if the model has them, head pose and gaze in degrees, and the action units and blendshapes that
varied most. Gaps are left where the face was not visible.
"""

from __future__ import annotations

import html
import io
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, MissingExtra
from ..io.files import atomic_write, check_output
from ..labels import BLENDSHAPES
from ..types import Face, Result
from .faces import COLORS, UNKNOWN

WIDEST = 1500
"""Maximum number of points of a line; more values are averaged over neighbors."""
FACES = 12
"""Maximum number of faces: those visible longest."""
STRIPS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "pose": (("pitch", "#b3541e"), ("yaw", "#3d6fb4"), ("roll", "#5a8f3c")),
    "gaze": (("yaw", "#3d6fb4"), ("pitch", "#b3541e")),
}
"""Strip → its lines and their colors; values in degrees."""
UNITS = 6
"""Action units that are drawn: those that vary most."""
MARK = "mien timeline"
"""Metadata of every timeline, by which it is recognized when it is written again."""

SUFFIXES = (".png", ".svg", ".pdf", ".html")

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;color:#1d2127;background:#fff}
h1{font-size:1.3rem}h2{font-size:1.05rem;margin:2rem 0 .2rem;overflow-wrap:anywhere}p{color:#5a626d;margin:.2rem 0}
.scroll{overflow-x:auto}svg{display:block;width:100%;min-width:680px;height:auto}
@media(prefers-color-scheme:dark){body{color:#e8eaed;background:#17191d}p{color:#a3a9b3}
svg{filter:invert(.93) hue-rotate(180deg) brightness(1.4)}}
"""


class Timeline:
    """Collects the results of videos. It holds four bytes for each value of each face in each frame, and no images.

    Example:
        >>> import mien
        >>> timeline = Timeline()
        >>> for frame, result in mien.load().stream("clip.mp4"):
        ...     timeline.add(result)
        >>> timeline.save("clip.html")
    """

    def __init__(self, blendshapes: Sequence[str] | int = 6) -> None:
        """Begin.

        Args:
            blendshapes: names of the blendshapes to show, or how many of those that vary most.

        Raises:
            ConfigError: unknown blendshape.
        """
        if not isinstance(blendshapes, int) and (unknown := [name for name in blendshapes if name not in BLENDSHAPES]):
            raise ConfigError(f"unknown blendshape {unknown[0]!r}; known: {', '.join(BLENDSHAPES)}", value=unknown[0])
        self.blendshapes = blendshapes
        self._lines: dict[tuple[str, int], _Line] = {}
        self._frames: dict[str, array[float]] = {}
        self._again: Counter[str] = Counter()

    def add(self, result: Result) -> None:
        """Add the next frame of a video; images are ignored.

        A time that decreases begins the same video again, as `SOURCE (2)`.
        """
        if result.time is None or result.status == "unreadable":
            return
        frames = self._frames.get(self._name(result.source))
        self._again[result.source] += frames is not None and result.time < frames[-1]
        name = self._name(result.source)
        self._frames.setdefault(name, array("d")).append(result.time)
        for face in result.faces:
            key = name, face.track or 0
            if key not in self._lines:
                self._lines[key] = _Line(face)
            self._lines[key].add(result.time, face)

    def _name(self, source: str) -> str:
        return f"{source} ({again + 1})" if (again := self._again[source]) else source

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the timeline in the format of the suffix.

        Raises:
            ConfigError: the suffix is not one of `SUFFIXES`, or the file cannot be written.
            MissingExtra: matplotlib is not installed.
        """
        path = Path(path)
        check_timeline(path)
        figure_of = _matplotlib()
        chosen = sorted(self._lines, key=lambda key: -len(self._lines[key].times))[:FACES]
        chosen.sort(key=lambda key: (list(self._frames).index(key[0]), key[1]))
        with atomic_write(path) as part:
            if path.suffix.lower() == ".html":
                part.write_text(self._page(chosen, figure_of), encoding="utf-8")
            else:
                figure = self._figure(chosen, figure_of)
                kind = path.suffix[1:].lower()
                key = "Software" if kind == "png" else "Creator"
                figure.savefig(part, format=kind, dpi=110, metadata={key: MARK})

    def _page(self, chosen: Sequence[tuple[str, int]], figure_of: Any) -> str:
        parts = []
        for source in dict.fromkeys(self._frames):
            frames = self._frames[source]
            name = f'<h2 title="{html.escape(source)}">{html.escape(Path(source).name)}</h2>'
            parts.append(f"{name}<p>{len(frames)} frames, {frames[0]:.2f} to {frames[-1]:.2f} s</p>")
            for key in (key for key in chosen if key[0] == source):
                drawn = io.StringIO()
                self._figure([key], figure_of).savefig(drawn, format="svg")
                parts.append(f'<div class="scroll"><svg{drawn.getvalue().split("<svg", 1)[1]}</div>')
        if not chosen:
            parts.append("<p>No face found.</p>")
        head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Timeline</title>'
        head += f'<meta name="generator" content="{MARK}">'
        view = '<meta name="viewport" content="width=device-width,initial-scale=1">'
        body = f"<h1>Facial expressions over time</h1>{''.join(parts)}"
        return f"{head}{view}<style>{STYLE}</style></head><body>{body}</body></html>\n"

    def _figure(self, chosen: Sequence[tuple[str, int]], figure_of: Any) -> Any:
        lines = [self._lines[key] for key in chosen]
        heights: list[float] = []
        for line in lines:
            heights += [
                0.22,
                2.0,
                *([1.1] if line.affect else []),
                *(1.1 for strip in STRIPS if line.measured[strip]),
                *(0.24 * len(names) for names in (line.varied(), line.shown(self.blendshapes)) if names),
            ]
        figure = figure_of(figsize=(11, max(sum(heights) * 1.18 + 0.75 * len(lines) + 0.3, 1.5)), layout="constrained")
        if not lines:
            figure.text(0.5, 0.5, "no face found", ha="center", va="center", color="#5a626d")
            return figure
        figure.get_layout_engine().set(hspace=0.01, h_pad=0.03)
        axes = list(figure.subplots(len(heights), 1, gridspec_kw={"height_ratios": heights}, squeeze=False)[:, 0])
        named = len({source for source, _ in chosen}) > 1
        for (source, number), line in zip(chosen, lines, strict=True):
            title = f"face {number}" + (f" · {Path(source).name}" if named else "")
            frames = np.array(self._frames[source])
            used = line.draw(axes, title, self.blendshapes, frames)
            axes[used - 1].set_xlabel("seconds", fontsize=8, color="#5a626d")
            del axes[:used]
        return figure


class _Line:
    """The values of one face."""

    def __init__(self, face: Face) -> None:
        self.labels = list(face.scores)
        self.affect = [name for name in ("valence", "arousal") if getattr(face, name) is not None]
        self.measured = {"pose": face.pose is not None, "gaze": face.pose is not None}
        units = face.action_units or face.action_units_estimated or {}
        self.units = [name for name in units if "_" not in name]
        self.blendshapes = [] if face.blendshapes is None else list(face.blendshapes)
        self.alone = face.unsmoothed is not None
        self.times, self.values = array("d"), array("f")

    @property
    def width(self) -> int:
        """Values of one frame."""
        degrees = sum(len(lines) for strip, lines in STRIPS.items() if self.measured[strip])
        scores = len(self.labels) * (2 if self.alone else 1) + 1
        return scores + len(self.affect) + degrees + len(self.units) + len(self.blendshapes)

    def add(self, time: float, face: Face) -> None:
        self.times.append(time)
        self.values.extend(face.scores.values())
        if self.alone:
            self.values.extend((face.unsmoothed or face).scores.values())
        self.values.append(float(face.certain))
        self.values.extend(getattr(face, name) for name in self.affect)
        for strip, lines in STRIPS.items():
            if self.measured[strip]:
                self.values.extend(getattr(getattr(face, strip), name, np.nan) for name, _ in lines)
        units = face.action_units or face.action_units_estimated or {}
        self.values.extend(units[name] for name in self.units)
        self.values.extend((face.blendshapes or {}).values())

    def varied(self) -> list[str]:
        """Return the action units that vary most."""
        if not self.units:
            return []
        table = np.frombuffer(self.values, np.float32).reshape(-1, self.width)
        first = self.width - len(self.blendshapes) - len(self.units)
        most = np.argsort(-table[:, first : first + len(self.units)].std(0), kind="stable")
        return [self.units[i] for i in most[:UNITS]]

    def shown(self, wanted: Sequence[str] | int) -> list[str]:
        """Return the blendshapes to show: those chosen, or those that vary most."""
        if not self.blendshapes:
            return []
        if not isinstance(wanted, int):
            return [name for name in wanted if name in self.blendshapes]
        table = np.frombuffer(self.values, np.float32).reshape(-1, self.width)[:, -len(self.blendshapes) :]
        most = np.argsort(-table.std(0), kind="stable")
        return [self.blendshapes[i] for i in most if self.blendshapes[i] != "_neutral"][:wanted]

    def table(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return times and values, averaged to `WIDEST` points, with NaN in frames in which this face was not visible."""
        values = np.full((len(frames), self.width), np.nan, np.float32)
        values[np.searchsorted(frames, self.times)] = np.frombuffer(self.values, np.float32).reshape(-1, self.width)
        step = -(-len(frames) // WIDEST)
        if step == 1:
            return frames, values
        whole = len(frames) // step * step
        grouped = values[:whole].reshape(-1, step, self.width)
        count = np.isfinite(grouped).sum(1)
        mean = np.where(count > 0, np.nan_to_num(grouped).sum(1) / np.maximum(count, 1), np.nan)
        return frames[:whole].reshape(-1, step).mean(1), mean

    def draw(self, axes: Sequence[Any], title: str, wanted: Sequence[str] | int, frames: np.ndarray) -> int:
        """Draw on the first axes, and return how many were used."""
        times, values = self.table(frames)
        count = len(self.labels)
        scores, alone = values[:, :count], values[:, count : 2 * count] if self.alone else None
        start = count * (2 if self.alone else 1)
        certain, affect = values[:, start], values[:, start + 1 : start + 1 + len(self.affect)]
        edge = (0.5 * float(np.median(np.diff(times))) if len(times) > 1 else 0.0) or 0.02
        extent = (float(times[0]) - edge, float(times[-1]) + edge)
        band, lines, *rest = axes
        band.imshow(self._band(scores, certain), aspect="auto", extent=(*extent, 0, 1), interpolation="nearest")
        band.set_title(title, loc="left", fontsize=10, fontweight="bold")
        band.set_yticks([])
        for i, label in enumerate(self.labels):
            ink = _ink(label)
            if alone is not None:
                lines.plot(times, alone[:, i], color=ink, linewidth=0.6, alpha=0.35)
            lines.plot(times, scores[:, i], color=ink, linewidth=1.6, label=label)
        lines.set_ylim(-0.02, 1.02)
        lines.set_ylabel("probability", fontsize=8)
        lines.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
        used = [band, lines]
        if self.affect:
            for i, name in enumerate(self.affect):
                rest[0].plot(times, affect[:, i], linewidth=1.4, label=name, color=("#b3541e", "#3d6fb4")[i])
            rest[0].axhline(0, color="#c4c9d0", linewidth=0.8, zorder=0)
            rest[0].set_ylim(-1.05, 1.05)
            rest[0].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
            used.append(rest.pop(0))
        column = start + 1 + len(self.affect)
        for strip, lines_of in STRIPS.items():
            if not self.measured[strip]:
                continue
            axis = rest.pop(0)
            for name, ink in lines_of:
                axis.plot(times, values[:, column], linewidth=1.2, label=f"{strip} {name}", color=ink)
                column += 1
            axis.axhline(0, color="#c4c9d0", linewidth=0.8, zorder=0)
            # A scale of at least 20 degrees, so that the noise of a still head does not fill the strip.
            low, high = axis.get_ylim()
            axis.set_ylim(min(low, -20), max(high, 20))
            axis.set_ylabel("degrees", fontsize=8)
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
            used.append(axis)
        for known, names in ((self.units, self.varied()), (self.blendshapes, self.shown(wanted))):
            if names:
                heat = rest.pop(0)
                chosen = values[:, [column + known.index(name) for name in names]]
                heat.set_facecolor("#e4e6ea")
                shown = heat.imshow(chosen.T, aspect="auto", extent=(*extent, len(names), 0), cmap="Blues", vmin=0, vmax=1)
                scale = heat.figure.colorbar(shown, cax=heat.inset_axes([1.01, 0.05, 0.01, 0.9]), ticks=[0, 1])
                scale.ax.tick_params(labelsize=7, length=2)
                scale.outline.set_visible(False)
                heat.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=7)
                used.append(heat)
            column += len(known)
        for place, axis in enumerate(used):
            axis.set_xlim(*extent)
            axis.tick_params(labelsize=7, length=2, labelbottom=place == len(used) - 1)
            for side in axis.spines.values():
                side.set_visible(False)
        return len(used)

    def _band(self, scores: np.ndarray, certain: np.ndarray) -> np.ndarray:
        """Return (1, T, 3) colors of the expressions; gray where the model abstains, nearly white without the face."""
        colors = np.array([_rgb(label) for label in self.labels])
        seen = np.isfinite(certain)
        band = np.full((len(scores), 3), 0.95)
        band[seen] = colors[np.nan_to_num(scores[seen]).argmax(1)]
        band[seen & (np.nan_to_num(certain) < 0.5)] = (0.84, 0.86, 0.88)
        return band[None]


def check_timeline(path: str | os.PathLike[str], *, inputs: Iterable[str] = (), overwrite: bool = True) -> None:
    """Check before any inference that a timeline can be drawn and written.

    Raises:
        ConfigError: an unknown extension, one of the inputs, or an existing file that mien did not write.
        MissingExtra: matplotlib is not installed.
    """
    check_output(path, "--timeline", SUFFIXES, MARK.encode(), inputs=inputs, overwrite=overwrite)
    _matplotlib()


def _rgb(label: str) -> np.ndarray:
    """Return the color of a class; the palest are darkened, to be visible on white."""
    color = np.array(COLORS.get(label, UNKNOWN)) / 255
    light = float(color @ [0.3, 0.59, 0.11])
    return color * min(1.0, 0.7 / light)


def _ink(label: str) -> tuple[float, float, float]:
    red, green, blue = _rgb(label).tolist()
    return red, green, blue


def _matplotlib() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("matplotlib", "eval") from None
    return Figure
