"""Timeline of a video: each face over time, as an image (PNG, SVG, PDF) or an HTML page.

For each face: a band of the expression (palest where the model abstains), the probabilities (thin and pale: of the frame
alone), valence and arousal if the model has them, head pose and gaze in degrees, and the action units and blendshapes that
varied most. Gaps are left where the face was not visible.
"""

import html
import io
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..io.files import atomic_write, check_output
from ..types import Face, Result
from .faces import COLORS, UNKNOWN
from .pages import STYLE, html_page
from .plotting import require_matplotlib

WIDEST = 1500
"""Maximum number of points of a line; more values are averaged over neighbors."""
FACES = 12
"""Maximum number of faces: those visible longest."""
INKS: Mapping[str, str] = {
    "valence": "#b3541e", "arousal": "#3d6fb4", "pitch": "#b3541e", "yaw": "#3d6fb4", "roll": "#5a8f3c",
}  # fmt: skip
"""Line → its color."""
QUIET = "#5a626d"
MEASURES = 6
"""Action units, and blendshapes, that are drawn: those that vary most."""
MARK = "mien timeline"
"""Metadata of every timeline, by which it is recognized when it is written again."""

SUFFIXES = (".png", ".svg", ".pdf", ".html")

MORE_STYLE = """
h2{margin-bottom:.2rem;overflow-wrap:anywhere}p{color:var(--soft);margin:.2rem 0}
svg{display:block;width:100%;min-width:680px;height:auto}
@media(prefers-color-scheme:dark){svg{filter:invert(.93) hue-rotate(180deg) brightness(1.4)}}
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

    def __init__(self) -> None:
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
            self._lines.setdefault(key, _Line(face)).add(result.time, face)

    def _name(self, source: str) -> str:
        return f"{source} ({again + 1})" if (again := self._again[source]) else source

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the timeline in the format of the suffix.

        Raises ConfigError: the suffix is not one of `SUFFIXES`, or the file cannot be written; MissingExtra: matplotlib is not
        installed.
        """
        path = Path(path)
        check_timeline(path)
        chosen = sorted(self._lines, key=lambda key: -len(self._lines[key].times))[:FACES]
        chosen.sort(key=lambda key: (list(self._frames).index(key[0]), key[1]))
        with atomic_write(path) as part:
            if path.suffix.lower() == ".html":
                part.write_text(self._page(chosen), encoding="utf-8")
            else:
                kind = path.suffix[1:].lower()
                metadata = {"Software" if kind == "png" else "Creator": MARK}
                self._figure(chosen).savefig(part, format=kind, dpi=110, metadata=metadata)

    def _page(self, chosen: Sequence[tuple[str, int]]) -> str:
        parts = [f"<!-- {MARK} -->", "<h1>Facial expressions over time</h1>"]
        for source, frames in self._frames.items():
            parts.append(f'<h2 title="{html.escape(source)}">{html.escape(Path(source).name)}</h2>')
            parts[-1] += f"<p>{len(frames)} frames, {frames[0]:.2f} to {frames[-1]:.2f} s</p>"
            for key in (key for key in chosen if key[0] == source):
                drawn = io.StringIO()
                self._figure([key]).savefig(drawn, format="svg")
                parts.append(f'<div class="scroll"><svg{drawn.getvalue().split("<svg", 1)[1]}</div>')
        return html_page("Timeline", parts if chosen else [*parts, "<p>No face found.</p>"], STYLE + MORE_STYLE)

    def _figure(self, chosen: Sequence[tuple[str, int]]) -> Any:
        from matplotlib.figure import Figure

        faces = [self._lines[key].strips(np.array(self._frames[key[0]])) for key in chosen]
        heights = [height for _, strips in faces for height, _ in strips]
        figure: Any = Figure(figsize=(11, max(sum(heights) * 1.18 + 0.75 * len(faces) + 0.3, 1.5)), layout="constrained")
        if not faces:
            figure.text(0.5, 0.5, "no face found", ha="center", va="center", color=QUIET)
            return figure
        figure.get_layout_engine().set(hspace=0.01, h_pad=0.03)
        axes = iter(figure.subplots(len(heights), 1, gridspec_kw={"height_ratios": heights}, squeeze=False)[:, 0])
        named = len({source for source, _ in chosen}) > 1
        for (source, number), (extent, strips) in zip(chosen, faces, strict=True):
            for place, (_, draw) in enumerate(strips):
                axis = next(axes)
                draw(axis)
                axis.set_xlim(*extent)
                axis.tick_params(labelsize=7, length=2, labelbottom=place == len(strips) - 1)
                axis.spines[:].set_visible(False)
                if place == len(strips) - 1:
                    axis.set_xlabel("seconds", fontsize=8, color=QUIET)
                if not place:
                    title = f"face {number}" + (f" · {Path(source).name}" if named else "")
                    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
        return figure


def _measures(face: Face) -> dict[str, dict[str, float]]:
    """Return strip → names and values of one frame."""
    units = face.action_units or face.action_units_estimated or {}
    affect = {"valence": face.valence, "arousal": face.arousal}
    return {
        "scores": dict(face.scores),
        "alone": dict(face.unsmoothed.scores) if face.unsmoothed is not None else {},
        "certain": {"": float(face.certain)},
        "affect": {name: value for name, value in affect.items() if value is not None},
        "pose": {} if face.pose is None else {name: getattr(face.pose, name) for name in ("pitch", "yaw", "roll")},
        "gaze": {} if face.pose is None else {name: getattr(face.gaze, name, np.nan) for name in ("yaw", "pitch")},
        "units": {name: value for name, value in units.items() if "_" not in name},
        "blendshapes": {name: value for name, value in (face.blendshapes or {}).items() if name != "_neutral"},
    }


class _Line:
    """The values of one face; its first frame determines which there are."""

    def __init__(self, face: Face) -> None:
        self.names = {strip: list(values) for strip, values in _measures(face).items()}
        self.times, self.values = array("d"), array("f")

    def add(self, time: float, face: Face) -> None:
        self.times.append(time)
        found = _measures(face)
        for strip, names in self.names.items():
            values = found[strip] or (found["scores"] if strip == "alone" else {})
            self.values.extend(values.get(name, np.nan) for name in names)

    def table(self, frames: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return times (T,), and strip → values (T, n), averaged to `WIDEST` points, NaN where the face was not visible."""
        width = sum(map(len, self.names.values()))
        values = np.full((len(frames), width), np.nan, np.float32)
        values[np.searchsorted(frames, self.times)] = np.frombuffer(self.values, np.float32).reshape(-1, width)
        step = -(-len(frames) // WIDEST)
        if step > 1:
            whole = len(frames) // step * step
            frames = frames[:whole].reshape(-1, step).mean(1)
            grouped = values[:whole].reshape(-1, step, width)
            count = np.isfinite(grouped).sum(1)
            values = np.where(count > 0, np.nan_to_num(grouped).sum(1) / np.maximum(count, 1), np.nan)
        ends = np.cumsum([len(names) for names in self.names.values()])[:-1]
        return frames, dict(zip(self.names, np.split(values, ends, 1), strict=True))

    def strips(self, frames: np.ndarray) -> tuple[tuple[float, float], list[tuple[float, Callable[[Any], None]]]]:
        """Return the first and last time, and the height of each strip with the function that draws it on its axes."""
        times, values = self.table(frames)
        edge = (0.5 * float(np.median(np.diff(times))) if len(times) > 1 else 0.0) or 0.02
        extent = (float(times[0]) - edge, float(times[-1]) + edge)
        found: list[tuple[float, Callable[[Any], None]]] = [
            (0.22, partial(self._band, extent, values)),
            (2.0, partial(self._scores, times, values)),
        ]
        lines = [strip for strip in ("affect", "pose", "gaze") if self.names[strip]]
        found += [(1.1, partial(self._lines, strip, times, values[strip])) for strip in lines]
        for strip in ("units", "blendshapes"):
            if known := self.names[strip]:
                seen = values[strip][np.isfinite(values[strip]).all(1)]
                most = (np.argsort(-seen.std(0), kind="stable") if len(seen) else np.arange(len(known)))[:MEASURES]
                found.append((0.24 * len(most), partial(_heat, extent, [known[i] for i in most], values[strip][:, most])))
        return extent, found

    def _band(self, extent: tuple[float, float], values: Mapping[str, np.ndarray], axis: Any) -> None:
        """Colors of the expressions; gray where the model abstains, nearly white without the face."""
        scores, certain = values["scores"], values["certain"][:, 0]
        seen = np.isfinite(certain)
        band = np.full((len(scores), 3), 0.95)
        band[seen] = np.array([_rgb(label) for label in self.names["scores"]])[scores[seen].argmax(1)]
        band[seen & (certain < 0.5)] = (0.84, 0.86, 0.88)
        axis.imshow(band[None], aspect="auto", extent=(*extent, 0, 1), interpolation="nearest")
        axis.set_yticks([])

    def _scores(self, times: np.ndarray, values: Mapping[str, np.ndarray], axis: Any) -> None:
        for i, label in enumerate(self.names["scores"]):
            ink = tuple(_rgb(label).tolist())
            if self.names["alone"]:
                axis.plot(times, values["alone"][:, i], color=ink, linewidth=0.6, alpha=0.35)
            axis.plot(times, values["scores"][:, i], color=ink, linewidth=1.6, label=label)
        axis.set_ylim(-0.02, 1.02)
        axis.set_ylabel("probability", fontsize=8)
        _legend(axis)

    def _lines(self, strip: str, times: np.ndarray, values: np.ndarray, axis: Any) -> None:
        for name, column in zip(self.names[strip], values.T, strict=True):
            axis.plot(times, column, linewidth=1.3, label=name if strip == "affect" else f"{strip} {name}", color=INKS[name])
        axis.axhline(0, color="#c4c9d0", linewidth=0.8, zorder=0)
        if strip == "affect":
            axis.set_ylim(-1.05, 1.05)
        else:  # A scale of at least 20 degrees, so that the noise of a still head does not fill the strip.
            low, high = axis.get_ylim()
            axis.set_ylim(min(low, -20), max(high, 20))
            axis.set_ylabel("degrees", fontsize=8)
        _legend(axis)


def _heat(extent: tuple[float, float], names: Sequence[str], values: np.ndarray, axis: Any) -> None:
    axis.set_facecolor("#e4e6ea")
    shown = axis.imshow(values.T, aspect="auto", extent=(*extent, len(names), 0), cmap="Blues", vmin=0, vmax=1)
    scale = axis.figure.colorbar(shown, cax=axis.inset_axes([1.01, 0.05, 0.01, 0.9]), ticks=[0, 1])
    scale.ax.tick_params(labelsize=7, length=2)
    scale.outline.set_visible(False)
    axis.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=7)


def _legend(axis: Any) -> None:
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)


def _rgb(label: str) -> np.ndarray:
    """Return the color of a class; the palest are darkened, to be visible on white."""
    color = np.array(COLORS.get(label, UNKNOWN)) / 255
    return color * min(1.0, 0.7 / float(color @ [0.3, 0.59, 0.11]))


def check_timeline(path: str | os.PathLike[str], *, inputs: Iterable[str] = (), overwrite: bool = True) -> None:
    """Check before any inference that a timeline can be drawn and written.

    Raises ConfigError: an unknown extension, one of the inputs, or an existing file that mien did not write; MissingExtra:
    matplotlib is not installed.
    """
    check_output(path, "--timeline", SUFFIXES, MARK.encode(), inputs=inputs, overwrite=overwrite)
    require_matplotlib()
