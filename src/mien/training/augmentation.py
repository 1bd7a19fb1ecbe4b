"""Augmentation of training images, described by a list of transforms.

A recipe lists transforms in order, each a table with its name (`op`) and parameters:

    augment = [
        { op = "flip" },
        { op = "maybe", p = 0.2, steps = [{ op = "rotate", degrees = 5 }, { op = "crop", padding = 0.0714 }] },
        { op = "normalize" },
        { op = "erase", scale = [0.02, 0.25] },
    ]

Own transforms are named `module:function`; see `mien.training.transforms` for their signature.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_type_hints

import numpy as np

from .. import config as tables
from ..errors import ConfigError, did_you_mean, shown
from ..registry import LazyModule, lookup
from . import transforms
from .transforms import BatchRng, Chance

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:  # as in `transforms`
    torch, Tensor = LazyModule("torch"), Any

Step = Mapping[str, Any]
Steps = tuple[dict[str, Any], ...]


class Mix(NamedTuple):
    """Mixing of a batch: the loss is `share` times the loss of its targets plus the rest times that of `other`'s."""

    share: float
    other: Tensor


def mixup(images: dict[str, Tensor], alpha: float, seed: int) -> tuple[dict[str, Tensor], Mix]:
    """Blend every image of a batch with another one, λ·a + (1 − λ)·b, with one λ from Beta(α, α) for the batch.

    All crops of a face, name → (N, C, H, W), are mixed in the same way.
    """
    random = np.random.default_rng(seed)
    first = next(iter(images.values()))
    share, other = random.beta(alpha, alpha), torch.from_numpy(random.permutation(len(first)))
    return {name: share * image + (1 - share) * image[other] for name, image in images.items()}, Mix(share, other)


@dataclass(slots=True)
class TeacherView:
    """The images at the transform `teacher`, for a teacher whose student sees further augmentation."""

    rng: BatchRng  # of the transforms after `teacher`
    image: Tensor | None = None  # (N, C, H, W) float32 in 0 … 1; None if no transform is `teacher`


@dataclass(frozen=True, slots=True)
class Context:
    """Settings of the run that some transforms need, for one input of the network."""

    normalize: Callable[[Tensor], Tensor]
    side: int
    view: TeacherView | None  # where `teacher` stores a copy of the images
    student: BatchRng | None  # random numbers after `teacher`; None: those of the other transforms


def augment(
    images: Mapping[str, Tensor],
    steps: Sequence[Step],
    rng: BatchRng,
    *,
    normalize: Callable[[Tensor], Tensor],
    size: Mapping[str, int],
    together: bool,
    teacher_view: TeacherView | None = None,
) -> dict[str, Tensor]:
    """Augment images, name → (N, C, H, W) float32 in 0 … 1, C 1 or 3, by transforms in order; see `check`.

    Returns name → (N, C', side, side) float32, normalized; `size` is name → side, at which images are resized at the transform
    `resize`, or just before `normalize`, which is applied last if it is not listed. With `together` all crops of a face get the
    same random numbers. `teacher_view` receives the images at the transform `teacher`.
    """
    full = list(steps)
    if all(step["op"] != "normalize" for step in full):
        full.append({"op": "normalize"})
    if all(step["op"] != "resize" for step in full):
        full.insert([step["op"] for step in full].index("normalize"), {"op": "resize"})
    augmented = {}
    for name, image in images.items():
        own = image.contiguous()
        own = own.clone() if own.data_ptr() == image.data_ptr() else own
        key = ("all",) if together else ("one", name)
        view = teacher_view if name == "image" else None
        context = Context(normalize, size[name], view, teacher_view.rng.derive(*key) if teacher_view else None)
        augmented[name] = _apply(own, full, rng.derive(*key), context)
    return augmented


def check(steps: Sequence[Step]) -> None:
    """Validate transforms: tables with `op`, a name in `TRANSFORMS` or `module:function`, and the parameters of that function.

    Raises:
        ConfigError, UnknownName: unknown transform; unknown, missing or invalid parameter; `normalize`, `resize` or `teacher`
            repeated, nested, or in the wrong order.

    Example:
        >>> check([{"op": "flip"}, {"op": "affine", "p": 0.7, "rotate": 20, "scale": [0.8, 1.0]}])
        >>> check([{"op": "flip", "q": 1}])
        Traceback (most recent call last):
        mien.errors.ConfigError: augment [0] (flip): unknown parameter 'q'; known: p
    """
    _check(steps, "augment")
    ops = [step["op"] for step in steps]
    for once in ONCE:
        if ops.count(once) > 1:
            raise ConfigError(f"augment: {once!r} occurs {ops.count(once)} times, expected at most once", value=once)
    for first in ("resize", "teacher"):
        if {first, "normalize"} <= {*ops} and ops.index(first) > ops.index("normalize"):
            raise ConfigError(f"augment: {first!r} must come before 'normalize'", value=first)


def maybe(image_NCHW: Tensor, rng: BatchRng, context: Context, *, p: Chance, steps: Steps) -> Tensor:
    """Apply several transforms with probability p: torchvision's `RandomApply`."""
    return _apply_to(image_NCHW, rng.chance(p), steps, rng, "then", context)


def either(image_NCHW: Tensor, rng: BatchRng, context: Context, *, p: Chance, then: Steps, otherwise: Steps = ()) -> Tensor:
    """Apply some transforms with probability p, otherwise others: imgaug's `Sometimes`."""
    chosen = rng.chance(p)
    image_NCHW = _apply_to(image_NCHW, chosen, then, rng, "then", context)
    return _apply_to(image_NCHW, ~chosen, otherwise, rng, "otherwise", context)


def resize(
    image_NCHW: Tensor, rng: BatchRng, context: Context, *, method: Literal["pil-bilinear", "cv2-bilinear"] = "pil-bilinear"
) -> Tensor:
    """Resize to the input size of the network; applied just before `normalize` if not listed."""
    return transforms.resized(image_NCHW, context.side, method)


def normalize(image_NCHW: Tensor, rng: BatchRng, context: Context) -> Tensor:
    """Convert to the value range of the network; applied last if not listed."""
    return context.normalize(image_NCHW)


def teacher(image_NCHW: Tensor, rng: BatchRng, context: Context) -> Tensor:
    """Use the images at this point as the teacher's input (`distil.teacher`); later transforms apply to the student only."""
    if context.view:
        context.view.image = image_NCHW.clone()  # Later transforms may work in place.
    return image_NCHW


ONCE: dict[str, Callable[..., Tensor]] = {"resize": resize, "normalize": normalize, "teacher": teacher}
"""Transforms that occur at most once and cannot be nested."""

WITH_CONTEXT: dict[str, Callable[..., Tensor]] = {"maybe": maybe, "either": either, **ONCE}
"""Transforms that contain others or depend on the settings of the run."""

_NAMED = (
    transforms.flip, transforms.vertical_flip, transforms.affine, transforms.rotate, transforms.crop, transforms.erase,
    transforms.color_jitter, transforms.light, transforms.blur, transforms.coarse, transforms.jpeg, transforms.noise,
    transforms.gray, transforms.value_gray,
)  # fmt: skip
TRANSFORMS: dict[str, Callable[..., Tensor]] = {each.__name__.replace("_", "-"): each for each in _NAMED} | WITH_CONTEXT
"""Name → function of (images, random numbers, keyword parameters)."""


@cache
def parameters(op: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of a transform by name, with resolved annotations; raises UnknownName for an unknown one."""
    function = lookup(op, TRANSFORMS, "transform")
    hints = get_type_hints(function, include_extras=True)
    found = inspect.signature(function).parameters.items()
    return {name: p.replace(annotation=hints.get(name, Any)) for name, p in found if p.kind is p.KEYWORD_ONLY}


def _apply(image: Tensor, steps: Sequence[Step], rng: BatchRng, context: Context) -> Tensor:
    for index, step in enumerate(steps):
        op, values = step["op"], {key: value for key, value in step.items() if key != "op"}
        extra = (context,) if op in WITH_CONTEXT else ()
        image = lookup(op, TRANSFORMS, "transform")(image, rng.derive(index, op), *extra, **values)
        if op == "teacher" and context.student:
            rng = context.student
    return image


def _apply_to(image: Tensor, chosen: Tensor, steps: Steps, rng: BatchRng, key: str, context: Context) -> Tensor:
    rows = chosen.nonzero().flatten()
    if len(rows) and steps:
        image[rows] = _apply(image[rows], steps, rng.derive(key, rows=rows), context)
    return image


def _check(steps: Any, where: str, nested: bool = False) -> None:
    for index, step in enumerate(steps):
        place = f"{where} [{index}]"
        if not isinstance(step, Mapping) or not isinstance(step.get("op"), str):
            example = "{ op = 'flip' }"
            raise ConfigError(f"{place} must be a table with the name of a transform, {example}, got {shown(step)}", value=step)
        op = tables.RENAMED.get(step["op"], step["op"])
        if op != step["op"]:
            raise ConfigError(f"{place}: {step['op']!r} was renamed {op!r} in mien 0.2", value=step["op"], expected=op)
        known = parameters(op)
        if nested and op in ONCE:
            raise ConfigError(f"{place}: {op!r} applies to all images and cannot be nested", value=op)
        place = f"{place} ({op})"
        for name, value in step.items():
            if name == "op":
                continue
            if name not in known:
                hint = did_you_mean(name, known, f"; known: {', '.join(known) or 'none'}")
                raise ConfigError(f"{place}: unknown parameter {name!r}{hint}", value=name, expected=tuple(known))
            tables.convert(known[name].annotation, value, f"{place}: {name}")
            if known[name].annotation == Steps:
                _check(value, f"{place} {name}", nested=True)
        missing = [name for name, each in known.items() if each.default is each.empty and name not in step]
        if missing:
            raise ConfigError(f"{place}: missing {', '.join(missing)}", expected=tuple(missing))
