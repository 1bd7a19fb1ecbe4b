"""Explanations of predictions: saliency maps of a face for a class, and the importance of eyes, nose and mouth.

| method | needs | shows |
|---|---|---|
| `grad-cam` | weights | locations whose last feature maps support the class |
| `grad-cam++` | weights | the same, weighted per location |
| `integrated-gradients` | weights | pixels that raise the score above that of a uniform face |
| `attention` | weights of a network with attention | attention maps, independent of the class |
| `occlusion` | any file | locations whose occlusion lowers the log-odds of the class |

Weights are `.safetensors` files with their card and run folders; exported files have no gradients. Region importance is the
drop of the log-odds when eyes, nose, mouth or the rest are blurred; it works for any model.

    >>> import mien
    >>> found = mien.explain("mien-base", mien.sample(), method="occlusion")
    >>> found.label, sorted(found.regions)
    ('happiness', ['elsewhere', 'eyes', 'mouth', 'nose'])
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TORCH_SIDE, SourceError, needs
from ..inference.recognizer import Recognizer, load
from ..io.images import DecodedImage, read_image
from ..registry import lookup
from ..runtime.devices import Device
from ..types import Box, Face
from .explanation import Explanation, positive
from .faces import Probe, SeenFace, enlarged, region_importance, see

__all__ = ["METHODS", "Explanation", "explain", "explain_face", "explain_seen", "fitting_method"]

Method = Callable[[Probe, SeenFace, int], Mapping[str, np.ndarray]]

METHODS: Mapping[str, str] = {
    "grad-cam": "mien.explaining.gradients:grad_cam",
    "grad-cam++": "mien.explaining.gradients:grad_cam_plus_plus",
    "integrated-gradients": "mien.explaining.gradients:integrated_gradients",
    "attention": "mien.explaining.gradients:attention",
    "occlusion": "mien.explaining.faces:occlusion",
}
"""Name → function (model, face, index of the class) → layer or head → map of places."""

AUTO = "auto"
"""Grad-CAM if the model has gradients, else occlusion."""

FAINT = 0.2
"""Occlusion maps whose largest drop of the log-odds is lower get a note."""

COARSE = 4
"""Maps with fewer locations per side get a note."""

NOTHING = "the map is empty: no location supports this class by this method"


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
        model: a recognizer, or any model that `mien.load` opens.
        image: path, URL, bytes, RGB array or PIL image.
        method: name in `METHODS`, or `"auto"`.
        target: class to explain; None: the predicted class.
        face: index of the face in the result; None: the largest face.
        layers: modules for Grad-CAM, by name; empty: the default of the architecture.
        detector: as for `mien.load`, unless `model` is a recognizer; `"whole"` if the image is one face crop.
        device: as for `mien.load`, unless `model` is a recognizer.
        options: as for `mien.io.images.read_image`.

    Raises:
        SourceError: the image is unreadable, or has no face of this index.
        ConfigError: the model lacks the class, or does not support the method.
        UnknownName: unknown method or model.
        MissingExtra: torch or captum is required but not installed.
    """
    recognizer = model if isinstance(model, Recognizer) else load(model, detector=detector, blendshapes=False, device=device)
    seen = read_image(image, **options)
    faces = recognizer(seen).faces
    if not faces:
        message = f"no face was found in {seen.source}; use detector='whole' if the image is a face crop"
        raise SourceError(message, path=seen.source)
    if face is None:
        face = max(range(len(faces)), key=lambda index: faces[index].box.width * faces[index].box.height)
    if not 0 <= face < len(faces):
        message = f"{seen.source}: face must be 0 to {len(faces) - 1}, got {face}"
        raise SourceError(message, path=seen.source, value=face, expected=range(len(faces)))
    return explain_face(recognizer, seen, faces[face], method, target, layers)


def explain_face(
    recognizer: Recognizer,
    image: DecodedImage,
    face: Face,
    method: str = AUTO,
    target: str | None = None,
    layers: Sequence[str] = (),
) -> Explanation:
    """Explain a face of a result; arguments as for `explain`."""
    seen = see(recognizer.preprocess, image.pixels, face.points, whole=recognizer.finder.detector is None)
    return explain_seen(recognizer, seen, method, target, source=image.source, box=face.box, layers=layers)


def explain_seen(
    recognizer: Recognizer,
    seen: SeenFace,
    method: str,
    target: str | None,
    *,
    source: str,
    box: Box,
    regions: bool = True,
    layers: Sequence[str] = (),
) -> Explanation:
    """Explain a cropped face; `regions=False` skips the region importance."""
    method = fitting_method(recognizer, method)
    find, probe = method_named(method), Probe(recognizer, layers)
    probabilities = probe.probabilities(seen, [seen.pixels])[0]
    index, best = probe.target(target, probabilities), int(probabilities.argmax())
    side, raw = seen.pixels.shape[0], find(probe, seen, index)
    maps = {name: positive(enlarged(found, side, side)) for name, found in raw.items()}
    strength = float(max(found.max() for found in raw.values()) if method == "occlusion" else np.nan)
    notes = [] if any(found.any() for found in maps.values()) else [NOTHING]
    if strength < FAINT:
        notes.append(f"no location matters by itself: covering one lowers the log-odds by {max(strength, 0):.2f} at most")
    if (coarse := min(min(found.shape) for found in raw.values())) < COARSE:
        about = f"the map has only {coarse} locations per side, too coarse to separate eyes from mouth"
        notes.append(f"{about}; choose an earlier layer")
    return Explanation(
        source=source,
        model=recognizer.name,
        method=method,
        label=probe.card.labels[index],
        probability=float(probabilities[index]),
        predicted=probe.card.labels[best],
        confidence=float(probabilities[best]),
        box=box,
        image=seen.image,
        crop=seen.pixels,
        matrix=seen.matrix,
        maps=maps,
        strength=None if np.isnan(strength) else strength,
        regions=region_importance(probe, seen, index) if regions else {},
        notes=tuple(notes),
    )


def method_named(name: str) -> Method:
    """Return a method by name; raises UnknownName, or MissingExtra without torch or captum."""
    with needs("train", among=TORCH_SIDE):
        return lookup(name, METHODS, "method", plugins=False)


def fitting_method(recognizer: Recognizer, method: str) -> str:
    """Resolve `"auto"` to the method for the model."""
    if method != AUTO:
        return method
    return "grad-cam" if hasattr(recognizer.runtime, "network") else "occlusion"
