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

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

import numpy as np

from .. import config as tables
from ..config import Fraction
from ..errors import ConfigError, did_you_mean, shown
from ..registry import LazyModule, lookup
from . import transforms
from .transforms import BatchRng

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
    """Blend all crops of a face, name → (N, C, H, W), with another face by λ·a + (1 − λ)·b, one λ from Beta(α, α) a batch."""
    random = np.random.default_rng(seed)
    first = next(iter(images.values()))
    share, other = random.beta(alpha, alpha), torch.from_numpy(random.permutation(len(first)))
    return {name: share * image + (1 - share) * image[other] for name, image in images.items()}, Mix(share, other)


@dataclass(slots=True)
class TeacherView:
    """The images at the transform `teacher`, for a teacher whose student sees further augmentation."""

    rng: BatchRng  # of the transforms after `teacher`
    image: Tensor | None = None  # (N, C, H, W) float32 in 0 … 1; None if no transform is `teacher`


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
        numbers = rng.derive(*key)
        given = {"resize": size[name], "normalize": normalize, "teacher": teacher_view if name == "image" else None}
        for index, step in enumerate(full):
            op = step["op"]
            own = _applied(step, own, given[op] if op in ONCE else numbers.derive(index, op))
            if op == "teacher" and teacher_view:
                numbers = teacher_view.rng.derive(*key)
        augmented[name] = own
    return augmented


def check(steps: Sequence[Step]) -> None:
    """Validate transforms: tables with `op`, a name in `TRANSFORMS` or `module:function`, and the parameters of that function.

    Raises ConfigError, UnknownName: unknown transform; unknown, missing or invalid parameter; `normalize`, `resize` or
    `teacher` repeated, nested, or in the wrong order.

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


def maybe(image_NCHW: Tensor, rng: BatchRng, *, p: Fraction, steps: Steps) -> Tensor:
    """Apply several transforms with probability p: torchvision's `RandomApply`."""
    return either(image_NCHW, rng, p=p, then=steps)


def either(image_NCHW: Tensor, rng: BatchRng, *, p: Fraction, then: Steps, otherwise: Steps = ()) -> Tensor:
    """Apply some transforms with probability p, otherwise others: imgaug's `Sometimes`."""
    chosen = rng.chance(p)
    for key, rows, steps in (("then", chosen, then), ("otherwise", ~chosen, otherwise)):
        if rows.any() and steps:
            part, numbers = image_NCHW[rows], rng.of(rows).derive(key)
            for index, step in enumerate(steps):
                part = _applied(step, part, numbers.derive(index, step["op"]))
            image_NCHW[rows] = part
    return image_NCHW


def normalize(image_NCHW: Tensor, convert: Callable[[Tensor], Tensor]) -> Tensor:
    """Convert to the value range of the network; applied last if not listed."""
    return convert(image_NCHW)


def teacher(image_NCHW: Tensor, view: TeacherView | None) -> Tensor:
    """Use the images at this point as the teacher's input (`distil.teacher`); later transforms apply to the student only."""
    if view:
        view.image = image_NCHW.clone()  # Later transforms may work in place.
    return image_NCHW


ONCE: dict[str, Callable[..., Tensor]] = {"resize": transforms.resize, "normalize": normalize, "teacher": teacher}
"""Transforms that occur at most once and cannot be nested; they depend on the run instead of random numbers."""

_NAMED = (
    transforms.flip, transforms.vertical_flip, transforms.affine, transforms.rotate, transforms.crop, transforms.erase,
    transforms.color_jitter, transforms.light, transforms.blur, transforms.coarse, transforms.jpeg, transforms.noise,
    transforms.gray, transforms.value_gray, maybe, either,
)  # fmt: skip
TRANSFORMS: dict[str, Callable[..., Tensor]] = {each.__name__.replace("_", "-"): each for each in _NAMED} | ONCE
"""Name → function of (images, random numbers, keyword parameters)."""


@cache
def parameters(op: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of a transform by name, with resolved annotations; raises UnknownName for an unknown one."""
    function = lookup(op, TRANSFORMS, "transform")
    hints = get_type_hints(function, include_extras=True)
    found = inspect.signature(function).parameters.items()
    return {name: p.replace(annotation=hints.get(name, Any)) for name, p in found if p.kind is p.KEYWORD_ONLY}


def _applied(step: Step, image: Tensor, given: Any) -> Tensor:
    parameters = {key: value for key, value in step.items() if key != "op"}
    return lookup(step["op"], TRANSFORMS, "transform")(image, given, **parameters)


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
