"""Every recipe: what it says holds together, and its network, losses and stages fit a miniature of its data.

Networks are built without numbers (torch's device "meta"). Recipes that together have every network, loss, transform and
optimizer take two steps as a run does. Changed for that: the folder of the data, the number of images, and random weights
instead of ImageNet's or the authors'. MFER takes its steps on ConvNeXt-Atto, and once, slowly, on ConvNeXt-Base.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniatures import MINIATURES

from mien import models
from mien.data.datasets import reader
from mien.labels import label_set
from mien.registry import lookup
from mien.training import augmentation, building, loop
from mien.training.config import InitConfig, TrainConfig
from mien.training.criterion import Criterion
from mien.training.data import open_splits
from mien.training.optim import freeze, optimizer
from mien.training.recipes import TERMS

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.toml"))

SYSTEMS: dict[str, tuple[str, ...]] = {
    "dda-resnet34": ("fer2013", "rafdb"),
    "dda-resnet50": ("fer2013", "rafdb"),
    "resnet34": ("fer2013", "rafdb"),
    "resnet50": ("fer2013", "rafdb"),
    "global-roi": ("affectnet7", "affectnet8", "rafdb", "ferplus", "ckplus"),
    "global-cbam": ("affectnet7", "affectnet8", "rafdb", "ferplus", "ckplus"),
    "ddamfn": ("affectnet7", "affectnet8", "rafdb", "ferplus"),
    "ddamfn-mtl": ("affwild2",),
    "dan": ("rafdb", "affectnet7", "affectnet8", "pooled"),
    "efficientnet-b3": ("pooled",),
    "mfer": ("rafdb", "affectnet7", "affectnet8", "ferplus"),
    "poster": ("rafdb", "affectnet7", "affectnet8", "caers"),
}
"""Each published system and the datasets that it was published on."""

PUBLISHED = [name for name in RECIPES if name.endswith(("-author", "-mien", "-paper"))]

LAYOUTS = {
    "fer2013": "fer2013: fer2013.npz",
    "ferplus": "ferplus: fer2013.npz with votes",
    "rafdb": "rafdb: list_patition_label.txt and Image",
    "affectnet7": "affectnet7: affectnet.csv with phases",
    "affectnet8": "affectnet8: affectnet.csv with phases",
    "ckplus": "ckplus: cohn-kanade-images and Emotion",
    "affwild2": "affwild2: cropped_aligned and annotations filter=none",
    "folder": "folder: class folders #2",
    "pooled": "pooled: train.csv, valid.csv, test.csv with image_path",
}
"""The miniature that stands for each dataset."""


LARGE = ("dda-resnet34", "dda-resnet50", "global-roi", "mfer", "poster", "resnet50")
"""Networks that see two images a step here, the others four."""


@functools.cache
def load(name: str) -> TrainConfig:
    return TrainConfig.load(FOLDER / f"{name}.toml")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_holds_together(name: str) -> None:
    config = load(name)
    augmentation.check(config.augment)
    assert config == TrainConfig.of(config.to_dict())
    known = reader(config.data[0].dataset)
    protocol = config.data[0].protocol or next(iter(known.protocols))
    assert protocol in known.protocols
    dataset = {"folder": "caers"}.get(config.data[0].dataset, config.data[0].dataset)  # CAER-S is class folders
    assert name not in PUBLISHED or name.startswith(f"{dataset}-{config.model.name}-")
    assert config.input.crop or config.input.regions, "faces could not be cropped from photos"
    assert len(config.about.split()) > 15
    for term in config.loss:
        lookup(term.kind, TERMS, "loss term")
    if config.data[0].labels:
        assert set(known.labels) <= set(label_set(config.data[0].labels))
    assert set(config.data[0].options) <= set(known.options)
    starts = [stage.epoch for stage in config.stages]
    assert starts == sorted(starts) and all(start < config.epochs for start in starts)
    if config.schedule.kind == "multi-step":
        assert max(config.schedule.milestones) < config.epochs


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_owns_up_and_a_corrected_one_selects_honestly(name: str) -> None:
    config = load(name)
    protocol = reader(config.data[0].dataset).protocols[config.data[0].protocol]
    if name.endswith("-mien"):
        assert not config.data[0].protocol.startswith("author:")
        assert not protocol.flaws and not config.flaws
        assert config.data[0].leak_free
    else:
        assert config.data[0].protocol.startswith("author:")
        assert set(protocol.flaws) <= set(config.flaws)
        assert config.precision == "fp32" and not config.data[0].leak_free


def test_every_system_has_recipes_for_every_data_set_it_was_published_on() -> None:
    wanted = {f"{data}-{model}-{kind}" for model, sets in SYSTEMS.items() for data in sets for kind in ("author", "mien")}
    wanted |= {f"{data}-ddamfn-plusplus-author" for data in ("rafdb", "affectnet7", "affectnet8")}
    wanted |= {"affwild2-ddamfn-mtl-paper", "rafdb-mfer-paper", "fer2013-mien-base"}
    assert wanted <= set(RECIPES)
    assert set(PUBLISHED) <= wanted


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("fer2013-dda-resnet34-author", {"optim.name": "radam", "optim.lr": 1e-4, "optim.weight_decay": 1e-3, "epochs": 51}),
        ("rafdb-dda-resnet50-author", {"schedule.gamma": 0.9, "input.native": True, "seed": 113}),
        ("rafdb-global-roi-author", {"optim.lr": 0.5, "sampler.samples": 21000, "augment_together": False}),
        ("ferplus-global-cbam-author", {"optim.lr": 0.01, "schedule.milestones": (20, 40, 60, 80), "sampler.samples": 24000}),
        ("ckplus-global-roi-author", {"input.regions": {"eye": 224, "nose": 224, "mouth": 224}, "sampler.samples": 4000}),
        ("ckplus-global-cbam-author", {"batch": 16, "schedule.gamma": 0.75}),
        ("affectnet7-global-roi-author", {"sampler.samples": 80000}),
        ("affectnet7-global-roi-mien", {"sampler.samples": 70000, "augment_together": True}),
        ("rafdb-ddamfn-author", {"optim.lr": 0.01, "schedule.kind": "step", "batch": 256, "epochs": 40}),
        ("rafdb-ddamfn-plusplus-author", {"optim.sam": 0.05, "optim.sam_batch_norm": "twice", "optim.lr": 5e-4, "batch": 128}),
        ("affectnet8-ddamfn-plusplus-author", {"optim.lr": 1e-5, "schedule.gamma": 0.98, "epochs": 200}),
        ("affectnet8-dan-author", {"optim.name": "adam", "schedule.gamma": 0.6, "sampler.kind": "balanced"}),
        ("pooled-dan-author", {"schedule.metric": "nll", "validation.patience": 7, "input.resize": "cv2-bilinear"}),
        ("rafdb-mfer-author", {"optim.name": "adamw", "optim.lr": 1e-3, "schedule.gamma": 0.95, "augment": ()}),
        ("affwild2-ddamfn-mtl-author", {"model.options": {"form": "code", "num_classes": 9}, "validation.metric": "last"}),
    ],
)  # fmt: skip
def test_constants_of_the_reference_documents(name: str, facts: dict[str, Any]) -> None:
    config = load(name)
    for path, wanted in facts.items():
        value: Any = config
        for part in path.split("."):
            value = getattr(value, part)
        assert value == wanted, path


@pytest.mark.shared
def test_recipes_of_several_datasets_open_them_side_by_side(shared: Path) -> None:
    """Photographs are cropped by the detector; the loss terms of each dataset find their targets."""
    config = load("photos-mien-base")
    config = dataclasses.replace(
        config, batch=8, data=tuple(dataclasses.replace(data, limit=16, validation_limit=8) for data in config.data)
    )
    train, validation = open_splits(config)
    assert [part.name for part in train.parts] == ["fer2013", "photos"] and len(validation) == 16
    images, readable = train.images(np.arange(len(train)))
    assert readable.all() and images["image"].shape == (32, 64, 64, 1)
    photos = train.rows(1)
    assert (train.targets["soft"][photos].sum(1) - 1).abs().max() < 1e-6 and (train.targets["votes"][photos] == 0).all()


def test_oddities_of_the_authors_are_there() -> None:
    (step, resize) = load("rafdb-dda-resnet34-author").augment
    assert step["otherwise"][0] == {"op": "value-gray"} and resize["op"] == "resize"
    assert {"op": "vertical-flip", "p": 0.5} in load("pooled-efficientnet-b3-author").augment
    affinity = next(term for term in load("rafdb-dan-author").loss if term.kind == "affinity")
    assert affinity.options == {"centers": 8}
    assert [term.weight for term in load("rafdb-global-roi-author").loss] == [1.0, 0.6, 1.0]
    assert load("affwild2-ddamfn-mtl-author").loss[1].output == "expression"  # the softmax of a softmax


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for dataset, layout in LAYOUTS.items():
        found[dataset] = tmp_path_factory.mktemp(dataset)
        MINIATURES[layout].build(found[dataset])
    return found


def small(name: str, roots: dict[str, Path]) -> TrainConfig:
    """Return a recipe cut down to two steps."""
    config = load(name)
    options = {key: value for key, value in config.model.options.items() if "pretrained" not in key}
    batch = 2 if config.model.name in LARGE else 4
    return dataclasses.replace(
        config,
        batch=batch,
        threads=1,
        model=dataclasses.replace(config.model, init=InitConfig(), options=options),
        # Teachers are runs of other recipes, whose features and answers are not here.
        distil=dataclasses.replace(config.distil, others=(), teacher="mien-base" if config.distil.teacher else ""),
        data=tuple(
            dataclasses.replace(data, root=str(roots[data.dataset]), limit=2 * batch, validation_limit=3, fraction=0.4, folds=3)
            for data in config.data
        ),
        sampler=dataclasses.replace(config.sampler, samples=2 * batch if config.sampler.kind == "balanced" else 0),
    )


def two_steps(config: TrainConfig, folder: Path) -> None:
    """Take two steps as a run does, measure, and see that what should learn has learned."""
    run = loop.open_run(config, folder / "run")
    learner = run.parts.learner
    assert run.loader.steps == 2
    before = {name: parameter.detach().clone() for name, parameter in learner.named_parameters()}
    loop.start_epoch(run)
    for batch in run.loader.epoch(0):
        loop.optimization_step(run, batch)
        run.progress.step += 1
    learns = {name for name, parameter in learner.named_parameters() if parameter.requires_grad}
    moved = {name for name, parameter in learner.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved <= learns and len(moved) > len(learns) / 2
    _, metrics, _ = loop.validate(run)
    assert 0 <= metrics["accuracy"] <= 1 and all(math.isfinite(value) for value in run.progress.sums.values())


def transforms(steps: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield the names of all transforms, nested ones included."""
    for step in steps:
        yield step["op"]
        yield from transforms([*step.get("steps", ()), *step.get("otherwise", ())])


def parts(config: TrainConfig) -> set[tuple[Any, ...]]:
    """Return what a step of this recipe runs and a step of another one may not."""
    options, size = config.model.options, config.input
    return {
        ("model", config.model.name, options.get("backbone"), options.get("form")),
        ("optimizer", config.optim.name, config.optim.sam_batch_norm if config.optim.sam else ""),
        ("schedule", config.schedule.kind),
        ("sampler", config.sampler.kind),
        ("input", size.color, size.native, bool(size.regions), bool(size.sizes)),
        ("mixup", config.mix.mixup > 0),
        ("distillation", bool(config.distil.teacher), config.distil.mirror),
        ("pseudo-labels", config.pseudo_labels.confidence > 0),
        ("views", config.validation.views > 1),
        ("accumulation", config.accumulate > 1),
        *(("data", data.dataset) for data in config.data),
        *(("loss", term.kind) for term in config.loss),
        *(("transform", name) for name in transforms(config.augment)),
        *(("stage", stage.batch_norm) for stage in config.stages),
    }


def covering(names: Iterable[str]) -> list[str]:
    """Return few recipes, of small images where possible, that together have all parts."""
    configs = {name: load(name) for name in names}
    has = {name: parts(config) for name, config in configs.items()}
    left, chosen = set().union(*has.values()), []
    while left:
        chosen.append(max(has, key=lambda name: len(has[name] & left) / configs[name].input.size))
        left -= has[chosen[-1]]
    for name in reversed(chosen):
        others = [has[other] for other in chosen if other != name]
        if has[name] <= set().union(*others):
            chosen.remove(name)
    return sorted(chosen)


HERE = [name for name in RECIPES if all(data.dataset in LAYOUTS for data in load(name).data)]


@pytest.mark.parametrize("name", HERE)
def test_the_parts_of_a_recipe_fit_its_data(name: str, roots: dict[str, Path]) -> None:
    config = small(name, roots)
    split, _ = open_splits(config)
    with torch.device("meta"):
        model = models.build(config.model.name, **building.options_of(config, split))
        output = building.sample_output(model, config)
        building.check_classes(config, split, output)
        criterion = Criterion(config.loss, output, len(split.labels), split.counts, [part.name for part in split.parts])
    learner = building.Learner(model, criterion, config.model.scores, None)
    assert optimizer(learner, config.optim).param_groups
    for stage in config.stages:
        freeze(model, stage, [name for name, _ in model.named_parameters()])
        assert any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", covering(HERE))
def test_a_recipe_takes_two_steps(name: str, roots: dict[str, Path], tmp_path: Path) -> None:
    config = small(name, roots)
    if config.model.name == "mfer" and config.model.options.get("backbone") != "sface":
        options = {**config.model.options, "backbone": "convnext_atto"}
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, options=options))
    two_steps(config, tmp_path)


@pytest.mark.slow
def test_mfer_takes_two_steps_at_its_own_size(roots: dict[str, Path], tmp_path: Path) -> None:
    two_steps(small("rafdb-mfer-mien", roots), tmp_path)


def test_recipes_are_written_as_they_are_read() -> None:
    """No key is given twice or misspelt, and nothing but text, numbers and lists is in them."""
    for name in RECIPES:
        table = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
        if "extends" not in table:
            assert TrainConfig.of(table, name) == load(name)
