"""The single steps that vary training images, each on a whole batch at once.

A step takes (N, C, H, W) float32 images in 0 … 1 (C is 1 or 3), which it may change in place, and dice for them; it
returns the varied images. Lengths are fractions of the image's side, angles are degrees. A step with `p` touches each
image with that probability and works on those only.

The published recipes work on 8-bit images and round after every step; here values stay float32, so that single pixels
differ by up to one gray level a step.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


class Dice:
    """Draws for the images of one batch.

    Numbers are drawn for the whole batch and those of `part` are kept, so that two processes vary each image as one would.
    Neither the size of images nor the outcome of other draws moves a draw: images of several sizes stay in step.

    Args:
        seed: what all draws follow from.
        total: images of the global batch.
        part: those of this process.

    Example:
        >>> whole = Dice(1, 6, slice(0, 6)).uniform(0, 1)
        >>> bool((Dice(1, 6, slice(2, 6)).uniform(0, 1) == whole[2:]).all())
        True
    """

    def __init__(self, seed: int, total: int, part: slice) -> None:
        self.seed, self.total = seed, total
        self._rows = torch.arange(total)[part]
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, *key: int | str) -> Dice:
        """Return dice for one step or image: their draws follow from the seed and the key, and disturb no others."""
        text = repr((self.seed, key)).encode()
        child = Dice(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1, self.total, slice(0, 0))
        child._rows = self._rows
        return child

    def only(self, rows: Tensor, *key: int | str) -> Dice:
        """Return dice (see `of`) for some of the images, by their numbers (n,) among those of these dice."""
        child = self.of(*key)
        child._rows = self._rows[rows]
        return child

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return (n, *shape) float32 from [low, high)."""
        return torch.rand(self.total, *shape, generator=self._generator)[self._rows] * (high - low) + low

    def chance(self, p: float) -> Tensor:
        """Return (n,) bool, each true with probability p."""
        return self.uniform(0, 1) < p

    def permutation(self, length: int) -> Tensor:
        """Return (n, length) int64: the numbers 0 … length − 1 in an order of its own for each image."""
        return self.uniform(0, 1, length).argsort(1)

    def noise(self, *shape: int, normal: bool = False) -> Tensor:
        """Return (n, *shape) float32, uniform in [0, 1) or normal, from a generator of its own for each image."""
        seeds = torch.randint(1 << 62, (self.total,), generator=self._generator)[self._rows]
        values, own = torch.empty(len(self), *shape), torch.Generator()
        for value, seed in zip(values, seeds.tolist(), strict=True):
            own.manual_seed(seed)
            if normal:
                value.normal_(generator=own)
            else:
                value.uniform_(generator=own)
        return values


Chance = Annotated[float, "a number from 0 to 1"]
Amount = Annotated[float, "a number, 0 or more"]
Interval = Annotated[Sequence[float], "two numbers, the lower one first"]
Above = Annotated[Sequence[float], "two numbers above 0, the lower one first"]
Shares = Annotated[Sequence[float], "two numbers from 0 to 1, the lower one first"]
Quality = Annotated[Sequence[float], "two numbers from 1 to 95, the lower one first"]
Interpolation = Literal["nearest", "bilinear"]
Border = Literal["black", "mirror"]

LUMA = (0.299, 0.587, 0.114)
"""ITU-R 601 weights of red, green and blue."""


def flip(image_NCHW: Tensor, dice: Dice, *, p: Chance = 0.5) -> Tensor:
    """Exchange left and right."""
    return _some(image_NCHW, dice.chance(p), lambda image, rows: image.flip(3))


def vertical_flip(image_NCHW: Tensor, dice: Dice, *, p: Chance = 0.5) -> Tensor:
    """Exchange top and bottom."""
    return _some(image_NCHW, dice.chance(p), lambda image, rows: image.flip(2))


def affine(
    image_NCHW: Tensor,
    dice: Dice,
    *,
    p: Chance = 1.0,
    rotate: Amount = 0.0,
    scale: Above = (1.0, 1.0),
    translate: Amount = 0.0,
    whole_pixels: bool = True,
    interpolation: Interpolation = "nearest",
    border: Border = "black",
) -> Tensor:
    """Turn, scale and shift about the center in one resampling.

    The defaults are torchvision's `RandomAffine`; imgaug's `Affine` is `interpolation="bilinear"`. Both turn about
    ((W − 1) / 2, (H − 1) / 2) in pixel indices.

    Args:
        image_NCHW: the images.
        dice: their draws.
        p: share of images that are touched.
        rotate: the angle is uniform in ± this; positive is clockwise.
        scale: the factor is uniform in this, one for both axes; above 1 the face grows.
        translate: shifts are uniform in ± this fraction of the side, along each axis.
        whole_pixels: round shifts to whole pixels, as torchvision does.
        interpolation: how pixels between pixels are found.
        border: what comes in from outside: black, or the image mirrored about its outermost pixels (albumentations).
    """
    chosen, angle, factor = dice.chance(p), dice.uniform(-rotate, rotate), dice.uniform(scale[0], scale[1])
    shift = dice.uniform(-translate, translate, 2)

    def change(image: Tensor, rows: Tensor) -> Tensor:
        return warp(image, angle[rows], factor[rows], shift[rows], whole_pixels, interpolation, border)

    return _some(image_NCHW, chosen, change)


def rotate(
    image_NCHW: Tensor,
    dice: Dice,
    *,
    degrees: Amount,
    p: Chance = 1.0,
    interpolation: Interpolation = "nearest",
    border: Border = "black",
) -> Tensor:
    """Turn about the center, uniformly in ± `degrees`; positive is anticlockwise, as in torchvision's `RandomRotation`."""
    return affine(image_NCHW, dice, p=p, rotate=-degrees, interpolation=interpolation, border=border)


def warp(
    image_NCHW: Tensor,
    angle: Tensor,
    scale: Tensor,
    shift: Tensor,
    whole_pixels: bool = True,
    interpolation: Interpolation = "nearest",
    border: Border = "black",
) -> Tensor:
    """Turn, scale and shift images.

    Args:
        image_NCHW: N images.
        angle: (N,) degrees, clockwise.
        scale: (N,) factors.
        shift: (N, 2) fractions of width and height, to the right and down.
        whole_pixels: round shifts to whole pixels.
        interpolation: as for `affine`.
        border: as for `affine`.
    """
    height, width = image_NCHW.shape[2:]
    pixels = shift * torch.tensor([width, height])
    x, y = (pixels.round() if whole_pixels else pixels).unbind(1)
    cos, sin = (angle * (math.pi / 180)).cos() / scale, (angle * (math.pi / 180)).sin() / scale
    # From the place in the new image to that in the old one, in units of half the way between the outermost pixels.
    half_x, half_y = max(width - 1, 1) / 2, max(height - 1, 1) / 2
    theta = torch.stack(
        [
            torch.stack([cos, sin * (half_y / half_x), -(cos * x + sin * y) / half_x], 1),
            torch.stack([-sin * (half_x / half_y), cos, (sin * x - cos * y) / half_y], 1),
        ],
        1,
    )
    grid = functional.affine_grid(theta, [len(angle), 1, height, width], align_corners=True)
    padding = "zeros" if border == "black" else "reflection"
    return functional.grid_sample(image_NCHW, grid, mode=interpolation, padding_mode=padding, align_corners=True)


def crop(image_NCHW: Tensor, dice: Dice, *, padding: Amount, p: Chance = 1.0) -> Tensor:
    """Add a black border of `padding` sides all round and cut a random part of the old size out: torchvision's `RandomCrop`."""
    chosen, place = dice.chance(p), dice.uniform(0, 1, 2)
    sides = torch.tensor(image_NCHW.shape[2:])
    border = (sides * padding).round()
    shift = ((place * (2 * border + 1)).floor() - border).clamp(-sides, sides).int()  # from a side on, nothing is left to see

    def change(image: Tensor, rows: Tensor) -> Tensor:
        height, width = image.shape[2:]
        moved = torch.zeros_like(image)
        for new, old, (down, right) in zip(moved, image, shift[rows].tolist(), strict=True):
            new[:, max(-down, 0) : height - down, max(-right, 0) : width - right] = old[
                :, max(down, 0) : height + down, max(right, 0) : width + right
            ]
        return moved

    return _some(image_NCHW, chosen, change)


def erase(
    image_NCHW: Tensor,
    dice: Dice,
    *,
    p: Chance = 0.5,
    scale: Shares = (0.02, 0.33),
    ratio: Above = (0.3, 3.3),
    fill: Literal["zero", "noise"] = "zero",
) -> Tensor:
    """Cover a rectangle: torchvision's `RandomErasing` (Zhong et al. 2020).

    Args:
        image_NCHW: the images.
        dice: their draws.
        p: share of images that are touched.
        scale: the area is uniform in this share of the image.
        ratio: the logarithm of height / width is uniform between those of these. A rectangle that does not fit is drawn again,
            ten times at most.
        fill: zero, which is the mean color after normalization, or uniform noise in 0 … 1.
    """
    chosen, draws = dice.chance(p), dice.uniform(0, 1, 10, 4)
    height, width = image_NCHW.shape[2:]
    area = (draws[..., 0] * (scale[1] - scale[0]) + scale[0]) * (height * width)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (draws[..., 1] * (high - low) + low).exp()
    tall, wide = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (tall < height) & (wide < width)
    top, left = (draws[..., 2] * (height - tall + 1)).floor(), (draws[..., 3] * (width - wide + 1)).floor()
    first = fits.int().argmax(1, keepdim=True)
    boxes = torch.stack([top, left, tall, wide], 2).gather(1, first[..., None].expand(-1, 1, 4))[:, 0].int()
    rows = (chosen & fits.any(1)).nonzero().flatten()
    noise = dice.only(rows, "noise").noise(*image_NCHW.shape[1:]) if fill == "noise" else None
    for index, (row, (y, x, h, w)) in enumerate(zip(rows.tolist(), boxes[rows].tolist(), strict=True)):
        image_NCHW[row, :, y : y + h, x : x + w] = 0.0 if noise is None else noise[index, :, y : y + h, x : x + w]
    return image_NCHW


def color_jitter(
    image_NCHW: Tensor,
    dice: Dice,
    *,
    p: Chance = 1.0,
    brightness: Amount = 0.0,
    contrast: Amount = 0.0,
    saturation: Amount = 0.0,
) -> Tensor:
    """Change brightness, contrast and saturation, in an order drawn for each image: torchvision's `ColorJitter`.

    Each factor is uniform in 1 ± its amount, not below 0. Brightness multiplies; contrast mixes with the mean luma of the
    image; saturation mixes with its gray. Values are cut to 0 … 1 after each.
    """
    amounts = (brightness, contrast, saturation)
    chosen, order = dice.chance(p), dice.permutation(3)
    factors = torch.stack([dice.uniform(max(0.0, 1 - amount), 1 + amount) for amount in amounts], 1)

    def change(image: Tensor, rows: Tensor) -> Tensor:
        for turn in order[rows].unbind(1):
            if not any(amounts[kind] for kind in turn.unique().tolist()):
                continue
            factor = factors[rows].gather(1, turn[:, None])[:, :, None, None]
            mean = luma(image).mean((2, 3), keepdim=True) if contrast else 0.0
            other = mean * (turn == 1)[:, None, None, None]
            if saturation:
                other = other + luma(image) * (turn == 2)[:, None, None, None]
            image = (image.mul_(factor).add_(other * (1 - factor))).clamp_(0, 1)
        return image

    return _some(image_NCHW, chosen, change)


def light(image_NCHW: Tensor, dice: Dice, *, p: Chance = 1.0, contrast: Amount = 0.0, brightness: Amount = 0.0) -> Tensor:
    """Scale the contrast about the image's mean by 1 ± `contrast` and add ± `brightness`; values may leave 0 … 1 a little."""
    chosen, factor, offset = dice.chance(p), dice.uniform(1 - contrast, 1 + contrast), dice.uniform(-brightness, brightness)

    def change(image: Tensor, rows: Tensor) -> Tensor:
        mean, scale = image.mean((1, 2, 3)), factor[rows]
        return image.mul_(scale[:, None, None, None]).add_((mean * (1 - scale) + offset[rows])[:, None, None, None])

    return _some(image_NCHW, chosen, change)


def blur(image_NCHW: Tensor, dice: Dice, *, p: Chance = 1.0, sigma: Interval = (0.1, 2.0)) -> Tensor:
    """Blur by a Gaussian whose deviation, in pixels, is uniform in `sigma`; edges are mirrored, as torchvision does."""
    chosen, deviation = dice.chance(p), dice.uniform(sigma[0], sigma[1])
    radius = min(max(1, math.ceil(3 * sigma[1])), min(image_NCHW.shape[2:]) - 1)

    def change(image: Tensor, rows: Tensor) -> Tensor:
        n, channels, height, width = image.shape
        kernel = (-0.5 * (torch.arange(-radius, radius + 1) / deviation[rows, None].clamp(min=1e-3)) ** 2).exp()
        kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
        flat = functional.pad(image.reshape(1, n * channels, height, width), [radius] * 4, mode="reflect")
        flat = functional.conv2d(flat, kernel[:, None, :, None], groups=n * channels)
        return functional.conv2d(flat, kernel[:, None, None, :], groups=n * channels).reshape(image.shape)

    return _some(image_NCHW, chosen, change)


def coarse(image_NCHW: Tensor, dice: Dice, *, p: Chance = 1.0, factor: Annotated[int, "a whole number above 1"] = 2) -> Tensor:
    """Shrink by averaging and enlarge again, as if the face had been `factor` times smaller."""

    def change(image: Tensor, rows: Tensor) -> Tensor:
        small = functional.interpolate(image, scale_factor=1 / factor, mode="area")
        return functional.interpolate(small, size=image.shape[2:], mode="bilinear", align_corners=False)

    return _some(image_NCHW, dice.chance(p), change)


def jpeg(image_NCHW: Tensor, dice: Dice, *, p: Chance = 1.0, quality: Quality = (30, 95)) -> Tensor:
    """Store as JPEG and read again; the quality (1 … 95, Pillow's scale) is uniform in `quality`."""
    chosen, value = dice.chance(p), dice.uniform(quality[0], quality[1])

    def change(image: Tensor, rows: Tensor) -> Tensor:
        levels = image.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        for one, pixels, wanted in zip(image, levels, value[rows].round().int().tolist(), strict=True):
            file = io.BytesIO()
            Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(file, "JPEG", quality=wanted)
            stored = torch.from_numpy(np.array(Image.open(file)).reshape(pixels.shape))
            one.copy_(stored.permute(2, 0, 1)).div_(255)
        return image

    return _some(image_NCHW, chosen, change)


def noise(image_NCHW: Tensor, dice: Dice, *, p: Chance = 1.0, deviation: Amount = 0.05) -> Tensor:
    """Add normal noise whose deviation is uniform in 0 … `deviation`, and cut to 0 … 1."""
    chosen, amount = dice.chance(p), dice.uniform(0, deviation)

    def change(image: Tensor, rows: Tensor) -> Tensor:
        grain = dice.only(rows, "noise").noise(*image.shape[1:], normal=True)
        return image.addcmul_(grain, amount[rows, None, None, None]).clamp_(0, 1)

    return _some(image_NCHW, chosen, change)


def gray(image_NCHW: Tensor, dice: Dice, *, p: Chance = 1.0) -> Tensor:
    """Replace colors by luma."""
    return _some(image_NCHW, dice.chance(p), lambda image, rows: image.copy_(luma(image)))


def value_gray(image_NCHW: Tensor, dice: Dice, *, p: Chance = 1.0) -> Tensor:
    """Replace colors by the largest channel: imgaug's `RemoveSaturation(1)`."""
    return _some(image_NCHW, dice.chance(p), lambda image, rows: image.copy_(image.amax(1, keepdim=True)))


def luma(image_NCHW: Tensor) -> Tensor:
    """Return (N, 1, H, W)."""
    if image_NCHW.shape[1] == 1:
        return image_NCHW
    red, green, blue = image_NCHW.split(1, 1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def resized(image_NCHW: Tensor, side: int, method: str = "pil-bilinear") -> Tensor:
    """Return images of `side` × `side` pixels; Pillow's bilinear is antialiased, OpenCV's is not."""
    if image_NCHW.shape[2:] == (side, side):
        return image_NCHW
    return functional.interpolate(
        image_NCHW, size=(side, side), mode="bilinear", align_corners=False, antialias=method == "pil-bilinear"
    )


def _some(image_NCHW: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Change the chosen (n,) images, given with their row numbers, which may be done in place."""
    rows = chosen.nonzero().flatten()
    if len(rows) == 0:
        return image_NCHW
    if len(rows) == len(chosen):
        return change(image_NCHW, rows)
    image_NCHW[rows] = change(image_NCHW[rows], rows)
    return image_NCHW
