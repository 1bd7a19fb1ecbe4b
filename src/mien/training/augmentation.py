"""Variation of training images, on whole batches at once.

A recipe lists steps in order, each a table that names its `op`:

    augment = [
        { op = "flip" },
        { op = "maybe", p = 0.2, steps = [{ op = "rotate", degrees = 5 }, { op = "crop", padding = 0.0714 }] },
        { op = "normalize" },
        { op = "erase", scale = [0.02, 0.25] },
    ]
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, did_you_mean
from . import transforms as steps
from .config import MixConfig
from .transforms import Above, Amount, Chance, Dice, Interval, Quality, Shares


class Mix(NamedTuple):
    """How a batch was mixed: the loss is `share` times that of its targets plus the rest of that of `other`'s."""

    share: float
    other: Tensor


def mix_pairs(images: dict[str, Tensor], config: MixConfig, seed: int) -> tuple[dict[str, Tensor], Mix | None]:
    """Mix every image of a batch with another one.

    Mixup gives λ·a + (1 − λ)·b; CutMix puts a rectangle of b, of 1 − λ of the area, into a. λ is drawn once a batch from
    Beta(α, α); regions of a face are mixed as the face is, CutMix's rectangle at the same place of each.

    Args:
        images: name → (N, C, H, W).
        config: the alphas; with both, each batch draws one way.
        seed: what all draws follow from.

    Returns:
        The images, and how they were mixed; None if mixing is off.
    """
    if not (config.mixup or config.cutmix):
        return images, None
    random = np.random.default_rng(seed)
    first = next(iter(images.values()))
    cut = bool(config.cutmix) and (not config.mixup or random.random() < 0.5)
    alpha = config.cutmix if cut else config.mixup
    share, other = random.beta(alpha, alpha), torch.from_numpy(random.permutation(len(first)))
    if not cut:
        return {name: share * image + (1 - share) * image[other] for name, image in images.items()}, Mix(share, other)
    half, center = (1 - share) ** 0.5 / 2, random.random(2)
    low, high = np.clip(center - half, 0, 1), np.clip(center + half, 0, 1)
    mixed = {}
    for name, image in images.items():
        height, width = image.shape[2:]
        (top, left), (bottom, right) = np.rint(low * (height, width)).astype(int), np.rint(high * (height, width)).astype(int)
        mixed[name] = image.clone()
        mixed[name][:, :, top:bottom, left:right] = image[other][:, :, top:bottom, left:right]
    return mixed, Mix(1 - float(np.prod(high - low)), other)


__all__ = ["STEPS", "Dice", "augment", "check", "parameters"]

Steps = Annotated[Sequence[Mapping[str, Any]], "a list of steps"]


@dataclass(slots=True)
class Glance:
    """What the step `teacher` does: it keeps the image `image` as it is there; steps after it, of all images, draw from
    other dice.
    """

    dice: Dice
    image: Tensor | None = None
    """(N, C, H, W) float32 in 0 … 1; None where no step is `teacher`."""

    def keep(self, image_NCHW: Tensor) -> None:
        """Keep images as they are now; the steps that follow may change them in place."""
        self.image = image_NCHW.clone()


@dataclass(frozen=True, slots=True)
class Scene:
    """What a run says about the images, beside their steps."""

    normalize: Callable[[Tensor], Tensor]
    side: int
    look: Callable[[Tensor], None] | None
    """What the step `teacher` shows images to."""
    pupil: Dice | None
    """Where the draws of the steps after `teacher` come from; None: from where the others do."""


def augment(
    images: Mapping[str, Tensor],
    steps: Sequence[Mapping[str, Any]],
    dice: Dice,
    *,
    normalize: Callable[[Tensor], Tensor],
    size: Mapping[str, int],
    together: bool,
    glance: Glance | None = None,
) -> dict[str, Tensor]:
    """Vary the images of a batch.

    Args:
        images: name → (N, C, H, W) float32 in 0 … 1, C 1 or 3; they are left as they are.
        steps: what is done, in order; see `check`.
        dice: the draws.
        normalize: what the step `normalize` does; without that step it is done at the end.
        size: name → side of the images that come back. They are resized at the step `resize`, else just before `normalize`.
        together: whether all images of a face get the same draws, or each its own.
        glance: what the step `teacher` does; without it, it does nothing.

    Returns:
        Name → (N, C', side, side) float32, normalized.
    """
    ops = [step["op"] for step in steps]
    full = list(steps)
    if "normalize" not in ops:
        full.append({"op": "normalize"})
    if "resize" not in ops:
        full.insert([step["op"] for step in full].index("normalize"), {"op": "resize"})
    varied = {}
    for name, image in images.items():
        own = image.contiguous()
        own = own.clone() if own.data_ptr() == image.data_ptr() else own
        key = ("all",) if together else ("one", name)
        look = glance.keep if glance and name == "image" else None
        scene = Scene(normalize, size[name], look, glance.dice.of(*key) if glance else None)
        varied[name] = _vary(own, full, dice.of(*key), scene)
    return varied


def check(steps: Sequence[Mapping[str, Any]]) -> None:
    """Refuse steps that cannot be done.

    Args:
        steps: tables with `op`, a name in `STEPS`, and the parameters of that function.

    Raises:
        ConfigError: an unknown step (the nearest name is said), a parameter that is unknown, missing or of the wrong kind,
            a second `normalize`, `resize` or `teacher`, or one of them inside another step, or in the wrong order.

    Example:
        >>> check([{"op": "flip"}, {"op": "affine", "p": 0.7, "rotate": 20, "scale": [0.8, 1.0]}])
        >>> check([{"op": "flipp"}])
        Traceback (most recent call last):
        mien.errors.ConfigError: augment [0]: unknown step 'flipp'; did you mean 'flip'?
    """
    _check(steps, "augment")
    ops = [step["op"] for step in steps]
    for once in ONCE:
        if ops.count(once) > 1:
            raise ConfigError(f"augment: {once!r} occurs {ops.count(once)} times; images are brought there once")
    for first in ("resize", "teacher"):
        if {first, "normalize"} <= {*ops} and ops.index(first) > ops.index("normalize"):
            raise ConfigError(f"augment: {first!r} stands after 'normalize'; it belongs before")


def parameters(op: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of a step by name, their annotations resolved."""
    return dict(_signature(op))


def maybe(image_NCHW: Tensor, dice: Dice, scene: Scene, *, p: Chance, steps: Steps) -> Tensor:
    """Do several steps, or none of them: torchvision's `RandomApply`."""
    return _branch(image_NCHW, dice.chance(p), steps, dice, "then", scene)


def either(image_NCHW: Tensor, dice: Dice, scene: Scene, *, p: Chance, then: Steps, otherwise: Steps = ()) -> Tensor:
    """Do some steps with probability p, others if not: imgaug's `Sometimes`."""
    chosen = dice.chance(p)
    image_NCHW = _branch(image_NCHW, chosen, then, dice, "then", scene)
    return _branch(image_NCHW, ~chosen, otherwise, dice, "otherwise", scene)


def resize(
    image_NCHW: Tensor, dice: Dice, scene: Scene, *, method: Literal["pil-bilinear", "cv2-bilinear"] = "pil-bilinear"
) -> Tensor:
    """Bring images to the size that is asked for; without this step that happens just before `normalize`."""
    return steps.resized(image_NCHW, scene.side, method)


def normalize(image_NCHW: Tensor, dice: Dice, scene: Scene) -> Tensor:
    """Bring images to the network's value range; without this step that happens at the end."""
    return scene.normalize(image_NCHW)


def teacher(image_NCHW: Tensor, dice: Dice, scene: Scene) -> Tensor:
    """Show images to the network that is learned from (`distil.teacher`) as they are here; the rest only the pupil sees."""
    if scene.look:
        scene.look(image_NCHW)
    return image_NCHW


ONCE: dict[str, Callable[..., Tensor]] = {"resize": resize, "normalize": normalize, "teacher": teacher}
"""Steps that a recipe names at most once, outside of all others."""

FRAME: dict[str, Callable[..., Tensor]] = {"maybe": maybe, "either": either, **ONCE}
"""Steps that hold others or need to know what the run asks for."""

STEPS: dict[str, Callable[..., Tensor]] = {
    "flip": steps.flip,
    "vertical-flip": steps.vertical_flip,
    "affine": steps.affine,
    "rotate": steps.rotate,
    "crop": steps.crop,
    "erase": steps.erase,
    "color-jitter": steps.color_jitter,
    "light": steps.light,
    "blur": steps.blur,
    "coarse": steps.coarse,
    "jpeg": steps.jpeg,
    "noise": steps.noise,
    "gray": steps.gray,
    "value-gray": steps.value_gray,
    **FRAME,
}
"""Name → function of (images, dice, parameters by keyword)."""


def _vary(image: Tensor, steps: Sequence[Mapping[str, Any]], dice: Dice, scene: Scene) -> Tensor:
    for index, step in enumerate(steps):
        op, values = step["op"], {key: value for key, value in step.items() if key != "op"}
        extra = (scene,) if op in FRAME else ()
        image = STEPS[op](image, dice.of(index, op), *extra, **values)
        if op == "teacher" and scene.pupil:
            dice = scene.pupil
    return image


def _branch(image: Tensor, chosen: Tensor, steps: Steps, dice: Dice, key: str, scene: Scene) -> Tensor:
    rows = chosen.nonzero().flatten()
    if len(rows) and steps:
        image[rows] = _vary(image[rows], steps, dice.only(rows, key), scene)
    return image


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _within(value: Any, low: float, high: float) -> bool:
    pair = isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_number, value))
    return pair and low <= value[0] <= value[1] <= high


VALID: dict[Any, Callable[[Any], bool]] = {
    Chance: lambda value: _number(value) and 0 <= value <= 1,
    Amount: lambda value: _number(value) and value >= 0,
    Interval: lambda value: _within(value, -math.inf, math.inf),
    Above: lambda value: _within(value, math.ulp(0.0), math.inf),
    Shares: lambda value: _within(value, 0, 1),
    Quality: lambda value: _within(value, 1, 95),
    Annotated[int, "a whole number above 1"]: lambda value: type(value) is int and value > 1,
    bool: lambda value: isinstance(value, bool),
    Steps: lambda value: isinstance(value, (list, tuple)),
}


@cache
def _signature(op: str) -> tuple[tuple[str, inspect.Parameter], ...]:
    hints = get_type_hints(STEPS[op], include_extras=True)
    found = inspect.signature(STEPS[op]).parameters.items()
    return tuple((name, p.replace(annotation=hints[name])) for name, p in found if p.kind is p.KEYWORD_ONLY)


def _check(steps: Any, where: str, inside: bool = False) -> None:
    if not isinstance(steps, (list, tuple)):
        raise ConfigError(f"{where} must be a list of steps, not {steps!r}")
    for index, step in enumerate(steps):
        place = f"{where} [{index}]"
        if not isinstance(step, Mapping) or not isinstance(step.get("op"), str):
            raise ConfigError(f"{place} must be a table with op, a step's name: {{ op = 'flip' }}; it is {step!r}")
        op = step["op"]
        if op not in STEPS:
            raise ConfigError(f"{place}: unknown step {op!r}{did_you_mean(op, STEPS, _known(STEPS))}")
        if inside and op in ONCE:
            raise ConfigError(f"{place}: {op!r} is done to all images, so it cannot stand inside another step")
        _check_values(step, op, f"{place} ({op})")


def _check_values(step: Mapping[str, Any], op: str, place: str) -> None:
    known = parameters(op)
    for name, value in step.items():
        if name == "op":
            continue
        if name not in known:
            raise ConfigError(f"{place}: unknown parameter {name!r}{did_you_mean(name, known, _known(known))}")
        hint = known[name].annotation
        choices = get_args(hint) if hint not in VALID else ()
        if (value not in choices) if choices else not VALID[hint](value):
            wanted = f"one of {', '.join(choices)}" if choices else getattr(hint, "__metadata__", ("true or false",))[0]
            raise ConfigError(f"{place}: {name} must be {wanted}, not {value!r}")
        if hint == Steps:
            _check(value, f"{place} {name}", inside=True)
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in step:
            raise ConfigError(f"{place} lacks {name}")


def _known(names: Mapping[str, Any]) -> str:
    return f"; known: {', '.join(names) or 'none'}"
