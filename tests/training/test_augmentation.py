"""Every transform against an independent implementation: torchvision and Pillow on 8-bit images, OpenCV's formulas in numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

import mien
from mien.faces.preprocessing import resize_cv2
from mien.io.images import read_image
from mien.training import transforms as steps
from mien.training.augmentation import TRANSFORMS, BatchRng, augment, check, parameters

LEVEL = 1 / 255


def photos(n: int = 6, side: int = 64) -> np.ndarray:
    """(n, side, side, 3) uint8: parts of the bundled photograph."""
    pixels = read_image(mien.sample()).pixels
    random = np.random.default_rng(0)
    corners = random.integers(0, 512 - 2 * side, (n, 2))
    return np.stack([pixels[y : y + 2 * side : 2, x : x + 2 * side : 2] for y, x in corners])


def tensor(pixels_NHWC: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels_NHWC.copy()).permute(0, 3, 1, 2).float().div(255).contiguous()


def whole(seed: int, n: int) -> BatchRng:
    return BatchRng(seed, n, slice(0, n))


def vary(image: Tensor, table: Sequence[dict[str, Any]], seed: int = 0, size: int | None = None) -> Tensor:
    check(table)
    sides = {"image": size or image.shape[2]}
    return augment({"image": image}, table, whole(seed, len(image)), normalize=lambda x: x, size=sides, together=True)["image"]


def pil(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels)


# Geometry


def test_flip_is_numpys() -> None:
    image = tensor(photos())
    assert torch.equal(vary(image, [{"op": "flip", "p": 1.0}]), image.flip(3))
    assert torch.equal(vary(image, [{"op": "vertical-flip", "p": 1}]), image.flip(2))


def test_affine_is_torchvisions_on_pillow() -> None:
    pixels = photos(24)
    rng = whole(3, 24)
    rng.chance(1)
    angle, factor, shift = rng.uniform(-20, 20), rng.uniform(0.8, 1.0), rng.uniform(-0.2, 0.2, 2)
    varied = steps.affine(tensor(pixels), whole(3, 24), rotate=20, scale=(0.8, 1.0), translate=0.2)
    same = []
    for row, image in enumerate(pixels):
        moved = [round(float(value) * 64) for value in shift[row]]
        wanted = reference.affine(
            pil(image), float(angle[row]), moved, float(factor[row]), [0.0, 0.0], InterpolationMode.NEAREST, fill=[0]
        )
        same.append((varied[row].mul(255).round().permute(1, 2, 0).numpy() == np.asarray(wanted)).all(2).mean())
    assert np.mean(same) > 0.995 and min(same) > 0.98  # Pillow counts in 1 / 65,536 of a pixel


def test_affine_of_images_that_are_not_square() -> None:
    image = photos(1)[0][:40]
    wanted = reference.affine(pil(image), 25, [5, -3], 0.9, [0.0, 0.0], InterpolationMode.NEAREST)
    shift = torch.tensor([[5 / 64, -3 / 40]])
    found = steps.warp(tensor(image[None]), torch.tensor([25.0]), torch.tensor([0.9]), shift)
    assert (found[0].mul(255).round().permute(1, 2, 0).numpy() == np.asarray(wanted)).all(2).mean() > 0.99


def test_rotate_turns_as_torchvisions_does() -> None:
    pixels = photos(12)
    rng = whole(5, 12)
    rng.chance(1)
    angle = rng.uniform(30, -30)  # the step turns anticlockwise, the affine one clockwise
    varied = steps.rotate(tensor(pixels), whole(5, 12), degrees=30)
    for row, image in enumerate(pixels):
        wanted = np.asarray(reference.rotate(pil(image), -float(angle[row]), InterpolationMode.NEAREST))
        assert (varied[row].mul(255).round().permute(1, 2, 0).numpy() == wanted).all(2).mean() > 0.98


def warp_affine(image: np.ndarray, angle: float, scale: float) -> np.ndarray:
    """What imgaug's Affine does by OpenCV: a bilinear warp about ((w / 2) − .5, (h / 2) − .5), black outside, clockwise."""
    height, width = image.shape[:2]
    cx, cy = width / 2 - 0.5, height / 2 - 0.5
    theta = math.radians(angle)
    y, x = np.mgrid[:height, :width].astype(float)
    dx, dy = (x - cx) / scale, (y - cy) / scale
    sx, sy = math.cos(theta) * dx + math.sin(theta) * dy + cx, -math.sin(theta) * dx + math.cos(theta) * dy + cy
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)))
    sx, sy = (sx + 1).clip(0, width + 0.999), (sy + 1).clip(0, height + 0.999)
    left, top = np.floor(sx).astype(int), np.floor(sy).astype(int)
    right, bottom = (left + 1).clip(max=width + 1), (top + 1).clip(max=height + 1)
    fx, fy = (sx - left)[..., None], (sy - top)[..., None]
    upper = padded[top, left] * (1 - fx) + padded[top, right] * fx
    lower = padded[bottom, left] * (1 - fx) + padded[bottom, right] * fx
    return upper * (1 - fy) + lower * fy


@pytest.mark.parametrize(("angle", "scale"), [(30.0, 1.0), (-17.5, 1.0), (0.0, 1.1), (12.0, 0.9)])
def test_bilinear_affine_is_imgaugs(angle: float, scale: float) -> None:
    image = photos(1)[0]
    found = steps.warp(
        tensor(image[None]), torch.tensor([angle]), torch.tensor([scale]), torch.zeros(1, 2), interpolation="bilinear"
    )
    assert np.abs(found[0].permute(1, 2, 0).numpy() * 255 - warp_affine(image, angle, scale)).max() < 0.5


def test_a_mirrored_border_continues_the_image_as_numpys_reflect_does() -> None:
    image = photos(1, 32)[0]
    shift = torch.tensor([[5 / 32, -7 / 32]])
    found = steps.warp(tensor(image[None]), torch.zeros(1), torch.ones(1), shift, border="mirror")
    wanted = np.pad(image, ((0, 7), (5, 0), (0, 0)), mode="reflect")[7:, :32]
    assert (found[0].mul(255).round().permute(1, 2, 0).numpy() == wanted).all()


def test_crop_is_a_window_of_the_padded_image() -> None:
    pixels = photos(200, 28)
    rng = whole(7, 200)
    rng.chance(1)
    place = rng.uniform(0, 1, 2)
    varied = steps.crop(tensor(pixels), whole(7, 200), padding=0.142)
    offsets = (place * 9).floor().int()  # 4 pixels of 28 on both sides
    for row, image in enumerate(pixels):
        bordered = reference.pad(pil(image), [4])
        wanted = reference.crop(bordered, int(offsets[row, 0]), int(offsets[row, 1]), 28, 28)
        assert (varied[row].mul(255).round().permute(1, 2, 0).numpy() == np.asarray(wanted)).all()
    assert offsets.min() == 0 and offsets.max() == 8


# Erasing


def boxes(images: Tensor) -> np.ndarray:
    """Height, width, top and left of the part that is zero of each image of ones."""
    found = []
    for image in images[:, 0]:
        y, x = (image == 0).nonzero(as_tuple=True)
        found.append((len(y.unique()), len(x.unique()), int(y.min()), int(x.min())) if len(y) else (0, 0, 0, 0))
    return np.array(found)


@pytest.mark.parametrize(("scale", "side"), [((0.02, 0.25), 64), ((0.05, 0.05), 112), ((0.6, 0.9), 32)])
def test_erase_draws_rectangles_as_torchvision_does(scale: tuple[float, float], side: int) -> None:
    torch.manual_seed(0)
    step = transforms.RandomErasing(p=1.0, scale=scale)
    wanted = boxes(torch.cat([step(torch.ones(1, side, side))[None] for _ in range(1500)]))
    found = boxes(steps.erase(torch.ones(1500, 1, side, side), whole(1, 1500), p=1.0, scale=scale))
    assert abs((found[:, 0] == 0).mean() - (wanted[:, 0] == 0).mean()) < 0.03  # those that never fit
    for column in range(4):
        assert stats.ks_2samp(found[:, column], wanted[:, column]).pvalue > 0.003


def test_erase_after_normalization_leaves_zero() -> None:
    image = torch.rand(40, 3, 32, 32) * 0.5 + 0.4
    found = augment(
        {"image": image},
        [{"op": "normalize"}, {"op": "erase", "p": 0.5}],
        whole(0, 40),
        normalize=lambda x: x - 2,
        size={"image": 32},
        together=True,
    )["image"]
    untouched = (found == image - 2).all(1)
    assert ((found == 0).all(1) | untouched).all()
    assert 0.25 < (~untouched.flatten(1).all(1)).float().mean() < 0.75


def test_erase_with_noise_leaves_the_rest() -> None:
    found = steps.erase(torch.full((50, 1, 32, 32), 0.5), whole(0, 50), p=1.0, fill="noise")
    noisy = found[found != 0.5]
    assert 0 <= noisy.min() < 0.01 and 0.99 < noisy.max() < 1 and abs(noisy.mean() - 0.5) < 0.02
    assert 0.02 < (found != 0.5).float().mean() < 0.33


# Color


@pytest.mark.parametrize(
    "options", [{"brightness": 0.4}, {"contrast": 0.4}, {"saturation": 0.5}, {"brightness": 0.2, "contrast": 0.2}]
)
def test_color_jitter_is_torchvisions(options: dict[str, float]) -> None:
    pixels = photos(16)
    rng = whole(2, 16)
    rng.chance(1)
    order = rng.permutation(3)
    amounts = [options.get(name, 0.0) for name in ("brightness", "contrast", "saturation")]
    factors = [rng.uniform(1 - amount, 1 + amount) for amount in amounts]
    adjust = (reference.adjust_brightness, reference.adjust_contrast, reference.adjust_saturation)
    varied = steps.color_jitter(tensor(pixels), whole(2, 16), **options)
    for row, image in enumerate(pixels):
        wanted = pil(image)
        for kind in order[row].tolist():
            wanted = adjust[kind](wanted, float(factors[kind][row]))
        difference = np.abs(varied[row].mul(255).permute(1, 2, 0).numpy() - np.asarray(wanted, float))
        assert difference.max() < 2.5  # Pillow rounds after every change


def test_brightness_and_contrast_come_in_both_orders() -> None:
    image = torch.rand(1, 1, 8, 8).expand(64, -1, -1, -1).clone()
    order = whole(0, 64).derive(0, "color-jitter")
    order.chance(1)
    first = order.permutation(3)
    before = (first == 0).int().argmax(1) < (first == 1).int().argmax(1)
    assert 0.3 < before.float().mean() < 0.7
    assert len(steps.color_jitter(image, whole(0, 64), brightness=0.9, contrast=0.9).unique(dim=0)) == 64


def test_gray_is_pillows_and_value_gray_is_the_largest_channel() -> None:
    pixels = photos()
    found = vary(tensor(pixels), [{"op": "gray"}])
    wanted = np.stack([np.asarray(pil(image).convert("L")) for image in pixels])
    assert np.abs(found.mul(255).numpy() - wanted[:, None]).max() < 0.6
    found = vary(tensor(pixels), [{"op": "value-gray"}])
    assert torch.equal(found, tensor(pixels.max(3, keepdims=True)).expand(-1, 3, -1, -1))


def test_light_keeps_the_mean_but_for_its_offset() -> None:
    image = torch.rand(30, 1, 16, 16)
    mean, deviation = image.mean((1, 2, 3)), image.flatten(1).std(1)
    found = steps.light(image.clone(), whole(0, 30), contrast=0.25, brightness=0.125)
    moved, factor = found.mean((1, 2, 3)) - mean, found.flatten(1).std(1) / deviation
    assert moved.abs().max() <= 0.1251 and moved.min() < -0.08 and moved.max() > 0.08
    assert factor.min() >= 0.7499 and factor.max() <= 1.2501 and factor.max() - factor.min() > 0.35


# Sharpness and size


def test_blur_is_torchvisions() -> None:
    image = tensor(photos(4))
    rng = whole(1, 4)
    rng.chance(1)
    sigma = rng.uniform(0.5, 2.0)
    found = steps.blur(image.clone(), whole(1, 4), sigma=(0.5, 2.0))
    for row in range(4):
        wanted = reference.gaussian_blur(image[row], [13, 13], [float(sigma[row])] * 2)
        assert (found[row] - wanted).abs().max() < 1e-5


def test_coarse_loses_what_lies_between_pixels() -> None:
    board = ((torch.arange(32)[:, None] + torch.arange(32)) % 2).float().expand(3, 1, 32, 32).clone()
    assert torch.equal(steps.coarse(board, whole(0, 3), factor=2), torch.full((3, 1, 32, 32), 0.5))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torchvision")
def test_jpeg_is_torchvisions() -> None:
    for image in (tensor(photos(4)), tensor(photos(4)).mean(1, keepdim=True)):
        rng = whole(1, 4)
        rng.chance(1)
        quality = rng.uniform(20, 90).round().int().tolist()
        found = steps.jpeg(image.clone(), whole(1, 4), quality=(20, 90))
        for row in range(4):
            stored = torchvision.io.encode_jpeg((image[row] * 255).round().byte(), quality[row])
            wanted = torchvision.io.decode_image(stored).float() / 255
            assert (found[row] - wanted).abs().mean() < 0.004 < (found[row] - image[row]).abs().mean()


def test_noise_is_normal_of_the_deviation_drawn() -> None:
    rng = whole(0, 20)
    rng.chance(1)
    amount = rng.uniform(0, 0.1)
    found = steps.noise(torch.full((20, 3, 64, 64), 0.5), whole(0, 20), deviation=0.1) - 0.5
    assert torch.allclose(found.flatten(1).std(1), amount, rtol=0.05)
    assert stats.kstest((found[3] / amount[3]).flatten().numpy(), "norm").pvalue > 0.01


@pytest.mark.parametrize("new", [40, 100, 224])
def test_resizing_is_pillows_and_opencvs_within_one_level(new: int) -> None:
    pixels = photos(3)
    found = vary(tensor(pixels), [{"op": "resize"}], size=new).mul(255)
    wanted = np.stack([np.asarray(pil(image).resize((new, new), Image.Resampling.BILINEAR)) for image in pixels])
    assert np.abs(found.permute(0, 2, 3, 1).numpy() - wanted).max() <= 1.01
    found = vary(tensor(pixels), [{"op": "resize", "method": "cv2-bilinear"}], size=new).mul(255)
    wanted = np.stack([resize_cv2(image, new, new) for image in pixels])
    assert np.abs(found.permute(0, 2, 3, 1).numpy() - wanted).max() <= 1.01


def test_images_are_resized_before_they_are_normalized_or_where_the_step_stands() -> None:
    image = tensor(photos(2))
    seen: list[tuple[int, ...]] = []

    def normalize(image: Tensor) -> Tensor:
        seen.append(tuple(image.shape))
        return image * 2

    last = augment({"image": image}, [], whole(0, 2), normalize=normalize, size={"image": 40}, together=True)["image"]
    assert seen == [(2, 3, 40, 40)] and torch.equal(last, steps.resize(image, 40) * 2)
    turn = {"op": "affine", "rotate": 20}
    first, after = (vary(image, table, size=40) for table in ([{"op": "resize"}, turn], [turn, {"op": "resize"}]))
    assert first.shape == after.shape and not torch.allclose(first, after, atol=0.02)


# Choice


def test_either_does_one_of_two_and_maybe_all_or_nothing() -> None:
    image = torch.rand(200, 3, 4, 4)
    both = [{"op": "either", "p": 0.3, "then": [{"op": "flip", "p": 1}], "otherwise": [{"op": "vertical-flip", "p": 1}]}]
    found = vary(image, both)
    mirrored, turned = ((found == wanted).flatten(1).all(1) for wanted in (image.flip(3), image.flip(2)))
    assert (mirrored ^ turned).all() and 0.2 < mirrored.float().mean() < 0.4
    found = vary(image, [{"op": "maybe", "p": 0.3, "steps": [{"op": "flip", "p": 1}, {"op": "vertical-flip", "p": 1}]}])
    turned, same = ((found == wanted).flatten(1).all(1) for wanted in (image.flip(3).flip(2), image))
    assert (turned ^ same).all() and 0.2 < turned.float().mean() < 0.4


CHANCY = [name for name in TRANSFORMS if "p" in parameters(name)]
REQUIRED: dict[str, dict[str, Any]] = {
    "rotate": {"degrees": 20},
    "crop": {"padding": 0.1},
    "affine": {"rotate": 20, "scale": [0.8, 1.2], "translate": 0.2},
    "color-jitter": {"brightness": 0.5, "contrast": 0.5},
    "light": {"brightness": 0.1},
    "maybe": {"steps": [{"op": "flip", "p": 1}]},
    "either": {"then": [{"op": "flip", "p": 1}]},
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("op", CHANCY)
def test_a_step_touches_the_share_of_images_it_says(op: str, channels: int) -> None:
    image = torch.rand(60, channels, 16, 16)
    before = image.clone()
    assert torch.equal(vary(image, [{"op": op, **REQUIRED.get(op, {}), "p": 0}]), image)
    found = vary(image, [{"op": op, **REQUIRED.get(op, {}), "p": 0.5}])
    assert found.shape == image.shape and torch.equal(image, before)
    touched = (found != image).flatten(1).any(1).float().mean()
    blank = channels == 1 and op in ("gray", "value-gray")
    assert touched == 0 if blank else 0.25 < touched < 0.75


# BatchRng


@settings(max_examples=30, deadline=None)
@given(total=st.integers(1, 40), cut=st.integers(0, 40), seed=st.integers(0, 1 << 62), op=st.sampled_from(CHANCY))
def test_two_processes_vary_as_one(total: int, cut: int, seed: int, op: str) -> None:
    image = torch.rand(total, 3, 12, 12)
    table = [{"op": op, **REQUIRED.get(op, {}), "p": 0.5}, {"op": "normalize"}, {"op": "erase", "fill": "noise"}]
    parts = [slice(0, total), slice(0, min(cut, total)), slice(min(cut, total), total)]
    found = [
        augment(
            {"image": image[part]}, table, BatchRng(seed, total, part), normalize=lambda x: x, size={"image": 12}, together=True
        )
        for part in parts
    ]
    assert torch.allclose(torch.cat([found[1]["image"], found[2]["image"]]), found[0]["image"], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1 << 62))
def test_flipping_twice_is_nothing_and_seeds_repeat(seed: int) -> None:
    image = torch.rand(8, 1, 6, 6)
    assert torch.equal(vary(image, [{"op": "flip", "p": 1}, {"op": "flip", "p": 1}], seed), image)
    table = [{"op": "flip"}, {"op": "noise"}]
    assert torch.equal(vary(image, table, seed), vary(image, table, seed))
    assert not torch.equal(vary(image, table, seed), vary(image, table, seed ^ 1))


def test_regions_follow_the_face_or_go_their_own_way() -> None:
    ramp = torch.linspace(0, 1, 24).expand(64, 1, 24, 24)
    images = {"image": ramp, "eye": torch.linspace(0, 1, 12).expand(64, 1, 12, 12)}
    table = [{"op": "flip"}, {"op": "light", "brightness": 0.3}]
    size = {"image": 24, "eye": 12}

    def both(together: bool) -> list[tuple[Tensor, Tensor]]:
        found = augment(images, table, whole(0, 64), normalize=lambda x: x, size=size, together=together)
        return [(found[name][:, 0, 0, 0] > found[name][:, 0, 0, -1], found[name].mean((1, 2, 3))) for name in images]

    (face, light), (eye, eye_light) = both(True)
    assert torch.equal(face, eye) and torch.allclose(light, eye_light, atol=1e-5)
    (face, light), (eye, eye_light) = both(False)
    assert 0.25 < (face == eye).float().mean() < 0.75 and (light - eye_light).abs().max() > 0.1


def test_draws_are_uniform_and_orders_are_fair() -> None:
    rng = whole(0, 4000)
    assert stats.kstest(rng.uniform(2, 5).numpy(), stats.uniform(2, 3).cdf).pvalue > 0.01
    assert np.bincount(rng.permutation(3)[:, 0], minlength=3).min() > 1200
    assert len(rng.of(torch.tensor([5, 6])).derive("some")) == 2


# Recipes


def test_blur_of_nothing_and_borders_of_more_than_a_side() -> None:
    image = torch.rand(4, 3, 12, 12)
    rng = BatchRng(1, 4, slice(0, 4))
    torch.testing.assert_close(steps.blur(image.clone(), rng, sigma=(0, 0)), image)
    assert steps.crop(image.clone(), rng, padding=2.0).shape == image.shape
