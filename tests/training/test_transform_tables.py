"""Tables of transforms: which are refused, and transforms from outside the package."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mien.errors import ConfigError, UnknownName
from mien.training.augmentation import BatchRng, augment, check


@pytest.mark.parametrize(
    ("table", "value"),
    [
        ([{"p": 0.5}], {"p": 0.5}),
        (["flip"], "flip"),
        ([{"op": "flip", "q": 1}], "q"),
        ([{"op": "affine", "rotat": 1}], "rotat"),
        ([{"op": "flip", "p": 1.5}], 1.5),
        ([{"op": "flip", "p": True}], True),
        ([{"op": "affine", "scale": [1.2, 0.8]}], (1.2, 0.8)),
        ([{"op": "affine", "scale": [0, 1]}], (0, 1)),
        ([{"op": "erase", "ratio": [0, 1]}], (0, 1)),
        ([{"op": "erase", "scale": [0.1, 1.5]}], (0.1, 1.5)),
        ([{"op": "jpeg", "quality": [0, 50]}], (0, 50)),
        ([{"op": "blur", "sigma": [2, 1]}], (2, 1)),
        ([{"op": "blur", "sigma": [2]}], [2]),
        ([{"op": "affine", "interpolation": "cubic"}], "cubic"),
        ([{"op": "affine", "whole_pixels": 1}], 1),
        ([{"op": "coarse", "factor": 1}], 1),
        ([{"op": "rotate"}], None),
        ([{"op": "normalize"}, {"op": "normalize"}], "normalize"),
        ([{"op": "normalize"}, {"op": "resize"}], "resize"),
        ([{"op": "maybe", "p": 0.2, "steps": [{"op": "normalize"}]}], "normalize"),
        ([{"op": "either", "p": 0.2, "then": {"op": "flip"}}], {"op": "flip"}),
        ([{"op": "normalise"}], "normalise"),
    ],
)
def test_invalid_transforms_are_refused(table: list[Any], value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check(table)
    assert caught.value.value == value


@pytest.mark.parametrize("table", [[{"op": "flop"}], [{"op": "maybe", "p": 0.2, "steps": [{"op": "flap"}]}]])
def test_unknown_transforms_are_refused(table: list[Any]) -> None:
    with pytest.raises(UnknownName):
        check(table)


def invert(image_NCHW: Tensor, rng: BatchRng, *, p: float = 1.0) -> Tensor:
    """A transform of a user."""
    chosen = rng.chance(p)[:, None, None, None]
    return torch.where(chosen, 1 - image_NCHW, image_NCHW)


def test_own_transforms_are_found_by_module_and_name() -> None:
    image = torch.rand(64, 1, 4, 4)
    name = f"{__name__}:invert"

    def varied(p: float) -> Tensor:
        rng, steps = BatchRng(0, 64, slice(0, 64)), [{"op": name, "p": p}]
        return augment({"image": image}, steps, rng, normalize=lambda x: x, size={"image": 4}, together=True)["image"]

    assert torch.equal(varied(1.0), 1 - image)
    share = (varied(0.5) == image).flatten(1).all(1).float().mean()
    assert 0.2 < share < 0.8
    with pytest.raises(ConfigError) as caught:
        check([{"op": name, "q": 1}])
    assert caught.value.expected == ("p",)
