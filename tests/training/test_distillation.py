"""A small network that learns from a finished one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import config
from safetensors.torch import load_file
from torch.nn import functional

from mien.errors import ConfigError, UnknownName
from mien.runtime.open_model import open_model
from mien.training.augmentation import BatchRng, TeacherView, augment, check
from mien.training.config import TrainConfig
from mien.training.criterion import distil
from mien.training.data import open_splits
from mien.training.loader import Loader
from mien.training.loop import train

LOSS = [{"kind": "distil", "output": "fer2013", "options": {"teacher": "fer2013"}}]


def learning(**changes: object) -> TrainConfig:
    options = {"model__options": {}, "model__name": "mien-nano", "input__size": 48, "distil__teacher": "mien-base"}
    return config(**options | {"distil__views": 2, "loss": LOSS, "batch": 32} | changes)


def answered(name: str, image_NCHW: torch.Tensor) -> dict[str, np.ndarray]:
    """Return what a bundled model gives for images that are brought to its size."""
    card, runtime = open_model(name)
    assert card.input is not None
    if image_NCHW.shape[2:] != card.input.size:
        image_NCHW = functional.interpolate(image_NCHW, card.input.size, mode="bilinear", antialias=True)
    return runtime(image_NCHW.numpy())


def test_the_teacher_sees_what_the_student_sees() -> None:
    """The targets of a batch are the teacher's answers to its very images; after `views` epochs batches come again."""
    run = learning()
    loader = Loader(open_splits(run)[0], run)
    first, second, third = (list(loader.epoch(epoch)) for epoch in (0, 1, 2))
    for batch in (first[0], second[-1]):
        wanted = answered("mien-base", batch.images["image"])
        for name in ("scores", "fer2013", "ferplus"):
            assert np.abs(batch.targets[f"teacher.{name}"].numpy() - wanted[name]).max() < 1e-3  # kept as float16
    assert not torch.equal(first[0].images["image"], second[0].images["image"])
    for old, new in zip(first, third, strict=True):
        assert torch.equal(old.images["image"], new.images["image"])
        assert torch.equal(old.targets["teacher.scores"], new.targets["teacher.scores"])


def test_what_follows_the_step_teacher_only_the_student_sees() -> None:
    """The teacher's answer is to the turned image without its noise; noise is new in every epoch, turns come again."""
    turn, noise = {"op": "rotate", "degrees": 20}, {"op": "noise", "deviation": 0.3}
    plain = learning(augment=[turn])
    noisy = learning(augment=[turn, {"op": "teacher"}, noise])
    wanted = list(Loader(open_splits(plain)[0], plain).epoch(0))[1]
    loader = Loader(open_splits(noisy)[0], noisy)
    first, again = (list(loader.epoch(epoch))[1] for epoch in (0, 2))
    assert not torch.equal(first.images["image"], wanted.images["image"])
    assert torch.equal(first.targets["teacher.scores"], wanted.targets["teacher.scores"])
    assert torch.equal(first.targets["teacher.scores"], again.targets["teacher.scores"])
    assert np.array_equal(first.rows, again.rows)
    assert not torch.equal(first.images["image"], again.images["image"])
    added = first.images["image"] - again.images["image"]
    assert abs(float(added.mean())) < 0.02 < 0.3 < float(added.std())  # the same faces, other noise


def test_a_teacher_that_comes_first_answers_once_for_each_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are drawn anew in every epoch; each image keeps the answer to it as it is, or the mean with its mirror image.

    Another seed does not ask again; asked in another way, it is asked.
    """
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path))
    plain, mirrored = (
        learning(augment=[{"op": "teacher"}, {"op": "flip"}, {"op": "noise", "deviation": 0.3}], distil__mirror=mirror)
        for mirror in (False, True)
    )
    asked: list[dict[str, object]] = []
    loader = Loader(open_splits(plain)[0], plain, report=asked.append)
    assert asked[0] == {"event": "teacher", "images": 0, "of": len(loader.split)}
    asked.clear()
    Loader(open_splits(plain)[0], dataclasses.replace(plain, seed=5), report=asked.append)
    assert not asked
    first, again = (list(loader.epoch(epoch)) for epoch in (0, 2))
    assert not np.array_equal(first[0].rows, again[0].rows)
    stored = loader.split.images(first[0].rows)[0]["image"].astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1
    looks = (torch.from_numpy(np.ascontiguousarray(look)) for look in (stored, stored[..., ::-1]))
    wanted, mirror = (answered("mien-base", look)["fer2013"] for look in looks)
    assert np.abs(first[0].targets["teacher.fer2013"].numpy() - wanted).max() < 1e-3
    answers = {row: answer for batch in first for row, answer in zip(batch.rows, batch.targets["teacher.fer2013"], strict=True)}
    for batch in again:
        for row, answer in zip(batch.rows, batch.targets["teacher.fer2013"], strict=True):
            assert row not in answers or torch.equal(answer, answers[row])
    both = next(iter(Loader(open_splits(mirrored)[0], mirrored, report=asked.append).epoch(0)))
    assert asked
    assert np.abs(both.targets["teacher.fer2013"].numpy() - (wanted + mirror) / 2).max() < 1e-3


@pytest.mark.parametrize("together", [True, False])
def test_images_of_a_face_stay_in_step_behind_the_teacher(together: bool) -> None:
    """Face and regions that are varied together are still so where only the student looks, and only the face is shown."""
    whole = slice(0, 64)
    shade = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    glance = TeacherView(BatchRng(2, 64, whole))
    steps = [{"op": "flip"}, {"op": "teacher"}, {"op": "flip"}]
    varied = augment(
        {"image": shade, "eye": shade.clone()}, steps, BatchRng(1, 64, whole), normalize=lambda image: image,
        size={"image": 8, "eye": 8}, together=together, teacher_view=glance,
    )  # fmt: skip
    assert glance.image is not None and not torch.equal(glance.image, varied["image"])
    assert torch.equal(varied["image"], varied["eye"]) is together


@pytest.mark.parametrize(
    "steps",
    [
        [{"op": "normalize"}, {"op": "teacher"}],
        [{"op": "teacher"}, {"op": "teacher"}],
        [{"op": "maybe", "p": 0.5, "steps": [{"op": "teacher"}]}],
    ],
)
def test_teacher_occurs_once_before_normalize_and_not_nested(steps: list[dict[str, object]]) -> None:
    with pytest.raises(ConfigError) as caught:
        check(steps)
    assert caught.value.value == "teacher"


def test_other_sizes_are_brought_to_the_teachers() -> None:
    run = learning(input__size=40)
    batch = next(iter(Loader(open_splits(run)[0], run).epoch(0)))
    wanted = answered("mien-base", batch.images["image"])["ferplus"]
    assert np.abs(batch.targets["teacher.ferplus"].numpy() - wanted).max() < 1e-3


def test_several_teachers_are_their_mean() -> None:
    run = learning(distil__others=("mien-nano",))
    batch = next(iter(Loader(open_splits(run)[0], run).epoch(0)))
    base, nano = (answered(name, batch.images["image"]) for name in ("mien-base", "mien-nano"))
    assert np.abs(batch.targets["teacher.fer2013"].numpy() - (base["fer2013"] + nano["fer2013"]) / 2).max() < 1e-3
    assert np.abs(batch.targets["teacher.ferplus"].numpy() - base["ferplus"]).max() < 1e-3  # which no term learns


def test_a_teacher_that_reads_colors_is_shown_gray_ones(tmp_path: Path) -> None:
    """Another network joins in with its scores, fed by its own contract: three channels, ImageNet's mean and deviation."""
    options = {
        "distil__teacher": "",
        "model__scores": "logits",
        "loss": [{"kind": "cross-entropy"}],
        "input__color": "rgb",
        "input__normalize": "imagenet",
    }
    other = train(learning(epochs=1, model__name="timm:test_resnet", input__size=32, **options), tmp_path / "other")
    run = learning(distil__others=(str(other),))
    batch = next(iter(Loader(open_splits(run)[0], run).epoch(0)))
    image = batch.images["image"]
    gray = functional.interpolate(image, (32, 32), mode="bilinear", antialias=True) / 2 + 0.5
    mean, deviation = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    card, runtime = open_model(other)
    answers = runtime(((gray.expand(-1, 3, -1, -1) - mean) / deviation).numpy())[card.outputs["scores"]]
    base = answered("mien-base", image)["fer2013"]
    assert np.abs(batch.targets["teacher.fer2013"].numpy() - (base + answers) / 2).max() < 2e-3
    with pytest.raises(ConfigError) as caught:
        Loader(
            open_splits(run)[0], learning(distil__others=(str(other),), loss=[{**LOSS[0], "options": {"teacher": "ferplus"}}])
        )
    assert caught.value.value == "ferplus" and "logits" in caught.value.expected


def test_the_loss_is_least_where_both_agree() -> None:
    probability = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    targets = {"teacher.scores": probability}
    entropy = -(probability * probability.log()).sum(1).mean()
    assert distil(probability.log(), targets) == pytest.approx(float(entropy))
    assert distil(probability.log().flip(1), targets) > entropy
    with pytest.raises(ConfigError) as caught:
        distil(torch.zeros(2, 2), targets)
    assert (caught.value.value, caught.value.expected) == (3, 2)


@pytest.mark.parametrize("augment", [[], [{"op": "teacher"}, {"op": "flip"}]])
def test_a_run_learns_and_resumes_alike(augment: list[dict[str, object]], tmp_path: Path) -> None:
    """A resumed run asks the teacher anew for what the killed one had kept, and ends in the same weights."""
    rows: list[float] = []

    def stop_after_first(event: dict[str, object]) -> None:
        if event["event"] == "epoch":
            rows.append(float(event["loss"]))  # pyrefly: ignore
            if stopping and len(rows) == 3:
                raise KeyboardInterrupt

    stopping = False
    whole = train(learning(epochs=5, augment=augment), tmp_path / "whole", report=stop_after_first)
    assert rows[-1] < rows[0]
    rows.clear()
    stopping = True
    with pytest.raises(KeyboardInterrupt):
        train(learning(epochs=5, augment=augment), tmp_path / "cut", report=stop_after_first)
    stopping = False
    train(learning(epochs=5, augment=augment), tmp_path / "cut", resume=True, report=stop_after_first)
    one, other = (load_file(path) for path in (whole, tmp_path / "cut" / "best.safetensors"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_unsuitable_teachers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        train(learning(distil__teacher="mien-bas"), tmp_path / "a")
    for changes, value in (
        ({"input__color": "rgb", "input__normalize": "imagenet"}, "rgb"),
        ({"loss": [{"kind": "distil", "output": "fer2013", "options": {"teacher": "sums"}}]}, "sums"),
        ({"distil__teacher": ""}, None),
    ):
        with pytest.raises(ConfigError) as caught:
            train(learning(**changes), tmp_path / "b")
        assert caught.value.value == value
