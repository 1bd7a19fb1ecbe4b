"""Why did the model answer that? Maps of what in a face speaks for a class, and numbers for eyes, nose and mouth.

| method | needs | what it says |
|---|---|---|
| `grad-cam` | weights | where the last maps of features speak for the class |
| `grad-cam++` | weights | the same, with a weight for each place |
| `integrated-gradients` | weights | which pixels raise the score above that of a plain face |
| `attention` | weights of a network that has attention | where it looks, whatever the class |
| `occlusion` | any file | where the probability falls when a patch is covered |

`.safetensors` files with their card and folders of runs are weights; exported files can be asked, but not looked into. Regions
(eyes, nose, mouth, elsewhere) are blurred in turn for any model: the numbers are falls of the class's probability.

    >>> import mien
    >>> found = mien.explain("mien-base", mien.sample(), method="occlusion")
    >>> found.label, sorted(found.regions)
    ('happiness', ['elsewhere', 'eyes', 'mouth', 'nose'])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MissingExtra, SourceError
from ..inference.recognizer import Recognizer, load
from ..io.images import DecodedImage, read_image
from ..registry import lookup
from ..runtime.devices import Device
from ..runtime.open_model import TORCH_SIDE
from ..types import Box, Face
from .explanation import Explanation, positive
from .faces import Asked, SeenFace, enlarged, see
from .occlusion import region_importance

__all__ = ["METHODS", "Explanation", "explain", "explain_face", "explain_seen", "fitting_method"]

Method = Callable[[Asked, SeenFace, int], Mapping[str, np.ndarray]]

METHODS: Mapping[str, str] = {
    "grad-cam": "mien.explaining.gradients:grad_cam",
    "grad-cam++": "mien.explaining.gradients:grad_cam_plus_plus",
    "integrated-gradients": "mien.explaining.gradients:integrated_gradients",
    "attention": "mien.explaining.attention:attention",
    "occlusion": "mien.explaining.occlusion:occlusion",
}
"""Name → function (model, face, index of the class) → layer or head → map of places."""

AUTO = "auto"
"""Grad-CAM where the model can be looked into, else occlusion."""

COARSE = 4
"""Places a side below which a map gets a note."""

NOTHING = "nothing in the face speaks for this class by this method"


def explain(
    model: str | Path | Recognizer,
    image: Any,
    *,
    method: str = AUTO,
    target: str | None = None,
    face: int | None = None,
    layers: Sequence[str] = (),
    detector: str = "blazeface",
    device: str | Device | None = None,
    **options: Any,
) -> Explanation:
    """Explain one face of an image.

    Args:
        model: whatever `mien.load` opens, or what it returned.
        image: path, URL, bytes, RGB array or PIL image.
        method: name in `METHODS`, or `"auto"`.
        target: the class to explain; None for the one that the model answers.
        face: which of the faces, as `mien.load` counts them; None for the largest.
        layers: modules that Grad-CAM looks at, by name; none for those that suit the architecture.
        detector: as for `mien.load`, where `model` is not open yet; `"whole"` if the image is one face crop.
        device: as for `mien.load`, likewise.
        options: as for `mien.io.images.read_image`.

    Raises:
        SourceError: the image cannot be read, or no such face was found in it.
        ConfigError: the model has no such class, or cannot be explained by this method.
        UnknownName: there is no such method or model.
        MissingExtra: the method needs torch or captum, and it is not installed.
    """
    read = model if isinstance(model, Recognizer) else load(model, detector=detector, blendshapes=False, device=device)
    seen = read_image(image, **options)
    faces = read(seen).faces
    if not faces:
        raise SourceError(f"no face was found in {seen.source}; detector='whole' takes the image as one face")
    if face is None:
        face = max(range(len(faces)), key=lambda index: faces[index].box.width * faces[index].box.height)
    if not 0 <= face < len(faces):
        raise SourceError(f"{seen.source} shows {len(faces)} faces; there is no face {face}, they count from 0")
    return explain_face(read, seen, faces[face], method, target, layers)


def explain_face(
    read: Recognizer,
    image: DecodedImage,
    face: Face,
    method: str = AUTO,
    target: str | None = None,
    layers: Sequence[str] = (),
) -> Explanation:
    """Explain a face that has been read; arguments as for `explain`."""
    whole = read.finder.detector is None
    seen = see(read.preprocess, image.pixels, face.points, whole=whole)
    return explain_seen(read, seen, method, target, source=image.source, box=face.box, layers=layers)


def explain_seen(
    read: Recognizer,
    seen: SeenFace,
    method: str,
    target: str | None,
    *,
    source: str,
    box: Box,
    regions: bool = True,
    layers: Sequence[str] = (),
) -> Explanation:
    """Explain a face that has been cut out; without `regions` only the map is made."""
    method = fitting_method(read, method)
    find = method_named(method)
    asked = Asked(read, layers)
    probabilities = asked.probabilities(seen, [seen.pixels])[0]
    index, best = asked.target(target, probabilities), int(probabilities.argmax())
    side = seen.pixels.shape[0]
    raw = find(asked, seen, index)
    maps = {name: positive(enlarged(found, side, side)) for name, found in raw.items()}
    notes = [] if any(found.any() for found in maps.values()) else [NOTHING]
    if (coarse := min(min(found.shape) for found in raw.values())) < COARSE:
        notes.append(f"the map has only {coarse} places a side: too few to tell eyes from mouth; an earlier layer has more")
    return Explanation(
        source=source,
        model=read.name,
        method=method,
        label=asked.card.labels[index],
        probability=float(probabilities[index]),
        predicted=asked.card.labels[best],
        confidence=float(probabilities[best]),
        box=box,
        image=seen.image,
        crop=seen.pixels,
        matrix=seen.matrix,
        maps=maps,
        regions=region_importance(asked, seen, index) if regions else {},
        notes=tuple(notes),
    )


def method_named(name: str) -> Method:
    """Return a method.

    Raises:
        UnknownName: there is none of this name.
        MissingExtra: torch or captum is not installed.
    """
    try:
        return lookup(name, METHODS, "method", plugins=False)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        raise (MissingExtra(missing, "train") if missing in {*TORCH_SIDE, "captum"} else error) from error


def fitting_method(read: Recognizer, method: str) -> str:
    """Return the method, or for `"auto"` the one that suits the model."""
    if method != AUTO:
        return method
    return "grad-cam" if hasattr(read.runtime, "network") else "occlusion"
