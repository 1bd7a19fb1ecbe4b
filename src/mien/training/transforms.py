"""Random transforms of training images, each applied to a whole batch at once.

A transform takes (N, C, H, W) float32 images in 0 … 1 (C is 1 or 3), which it may modify in place, and a `BatchRng`; it
returns the transformed images. Lengths are fractions of the image side, angles are in degrees. Transforms below `sometimes`
have the parameter `p`: each image is changed with that probability.

Published recipes transform 8-bit images and round after every transform. Values stay float32 here, so single pixels differ by
up to one gray level per transform.
"""

import copy
import functools
import hashlib
import inspect
import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from PIL import Image

from ..config import Amount, Fraction, Range
from ..registry import LazyModule

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import functional
else:  # The parameters of transforms are checked without torch, whose import takes a second.
    torch, functional, Tensor = LazyModule("torch"), LazyModule("torch.nn.functional"), Any


class BatchRng:
    """Random numbers for the images of one batch of `total` images, of which this process has `part`.

    Numbers are drawn for the whole batch and those of `part` are kept, so that several processes together augment a batch
    exactly as one process would. Draws depend neither on the image size nor on the results of other draws: several crops of
    one face get the same random transforms.

    Example:
        >>> whole = BatchRng(1, 6, slice(0, 6)).uniform(0, 1)
        >>> bool((BatchRng(1, 6, slice(2, 6)).uniform(0, 1) == whole[2:]).all())
        True
    """

    def __init__(self, seed: int, total: int, part: slice) -> None:
        self.seed, self.total = seed, total
        self._rows = torch.arange(total)[part]
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._rows)

    def derive(self, *key: int | str) -> "BatchRng":
        """Return an independent generator, for the same images, seeded by this one's seed and a key."""
        child = BatchRng(hash_of(self.seed, key), self.total, slice(0, 0))
        child._rows = self._rows
        return child

    def of(self, rows: Tensor) -> "BatchRng":
        """Return this generator for some of its images, by row number (n,): the same numbers, fewer of them."""
        part = copy.copy(self)
        part._rows = self._rows[rows]
        return part

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return (n, *shape) float32 from [low, high)."""
        return torch.rand(self.total, *shape, generator=self._generator)[self._rows] * (high - low) + low

    def chance(self, p: float) -> Tensor:
        """Return (n,) bool, each true with probability p."""
        return self.uniform(0, 1) < p

    def permutation(self, length: int) -> Tensor:
        """Return (n, length) int64: an independent permutation of 0 … length − 1 for each image."""
        return self.uniform(0, 1, length).argsort(1)

    def noise(self, *shape: int, normal: bool = False) -> Tensor:
        """Return (n, *shape) float32, uniform in [0, 1) or standard normal, from a separate generator for each image."""
        seeds = torch.randint(1 << 62, (self.total,), generator=self._generator)[self._rows]
        values, own = torch.empty(len(self), *shape), torch.Generator()
        for value, seed in zip(values, seeds.tolist(), strict=True):
            own.manual_seed(seed)
            if normal:
                value.normal_(generator=own)
            else:
                value.uniform_(generator=own)
        return values


def hash_of(*key: int | str | tuple[int | str, ...]) -> int:
    """Return a 63-bit seed derived from numbers and words."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


Interval = Annotated[tuple[float, float], Range()]
Above = Annotated[tuple[float, float], Range(0, open=True)]
Shares = Annotated[tuple[float, float], Range(0, 1)]
Quality = Annotated[tuple[float, float], Range(1, 95)]
Interpolation = Literal["nearest", "bilinear"]
Border = Literal["black", "mirror"]
Filling = Literal["zero", "noise"]

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601 weights of red, green and blue


def sometimes(default: float = 1.0) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Return a decorator that adds the parameter `p`: the transform, which may work in place, sees the chosen images only."""

    def decorated(change: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(change)
        def transform(image_NCHW: Tensor, rng: BatchRng, *, p: float = default, **parameters: Any) -> Tensor:
            rows = rng.chance(p).nonzero().flatten()
            if len(rows) == 0:
                return image_NCHW
            if len(rows) == len(image_NCHW):
                return change(image_NCHW, rng, **parameters)
            image_NCHW[rows] = change(image_NCHW[rows], rng.of(rows), **parameters)
            return image_NCHW

        images, numbers, *own = inspect.signature(change).parameters.values()
        chance = inspect.Parameter("p", inspect.Parameter.KEYWORD_ONLY, default=default)
        transform.__signature__ = inspect.Signature([images, numbers, chance, *own])  # pyrefly: ignore
        transform.__annotations__ = {**change.__annotations__, "p": Fraction}
        return transform

    return decorated


@sometimes(0.5)
def flip(image_NCHW: Tensor, rng: BatchRng) -> Tensor:
    """Flip horizontally."""
    return image_NCHW.flip(3)


@sometimes(0.5)
def vertical_flip(image_NCHW: Tensor, rng: BatchRng) -> Tensor:
    """Flip vertically."""
    return image_NCHW.flip(2)


@sometimes()
def affine(
    image_NCHW: Tensor,
    rng: BatchRng,
    *,
    rotate: Amount = 0.0,
    scale: Above = (1.0, 1.0),
    translate: Amount = 0.0,
    whole_pixels: bool = True,
    interpolation: Interpolation = "nearest",
    border: Border = "black",
) -> Tensor:
    """Rotate, scale and translate about the center with a single resampling.

    The defaults match torchvision's `RandomAffine`; `interpolation="bilinear"` matches imgaug's `Affine`. The center is
    ((W − 1) / 2, (H − 1) / 2) in pixel indices. Angles are uniform in ± `rotate`, positive is clockwise; the factor of both
    axes is uniform in `scale`, above 1 the face grows; shifts are uniform in ± `translate` of the side, by default in whole
    pixels. The border is black, or a reflection about the outermost pixels (albumentations).
    """
    angle, factor, shift = rng.uniform(-rotate, rotate), rng.uniform(*scale), rng.uniform(-translate, translate, 2)
    return warp(image_NCHW, angle, factor, shift, whole_pixels, interpolation, border)


@sometimes()
def rotate(
    image_NCHW: Tensor, rng: BatchRng, *, degrees: Amount, interpolation: Interpolation = "nearest", border: Border = "black"
) -> Tensor:
    """Rotate about the center, uniformly in ± `degrees`; positive is counterclockwise, as in torchvision's `RandomRotation`."""
    angle = rng.uniform(degrees, -degrees)
    return warp(image_NCHW, angle, torch.ones(len(rng)), torch.zeros(len(rng), 2), True, interpolation, border)


def warp(
    image_NCHW: Tensor,
    angle: Tensor,
    scale: Tensor,
    shift: Tensor,
    whole_pixels: bool = True,
    interpolation: Interpolation = "nearest",
    border: Border = "black",
) -> Tensor:
    """Rotate images by angles (N,) in degrees, clockwise, scale them by factors (N,), and translate them.

    Shifts (N, 2) are fractions of width and height, to the right and down; `interpolation` and `border` are as for `affine`.
    """
    height, width = image_NCHW.shape[2:]
    pixels = shift * torch.tensor([width, height])
    x, y = (pixels.round() if whole_pixels else pixels).unbind(1)
    cos, sin = (angle * (math.pi / 180)).cos() / scale, (angle * (math.pi / 180)).sin() / scale
    # `affine_grid` needs the inverse transform, which maps output coordinates to input coordinates. Both axes are normalized so
    # that the centers of the outermost pixels are at −1 and 1, hence the aspect ratio in the off-diagonal terms.
    half_x, half_y = max(width - 1, 1) / 2, max(height - 1, 1) / 2
    first = torch.stack([cos, sin * (half_y / half_x), -(cos * x + sin * y) / half_x], 1)
    second = torch.stack([-sin * (half_x / half_y), cos, (sin * x - cos * y) / half_y], 1)
    theta = torch.stack([first, second], 1)
    grid = functional.affine_grid(theta, [len(angle), 1, height, width], align_corners=True)
    padding = "zeros" if border == "black" else "reflection"
    return functional.grid_sample(image_NCHW, grid, mode=interpolation, padding_mode=padding, align_corners=True)


@sometimes()
def crop(image_NCHW: Tensor, rng: BatchRng, *, padding: Amount) -> Tensor:
    """Pad with a black border of `padding` sides and crop to the original size at random: torchvision's `RandomCrop`."""
    height, width = image_NCHW.shape[2:]
    sides = torch.tensor([height, width])
    border = (sides * padding).round()
    # Larger shifts leave a black image.
    shift = ((rng.uniform(0, 1, 2) * (2 * border + 1)).floor() - border).clamp(-sides, sides).int()
    moved = torch.zeros_like(image_NCHW)
    for new, old, (down, right) in zip(moved, image_NCHW, shift.tolist(), strict=True):
        part = old[:, max(down, 0) : height + down, max(right, 0) : width + right]
        new[:, max(-down, 0) : height - down, max(-right, 0) : width - right] = part
    return moved


@sometimes(0.5)
def erase(
    image_NCHW: Tensor, rng: BatchRng, *, scale: Shares = (0.02, 0.33), ratio: Above = (0.3, 3.3), fill: Filling = "zero"
) -> Tensor:
    """Erase a rectangle: torchvision's `RandomErasing` (Zhong et al. 2020).

    `scale` is the range of the area, as a fraction of the image, `ratio` that of height / width, uniform in its logarithm.
    Rectangles that do not fit are redrawn up to ten times. They are filled with zero, which is the mean color after
    normalization, or with uniform noise in 0 … 1.
    """
    draws = rng.uniform(0, 1, 10, 4)
    height, width = image_NCHW.shape[2:]
    area = (draws[..., 0] * (scale[1] - scale[0]) + scale[0]) * (height * width)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (draws[..., 1] * (high - low) + low).exp()
    tall, wide = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (tall < height) & (wide < width)
    top, left = (draws[..., 2] * (height - tall + 1)).floor(), (draws[..., 3] * (width - wide + 1)).floor()
    first = fits.int().argmax(1, keepdim=True)
    boxes = torch.stack([top, left, tall, wide], 2).gather(1, first[..., None].expand(-1, 1, 4))[:, 0].int()
    rows = fits.any(1).nonzero().flatten()
    noise = rng.of(rows).derive("noise").noise(*image_NCHW.shape[1:]) if fill == "noise" else None
    for index, (row, (y, x, h, w)) in enumerate(zip(rows.tolist(), boxes[rows].tolist(), strict=True)):
        image_NCHW[row, :, y : y + h, x : x + w] = 0.0 if noise is None else noise[index, :, y : y + h, x : x + w]
    return image_NCHW


@sometimes()
def color_jitter(
    image_NCHW: Tensor, rng: BatchRng, *, brightness: Amount = 0.0, contrast: Amount = 0.0, saturation: Amount = 0.0
) -> Tensor:
    """Change brightness, contrast and saturation in random order: torchvision's `ColorJitter`.

    Each factor is uniform in 1 ± its amount, at least 0. Brightness multiplies the image, contrast blends it with its mean
    luma, saturation blends it with its gray version. Values are clipped to 0 … 1 after each.
    """
    amounts, order = (brightness, contrast, saturation), rng.permutation(3)
    factors = torch.stack([rng.uniform(max(0.0, 1 - amount), 1 + amount) for amount in amounts], 1)
    for turn in order.unbind(1):
        if not any(amounts[kind] for kind in turn.unique().tolist()):
            continue
        factor = factors.gather(1, turn[:, None])[:, :, None, None]
        mean = luma(image_NCHW).mean((2, 3), keepdim=True) if contrast else 0.0
        other = mean * (turn == 1)[:, None, None, None]
        if saturation:
            other = other + luma(image_NCHW) * (turn == 2)[:, None, None, None]
        image_NCHW = (image_NCHW.mul_(factor).add_(other * (1 - factor))).clamp_(0, 1)
    return image_NCHW


@sometimes()
def light(image_NCHW: Tensor, rng: BatchRng, *, contrast: Amount = 0.0, brightness: Amount = 0.0) -> Tensor:
    """Scale the contrast about the image mean by 1 ± `contrast` and add ± `brightness`, without clipping."""
    factor, offset = rng.uniform(1 - contrast, 1 + contrast), rng.uniform(-brightness, brightness)
    mean = image_NCHW.mean((1, 2, 3))
    return image_NCHW.mul_(factor[:, None, None, None]).add_((mean * (1 - factor) + offset)[:, None, None, None])


@sometimes()
def blur(image_NCHW: Tensor, rng: BatchRng, *, sigma: Interval = (0.1, 2.0)) -> Tensor:
    """Gaussian blur with a standard deviation in pixels uniform in `sigma` and reflected edges, as in torchvision."""
    deviation, (n, channels, height, width) = rng.uniform(*sigma), image_NCHW.shape
    radius = min(max(1, math.ceil(3 * sigma[1])), min(height, width) - 1)
    kernel = (-0.5 * (torch.arange(-radius, radius + 1) / deviation[:, None].clamp(min=1e-3)) ** 2).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = functional.pad(image_NCHW.reshape(1, n * channels, height, width), [radius] * 4, mode="reflect")
    flat = functional.conv2d(flat, kernel[:, None, :, None], groups=n * channels)
    return functional.conv2d(flat, kernel[:, None, None, :], groups=n * channels).reshape(image_NCHW.shape)


@sometimes()
def coarse(image_NCHW: Tensor, rng: BatchRng, *, factor: Annotated[int, Range(2)] = 2) -> Tensor:
    """Downsample by averaging and upsample again, as if the face had been `factor` times smaller."""
    small = functional.interpolate(image_NCHW, scale_factor=1 / factor, mode="area")
    return functional.interpolate(small, size=image_NCHW.shape[2:], mode="bilinear", align_corners=False)


@sometimes()
def jpeg(image_NCHW: Tensor, rng: BatchRng, *, quality: Quality = (30, 95)) -> Tensor:
    """Compress as JPEG with a quality (1 … 95, Pillow's scale) uniform in `quality`."""
    levels = image_NCHW.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for one, pixels, wanted in zip(image_NCHW, levels, rng.uniform(*quality).round().int().tolist(), strict=True):
        file = io.BytesIO()
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(file, "JPEG", quality=wanted)
        stored = torch.from_numpy(np.array(Image.open(file)).reshape(pixels.shape))
        one.copy_(stored.permute(2, 0, 1)).div_(255)
    return image_NCHW


@sometimes()
def noise(image_NCHW: Tensor, rng: BatchRng, *, deviation: Amount = 0.05) -> Tensor:
    """Add Gaussian noise with a standard deviation uniform in 0 … `deviation`, and clip to 0 … 1."""
    amount = rng.uniform(0, deviation)
    grain = rng.derive("noise").noise(*image_NCHW.shape[1:], normal=True)
    return image_NCHW.addcmul_(grain, amount[:, None, None, None]).clamp_(0, 1)


@sometimes()
def gray(image_NCHW: Tensor, rng: BatchRng) -> Tensor:
    """Convert to gray (luma)."""
    return image_NCHW.copy_(luma(image_NCHW))


@sometimes()
def value_gray(image_NCHW: Tensor, rng: BatchRng) -> Tensor:
    """Convert to gray by the largest channel: imgaug's `RemoveSaturation(1)`."""
    return image_NCHW.copy_(image_NCHW.amax(1, keepdim=True))


def luma(image_NCHW: Tensor) -> Tensor:
    """Return the luma, (N, 1, H, W)."""
    if image_NCHW.shape[1] == 1:
        return image_NCHW
    red, green, blue = image_NCHW.split(1, 1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def resize(image_NCHW: Tensor, side: int, *, method: Literal["pil-bilinear", "cv2-bilinear"] = "pil-bilinear") -> Tensor:
    """Resize to the network's side, antialiased as Pillow or not as OpenCV; applied just before `normalize` if not listed."""
    if image_NCHW.shape[2:] == (side, side):
        return image_NCHW
    return functional.interpolate(image_NCHW, (side, side), mode="bilinear", antialias=method == "pil-bilinear")
