"""The explanation of one face and its rendering as a heat map on the photo.

The color map runs from dark violet to pale yellow with monotonically increasing lightness, readable in gray and for color-blind
readers. The photo shows through where values are low.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..faces.alignment import apply, invert, warp
from ..io.files import atomic_write
from ..types import Box
from ..visualization import shapes
from ..visualization.faces import font, magnified
from .faces import enlarged

RAMP = np.array([
    (26, 12, 62), (85, 15, 109), (136, 34, 106), (186, 54, 85), (227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164),
])  # fmt: skip
"""Color map, evenly spaced from 0 to 1."""
STRONGEST = 0.72  # opacity at 1
SMALL = 640  # photos with a shorter longest side are enlarged by an integer factor before drawing


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Explanation of one face for one class by one method."""

    source: str
    """Name of the image."""
    model: str
    """Name and version of the model."""
    method: str
    """Name in `mien.explaining.METHODS`."""
    label: str
    """Explained class."""
    probability: float
    """Probability of the explained class."""
    predicted: str
    """Predicted class."""
    confidence: float
    """Probability of the predicted class."""
    box: Box
    """Bounding box in pixels of the photo."""
    image: np.ndarray = field(repr=False)
    """(H, W, 3) uint8 RGB, the photo."""
    crop: np.ndarray = field(repr=False)
    """(S, S, 3) uint8 RGB, the face crop of the network."""
    matrix: np.ndarray = field(repr=False)
    """(2, 3) affine transform from the photo to the crop."""
    maps: Mapping[str, np.ndarray] = field(repr=False)
    """Layer, head or block → (S, S) float32 in 0 … 1; a single unnamed map for methods without layers."""
    strength: float | None = None
    """Drop of the log-odds of the class where the occlusion map is 1; None for other methods, whose maps have no unit."""
    regions: Mapping[str, float] = field(default_factory=dict)
    """Eyes, nose, mouth, elsewhere → drop of the log-odds of the class when the region is blurred."""
    notes: tuple[str, ...] = ()
    """Caveats."""

    @property
    def heat(self) -> np.ndarray:
        """(S, S) float32 in 0 … 1: the mean of the maps, scaled to a maximum of 1; all zeros without support."""
        return positive(np.mean(list(self.maps.values()), 0))

    def overlay(self) -> Image.Image:
        """Return the photo with the heat map and a caption."""
        image, scale = magnified(self.image, SMALL)
        back = invert(self.matrix)
        on_canvas = np.concatenate([back[:, :2] * scale, back[:, 2:] * scale + (scale - 1) / 2], 1)
        image = lay(image, self.heat, invert(on_canvas))
        corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]) * self.crop.shape[0] - 0.5
        stroke = max((image.width * image.height) ** 0.5 / 450, 1.2)
        shapes.lines(image, [apply(on_canvas, corners)], (236, 238, 242), stroke)
        return _captioned(image, self)

    def on_crop(self, name: str | None = None, side: int | None = None) -> Image.Image:
        """Return the crop with one of the maps, or with `heat`, `side` pixels per side."""
        side = side or self.crop.shape[0]
        heat = self.heat if name is None else self.maps[name]
        return blend(self.face(side), enlarged(heat, side, side).clip(0, 1))

    def face(self, side: int) -> Image.Image:
        """Return the face cropped from the photo with `side` pixels per side."""
        scale = side / self.crop.shape[0]
        matrix = np.concatenate([self.matrix[:, :2] * scale, self.matrix[:, 2:] * scale + (scale - 1) / 2], 1)
        # Replicate the border, so that a photo that is itself a face crop gets no dark rim.
        wider = np.pad(self.image, ((2, 2), (2, 2), (0, 0)), "edge")
        matrix[:, 2] -= matrix[:, :2] @ [2, 2]
        return Image.fromarray(warp(wider, matrix, side))

    def save(self, path: str | Path) -> Path:
        """Write `overlay` to a file atomically, in the format of its extension; errors as of `write_image`."""
        path = Path(path)
        write_image(self.overlay(), path)
        return path

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without images and maps."""
        plain = ("model", "method", "label", "probability", "predicted", "confidence")
        return {
            "source": self.source,
            "status": "ok",
            **{name: getattr(self, name) for name in plain},
            "box": [self.box.left, self.box.top, self.box.right, self.box.bottom],
            "strength": self.strength,
            "regions": dict(self.regions),
            "center": _center(self.heat),
            "notes": list(self.notes),
        }


def write_image(image: Image.Image, path: Path) -> None:
    """Write an image atomically, in the format of its extension; raises ValueError for an unknown one."""
    kinds = Image.registered_extensions()
    if path.suffix.lower() not in kinds:
        raise ValueError(f"{path.name!r}: unknown image extension {path.suffix!r}; use .png or .jpg")
    with atomic_write(path) as part:
        image.save(part, kinds[path.suffix.lower()], **({"quality": 92} if path.suffix.lower() in (".jpg", ".jpeg") else {}))


def positive(values: np.ndarray) -> np.ndarray:
    """Return the positive part as float32 of the same shape, scaled to a maximum of 1; all zeros if no value is positive."""
    kept = np.maximum(np.nan_to_num(values), 0)
    peak = float(kept.max())
    return (kept / peak).astype(np.float32) if peak > 1e-9 else np.zeros(kept.shape, np.float32)


def colors(heat: np.ndarray) -> np.ndarray:
    """Map values in 0 … 1 to (…, 3) float colors in 0 … 255."""
    places = np.linspace(0, 1, len(RAMP))
    return np.stack([np.interp(heat, places, channel) for channel in RAMP.T], -1)


def blend(image: Image.Image, heat: np.ndarray, inside: np.ndarray | float = 1.0) -> Image.Image:
    """Blend a heat map (H, W) in 0 … 1 over an image of that size with proportional opacity; `inside` masks it."""
    pixels, inside = np.asarray(image.convert("RGB"), np.float64), np.asarray(inside)[..., None]
    gray = (pixels @ [0.299, 0.587, 0.114])[..., None]
    alpha = (STRONGEST * np.clip(heat, 0, 1) ** 0.7)[..., None] * inside
    ground = pixels + (gray - pixels) * 0.6 * inside  # Heat is easier to see on desaturated color.
    return Image.fromarray(np.rint(ground * (1 - alpha) + colors(heat) * alpha).astype(np.uint8))


def lay(image: Image.Image, heat: np.ndarray, matrix: np.ndarray) -> Image.Image:
    """Blend the heat map (h, w) of a crop over the whole image; `matrix` (2, 3) maps the image to the crop."""
    data = (*matrix[0, :2], matrix[0] @ [-0.5, -0.5, 1] + 0.5, *matrix[1, :2], matrix[1] @ [-0.5, -0.5, 1] + 0.5)
    size = image.size

    def moved(values: np.ndarray) -> np.ndarray:
        layer = Image.fromarray(values.astype(np.float32))
        return np.asarray(layer.transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR))

    return blend(image, moved(heat).clip(0, 1), moved(np.ones(heat.shape)).clip(0, 1))


def _captioned(image: Image.Image, explanation: Explanation) -> Image.Image:
    """Add a bar with the class, the method and the color scale."""
    em = max(min((image.size[0] * image.size[1]) ** 0.5 / 42, image.size[0] / 28), 11)
    bar = round(em * 2.6)
    canvas = Image.new("RGB", (image.size[0], image.size[1] + bar), shapes.DARK)
    canvas.paste(image)
    pen, middle = ImageDraw.Draw(canvas), image.size[1] + bar / 2
    strong, plain = font(em), font(em * 0.84)
    title = f"{explanation.label} {explanation.probability:.0%}"
    pen.text((em, middle), title, (246, 247, 249), strong, "lm")
    rest = explanation.method
    if explanation.predicted != explanation.label:
        rest += f"; predicted {explanation.predicted} {explanation.confidence:.0%}"
    least, most = ("less", "more") if explanation.strength is None else ("0", f"-{explanation.strength:.1f} log-odds")
    start, length = em * 1.9 + strong.getlength(title), round(em * 5)
    right = image.size[0] - em - plain.getlength(most) - em * 0.4
    left = right - length
    room = left - plain.getlength(least) - em * 0.8 - start
    if plain.getlength(rest) > room:
        rest = explanation.method if plain.getlength(explanation.method) <= room else ""
    pen.text((start, middle), rest, (166, 172, 180), plain, "lm")
    if room > 0:
        ramp = np.broadcast_to(colors(np.linspace(0, 1, length)), (max(round(em * 0.55), 4), length, 3))
        canvas.paste(Image.fromarray(np.rint(ramp).astype(np.uint8)), (round(left), round(middle - em * 0.27)))
        pen.text((left - em * 0.4, middle), least, (166, 172, 180), plain, "rm")
        pen.text((image.size[0] - em, middle), most, (166, 172, 180), plain, "rm")
    return canvas


def _center(heat: np.ndarray) -> list[float] | None:
    """Return x and y of the center of mass of the heat map, relative to the crop."""
    total = float(heat.sum())
    if total <= 0:
        return None
    rows, columns = (np.arange(side) + 0.5 for side in heat.shape)
    return [float(heat.sum(0) @ columns / total / heat.shape[1]), float(heat.sum(1) @ rows / total / heat.shape[0])]
