"""Contact sheets of explanations: a row per face or class, a column per map."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..data.datasets import Dataset
from ..data.labeled_faces import FaceFinder, Mode, found_faces, mode_for
from ..errors import ConfigError
from ..inference.recognizer import Recognizer
from ..types import Box
from ..visualization.faces import font
from . import explain_seen
from .explanation import Explanation, blend, positive
from .faces import enlarged, see

TILE = 160  # side of a tile in pixels
GAP = 6
INK, QUIET, WRONG, PAPER = (26, 30, 36), (98, 106, 116), (196, 72, 16), (255, 255, 255)
MOST = 8  # maximum number of maps per row


Tile = tuple[Image.Image, str, bool]  # image, caption below it, and whether the caption is highlighted


def table(rows: Sequence[tuple[str, str, Sequence[Tile]]], heads: Sequence[str], tile: int = TILE) -> Image.Image:
    """Return rows of tiles on white: (name, subtitle, tiles) per row, with column headings."""
    strong, plain = font(tile * 0.1), font(tile * 0.085)
    left = round(max([strong.getlength(name) for name, _, _ in rows] + [plain.getlength(more) for _, more, _ in rows]) + 24)
    top = round(tile * 0.17) if any(heads) else GAP
    under = round(tile * 0.15) if any(caption for _, _, tiles in rows for _, caption, _ in tiles) else 0
    step, columns = tile + under + GAP, max(len(tiles) for _, _, tiles in rows)
    canvas = Image.new("RGB", (left + columns * (tile + GAP) + GAP, top + len(rows) * step + GAP), PAPER)
    pen = ImageDraw.Draw(canvas)
    for column, head in enumerate(heads[:columns]):
        pen.text((left + column * (tile + GAP) + tile / 2, top / 2), _short(head, plain, tile), QUIET, plain, "mm")
    for row, (name, more, tiles) in enumerate(rows):
        y = top + row * step
        middle = y + tile / 2
        pen.text((left - 12, middle - (tile * 0.06 if more else 0)), name, INK, strong, "rm")
        pen.text((left - 12, middle + tile * 0.07), more, QUIET, plain, "rm")
        for column, (image, caption, warns) in enumerate(tiles):
            x = left + column * (tile + GAP)
            canvas.paste(image.resize((tile, tile), Image.Resampling.BICUBIC), (x, y))
            ink = WRONG if warns else QUIET
            pen.text((x + tile / 2, y + tile + under / 2), _short(caption, plain, tile), ink, plain, "mm")
    return canvas


def strip(explanations: Sequence[Explanation], tile: int = TILE) -> Image.Image:
    """Return an image with a row per face: the crop and the map of each method, or of each layer for a single method.

    Explanations of the same face (source and box) by several methods share a row. Raises ConfigError without explanations.
    """
    if not explanations:
        raise ConfigError("no explanations to show")
    methods = list(dict.fromkeys(each.method for each in explanations))
    rows, heads = [], []
    groups: dict[tuple[str, str], list[Explanation]] = {}
    for each in explanations:
        groups.setdefault((each.source, str(each.box)), []).append(each)
    blank = Image.new("RGB", (tile, tile), PAPER)
    for (source, _), group in groups.items():
        first, by_method = group[0], {each.method: each for each in group}
        names = list(first.maps) if len(methods) == 1 else []
        if 1 < len(names) <= MOST:
            images = [first.on_crop(side=tile), *(first.on_crop(name, tile) for name in names)]
            heads = ["face", f"{first.method}, mean", *names]
        else:
            images = [by_method[name].on_crop(side=tile) if name in by_method else blank for name in methods]
            heads = ["face", *methods]
        cells = [(image, "", False) for image in (first.face(tile), *images)]
        name = source if source.startswith("<") else Path(source).name
        name = name if len(name) <= 26 else f"{name[:12]}…{name[-12:]}"
        rows.append((name, f"{first.label} {first.probability:.0%}", cells))
    return table(rows, heads, tile)


def strips_per_class(
    recognizer: Recognizer,
    data: Dataset,
    number: int = 6,
    *,
    method: str = "auto",
    layers: Sequence[str] = (),
    faces: Mode = "auto",
    detector: str = "blazeface",
    seed: int = 0,
    tile: int = TILE,
) -> Image.Image:
    """Return a row for each class of a dataset: maps of `number` faces for their true class, and the mean of these maps.

    Faces are a random sample, whether the prediction is correct or not; wrong predictions are captioned. The last column shows
    the mean map on the mean face. `method` and `layers` are as for `explain`, the others as for `mien.evaluate`. Raises
    ConfigError: the model and the dataset share no class, no face was found, or `number` is below 1.
    """
    if number < 1:
        raise ConfigError(f"number of faces per class must be 1 or more, got {number}", value=number, expected="1 or more")
    finder = FaceFinder(
        mode_for(data, faces, cuts_faces=recognizer.preprocess.cuts_faces), detector, mesh=bool(recognizer.preprocess.regions)
    )
    known = recognizer.card.labels
    shared = [name for name in data.labels if name in known]
    if not shared:
        message = f"{recognizer.card.name} and {data.name} share no class: {', '.join(known)}; {', '.join(data.labels)}"
        raise ConfigError(message, value=data.labels, expected=known)
    rng = np.random.default_rng(seed)
    rows = []
    for label in shared:
        candidates = rng.permutation(np.flatnonzero(data.label == data.labels.index(label)))
        chosen = candidates[: number * 4].tolist()
        explained = (_explained(recognizer, data, row, finder, method, label, layers) for row in chosen)
        shown = list(itertools.islice((found for found in explained if found is not None), number))
        if not shown:
            continue
        cells: list[Tile] = []
        for found in shown:
            wrong = found.predicted != label
            caption = f"{found.predicted} {found.confidence:.0%}" if wrong else f"{found.probability:.0%}"
            cells.append((found.on_crop(side=tile), caption, wrong))
        ground = np.mean([np.asarray(found.face(tile), np.float64) for found in shown], 0)
        heat = positive(np.mean([enlarged(found.heat, tile, tile) for found in shown], 0))
        # The mean is always in the last column, also if fewer faces were found.
        cells += [(Image.new("RGB", (tile, tile), PAPER), "", False)] * (number - len(cells))
        cells.append((blend(Image.fromarray(np.rint(ground).astype(np.uint8)), heat), "mean", False))
        right = sum(found.predicted == label for found in shown)
        rows.append((label, f"{right} of {len(shown)} correct", cells))
    if not rows:
        raise ConfigError(f"no labeled face was found in {data.name}; if each image is a face crop, use --faces whole")
    return table(rows, [], tile)


def _explained(
    recognizer: Recognizer, data: Dataset, row: int, finder: FaceFinder, method: str, label: str, layers: Sequence[str]
) -> Explanation | None:
    face = found_faces(data, finder, [row]).get(row)
    if face is None:
        return None
    pixels = face.pixels
    seen = see(recognizer.preprocess, pixels, face.mesh, whole=face.box is None)
    box = Box(*face.box.tolist()) if face.box is not None else Box(0, 0, pixels.shape[1], pixels.shape[0])
    return explain_seen(recognizer, seen, method, label, source=face.sample, box=box, regions=False, layers=layers)


def _short(text: str, with_font: object, width: int) -> str:
    length = with_font.getlength  # pyrefly: ignore
    while length(text) > width and len(text) > 3:
        text = f"…{text.removeprefix('…')[1:]}"
    return text
