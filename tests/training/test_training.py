"""The loop learns, does what a recipe says, and refuses nonsense; its parts against independent implementations."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import TABLE, config
from safetensors.torch import load_file
from sklearn import metrics as oracle
from torch import nn

from make_golden_scores import STEPS, losses
from mien import cards, models
from mien.errors import ConfigError, DatasetError, TrainingError
from mien.faces.preprocessing import Preprocess
from mien.metrics.affect import mean_unit_f1
from mien.training import loop
from mien.training.augmentation import mixup
from mien.training.config import ScheduleConfig, Stage, Term, TrainConfig, upgrade
from mien.training.criterion import Criterion
from mien.training.data import card_input, evaluation_tensor, open_splits, split_of
from mien.training.loader import Loader, normalize, sample_weights, to_unit
from mien.training.loop import Progress, out_of_patience, train
from mien.training.optim import Average, Schedule, freeze, frozen_statistics, optimizer, sam_ascend, sam_restore
from mien.training.run_dir import identity_of, identity_of_saved
from mien.training.validation import classified, interleave, quality


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Return the folder and the epochs of a run that has time to learn."""
    rows: list[dict[str, Any]] = []
    out = tmp_path_factory.mktemp("runs") / "tiny" / "1"
    train(
        config(epochs=24, augment=[], optim__name="adamw", optim__lr=0.01),
        out,
        report=lambda event: rows.append(event) if event["event"] == "epoch" else None,
    )
    return out, rows


def test_it_learns_what_can_be_learned(learned: tuple[Path, list[dict[str, Any]]]) -> None:
    _, rows = learned
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5
    assert max(row["accuracy"] for row in rows) > 0.6  # one in seven by chance


def test_a_run_says_how_it_came_about(learned: tuple[Path, list[dict[str, Any]]]) -> None:
    out, rows = learned
    assert {path.name for path in out.iterdir()} == {
        "best.safetensors", "best.toml", "config.toml", "curves.png", "env.json", "last.pt", "metrics.jsonl",
    }  # fmt: skip
    resolved = TrainConfig.of(tomllib.loads((out / "config.toml").read_text()))
    assert resolved.epochs == 24 and resolved.precision == "fp32"
    environment = json.loads((out / "env.json").read_text())
    assert torch.__version__.startswith(environment["packages"]["torch"])
    assert environment["data"]["train"]["images"] == 98 and len(environment["data"]["train"]["digest"]) == 64
    best = [row["epoch"] for row in rows if row["best"]][-1]
    card = cards.read(out / "best.toml")
    assert card.training["epoch"] == best and card.weights == out / "best.safetensors"
    assert card.labels[0] == "anger"
    measured = {figure.metric: figure.value for figure in card.measured}
    assert measured["accuracy"] == pytest.approx(rows[best - 1]["accuracy"])


def test_the_best_epoch_is_what_is_kept(learned: tuple[Path, list[dict[str, Any]]]) -> None:
    """The kept weights, built anew from the card alone, give the accuracy that their epoch reported."""
    out, rows = learned
    card = cards.read(out / "best.toml")
    network = models.build(card.network["architecture"], **card.network["options"]).eval()
    network.load_state_dict(load_file(card.weights))
    _, validation = open_splits(config())
    preprocess = Preprocess.of(card)
    crops = np.stack([preprocess.whole(sample.read()) for sample in validation.data])
    with torch.no_grad():
        scores = network(torch.from_numpy(preprocess.tensor(crops))).fer2013
    right = float((scores.argmax(1) == validation.targets["label"]).float().mean())
    assert right == pytest.approx(max(row["accuracy"] for row in rows))


def test_evaluation_feeds_what_use_feeds() -> None:
    """Bit for bit the tensor of `Preprocess`, for gray images in color networks and for ImageNet's values."""
    for color, values in (("gray", "half"), ("rgb", "imagenet"), ("rgb", "unit")):
        settings = config(input__color=color, input__normalize=values, input__size=40)
        _, validation = open_splits(settings)
        preprocess = Preprocess(card_input(settings.input))
        rows = np.arange(4)
        fed = evaluation_tensor(validation.images(rows)[0]["image"], preprocess)
        used = preprocess.tensor(np.stack([preprocess.whole(validation.data[int(row)].read()) for row in rows]))
        assert np.array_equal(fed.numpy(), used)
        trained = normalize(to_unit(validation.images(rows)[0]["image"]), preprocess)
        torch.testing.assert_close(trained, fed, atol=2e-6, rtol=0)


def test_leaked_images_are_left_out(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (60, 48, 48)).astype(np.uint8)
    images[50] = images[0]  # the first training image is also a test image
    usage = np.repeat([0, 1, 2], [30, 15, 15]).astype(np.uint8)
    votes = np.zeros((60, 10), np.uint8)
    votes[:, 1], votes[:, 9] = 9, 1
    label = (np.arange(60) % 7).astype(np.uint8)
    np.savez(tmp_path / "fer2013.npz", images=images, label=label, usage=usage, ferplus_votes=votes)
    data = {"dataset": "fer2013", "root": str(tmp_path)}
    train_split, _ = open_splits(config(data=data))
    assert len(train_split) == 29 and train_split.targets["votes"].shape == (29, 10)
    assert len(open_splits(config(data={**data, "leak_free": False}))[0]) == 30
    assert len(open_splits(config(data={**data, "limit": 14}))[0]) == 14
    with pytest.raises(DatasetError, match="fer2013"):
        open_splits(config(data={**data, "root": str(tmp_path / "none")}))


def test_batches_follow_from_seed_epoch_and_step() -> None:
    train_split, _ = open_splits(config())
    loader = Loader(train_split, config(workers=2))
    whole = list(loader.epoch(3))
    resumed = list(Loader(train_split, config(workers=1)).epoch(3, start=2))
    assert [batch.rows.tolist() for batch in whole[2:]] == [batch.rows.tolist() for batch in resumed]
    assert torch.equal(whole[2].images["image"], resumed[0].images["image"])
    assert not np.array_equal(loader.order(0), loader.order(1))
    halves = [list(Loader(train_split, config(), process, 2).epoch(3))[1] for process in (0, 1)]
    assert np.array_equal(np.concatenate([half.rows for half in halves]), whole[1].rows)
    torch.testing.assert_close(torch.cat([half.images["image"] for half in halves]), whole[1].images["image"])
    once = Loader(train_split, config(sampler__kind="once"))
    assert np.array_equal(once.order(0), once.order(5))


def test_no_process_goes_without_images() -> None:
    """Six images of a last batch among four processes are two, two, one and one."""
    train_split, _ = open_splits(config())
    order = np.arange(98)
    settings = config(batch=92, sampler__drop_last=False)
    parts = [Loader(train_split, settings, process, 4).prepare(order, 0, 1) for process in range(4)]
    assert [len(part.rows) for part in parts] == [2, 2, 1, 1] and sum(part.share for part in parts) == pytest.approx(4)
    assert np.concatenate([part.rows for part in parts]).tolist() == [*range(92, 98)]


def test_soft_labels_of_fewer_classes_still_sum_to_one() -> None:
    data = open_splits(config())[0].data[:3]
    shares = np.array([[0.5, 0, 0, 0.25, 0, 0, 0.25], [0, 0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0]], np.float32)
    settings = config(data__labels="pooled6")  # without neutral
    split = split_of(data.take(np.arange(3), distribution=shares), settings, settings.data[0])
    expected = [[2 / 3, 0, 0, 1 / 3, 0, 0], [0] * 6, [1, 0, 0, 0, 0, 0]]
    assert split.targets["soft"].flatten().tolist() == pytest.approx([share for row in expected for share in row])


def test_decoded_images_on_a_disk_go_with_the_process(tmp_path: Path) -> None:
    kept, _ = open_splits(config(data__cache=str(tmp_path / "cache")))
    plain, _ = open_splits(config())
    rows = np.arange(8)
    assert (kept.images(rows)[0]["image"] == plain.images(rows)[0]["image"]).all()
    assert not list((tmp_path / "cache").iterdir())


def test_patience_counts_epochs_without_a_metric() -> None:
    patient = config(validation__patience=2)
    for epochs, ended in ((1, False), (2, True)):
        assert out_of_patience(patient, Progress(rows=[{"best": False}] * epochs)) is ended


def test_a_process_without_rows_adds_none() -> None:
    answers = np.arange(14.0).reshape(2, 7)
    parts = [{"a": answers[:1]}, {"a": answers[1:]}, {"a": np.empty(0)}]
    assert (interleave(parts)["a"] == answers).all()


def test_a_last_batch_of_one_is_explained(tmp_path: Path) -> None:
    """DAN's BatchNorm of vectors has no variance then."""
    changes: dict[str, Any] = {
        "model": {"name": "dan", "options": {"backbone": "resnet10t"}},
        "input": {"size": 32},
        "loss": [{}],
        "sampler": {"drop_last": False},
    }
    with pytest.raises(TrainingError, match="drop_last"):
        train(config(**changes, batch=7, data__limit=8, optim__ema=0.0), tmp_path / "run")


def test_balanced_sampling_shows_every_class_alike() -> None:
    train_split, _ = open_splits(config())
    few = train_split.targets["label"].clone()
    few[few == 0] = 1
    few[:2] = 0
    train_split.targets["label"] = few
    weights = sample_weights(train_split)
    assert [weights[few.numpy() == k].sum() for k in few.unique().tolist()] == pytest.approx(
        [1 / len(few.unique())] * len(few.unique())
    )
    order = Loader(train_split, config(sampler__kind="balanced", sampler__samples=7000)).order(0)
    assert len(order) == 7000 and abs((few.numpy()[order] == 0).mean() - 1 / 7) < 0.02


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ScheduleConfig(kind="step", every=3, gamma=0.5), lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5)),
        (
            ScheduleConfig(kind="multi-step", milestones=(2, 5), gamma=0.1),
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 5], 0.1),
        ),
        (ScheduleConfig(kind="exponential", gamma=0.9), lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9)),
        (
            ScheduleConfig(kind="plateau", patience=2, gamma=0.1),
            lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, "min", 0.1, 2),
        ),
    ],
)
def test_schedules_are_torchs(ours: ScheduleConfig, theirs: Any) -> None:
    reference = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = theirs(reference)
    schedule = Schedule(ours, epochs=12, per_epoch=4)
    for epoch, loss in enumerate([5, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3, 3]):
        rates = [schedule.factor(epoch * 4 + step) for step in range(4)]
        assert rates == pytest.approx([reference.param_groups[0]["lr"]] * 4)
        schedule.epoch_ended(loss)
        reference.step()
        scheduler.step(loss) if ours.kind == "plateau" else scheduler.step()


def test_one_cycle_rises_and_falls() -> None:
    schedule = Schedule(ScheduleConfig(kind="one-cycle", warmup=0.25, floor=0.01), epochs=10, per_epoch=10)
    factors = [schedule.factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 25) and max(factors) == factors[24] == 1.0
    assert factors[99] == 0.01 and all(a >= b for a, b in itertools.pairwise(factors[24:]))
    assert Schedule(ScheduleConfig(warmup=2.0), epochs=10, per_epoch=10).rise == 20  # epochs from 1 on


def test_groups_have_their_own_learning_rate() -> None:
    network = models.build("mien-base", **TABLE["model"]["options"])
    settings = TrainConfig.of({"optim": {"weight_decay": 0.1, "groups": [{"match": "stem.*", "lr": 0.5}]}}).optim
    found = {(group["factor"], group["weight_decay"]) for group in optimizer(network, settings).param_groups}
    assert found == {(0.5, 0.0), (0.5, 0.1), (1.0, 0.0), (1.0, 0.1)}
    with pytest.raises(ConfigError) as caught:
        optimizer(network, TrainConfig.of({"optim": {"groups": [{"match": "steam.*"}]}}).optim)
    assert caught.value.value == "steam.*" and "stem.0.weight" in caught.value.expected


def test_only_kernels_and_matrices_decay() -> None:
    network = models.build("mien-base", **TABLE["model"]["options"])
    settings = TrainConfig.of({"optim": {"weight_decay": 0.1}}).optim
    groups = {group["weight_decay"]: group["params"] for group in optimizer(network, settings).param_groups}
    assert {parameter.ndim for parameter in groups[0.1]} == {2, 4} and {parameter.ndim for parameter in groups[0.0]} == {1}
    assert sum(map(len, groups.values())) == len(list(network.parameters()))


def test_stages_freeze_what_they_say() -> None:
    network = models.build("mien-base", **TABLE["model"]["options"]).train()
    able = [name for name, _ in network.named_parameters()]
    freeze(network, Stage(train=("fer2013.*", "blocks.3.*"), batch_norm="frozen"), able)
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad} == {"fer2013", "blocks"}
    assert not network.stem[1].training and network.blocks[3].norm1.training
    freeze(network, None, able)
    assert all(p.requires_grad for p in network.parameters())
    with pytest.raises(ConfigError) as caught:
        freeze(network, Stage(train=("head*",)), able)
    assert caught.value.value == ("head*",) and "stem.0.weight" in caught.value.expected


def test_sam_steps_from_where_the_loss_is_highest_nearby() -> None:
    """One step on a quadratic, against the formula written out; BatchNorm's statistics move once or twice."""
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    weight.grad = torch.tensor([3.0, 4.0])
    moves = sam_ascend([weight], 0.5)
    torch.testing.assert_close(weight.detach(), torch.tensor([3.3, 4.4]))
    sam_restore([weight], moves)
    torch.testing.assert_close(weight.detach(), torch.tensor([3.0, 4.0]))
    norm = nn.BatchNorm1d(2)
    with frozen_statistics(norm):
        norm(torch.randn(8, 2))
    assert norm.running_mean.abs().sum() == 0 and norm.num_batches_tracked == 0 and norm.momentum == 0.1


def test_the_average_follows_the_weights() -> None:
    network = nn.BatchNorm1d(3)
    kept = copy.deepcopy(network)
    average = Average(kept, network, 0.9)
    network.weight.data.fill_(2.0)
    network.num_batches_tracked.fill_(7)
    average.update(10_000)
    assert kept.weight.tolist() == pytest.approx([1.1] * 3) and kept.num_batches_tracked == 7


def test_mixup_blends_images_by_the_share() -> None:
    images = {"image": torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 20, 20).contiguous()}
    blended, mix = mixup(images, 1.0, seed=3)
    expected = mix.share * torch.arange(4.0) + (1 - mix.share) * mix.other
    torch.testing.assert_close(blended["image"][:, 0, 0, 0], expected.float())


def test_figures_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    scores, label = random.normal(size=(200, 5)), random.integers(0, 4, 200)  # the fifth class never occurs
    found = classified(scores, label)
    guess, p = scores.argmax(1), torch.from_numpy(scores).softmax(1).numpy()
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(label, guess))
    assert found["uar"] == pytest.approx(oracle.recall_score(label, guess, average="macro", labels=range(4)))
    assert found["macro_f1"] == pytest.approx(oracle.f1_score(label, guess, average="macro", labels=range(4)))
    assert found["nll"] == pytest.approx(oracle.log_loss(label, p, labels=range(5)))
    scores[3] = np.nan  # an image that cannot be read is wrong, not absent
    assert classified(scores, label)["accuracy"] == pytest.approx(((guess == label) & (np.arange(200) != 3)).mean())
    active, units = random.random((50, 3)) > 0.5, random.integers(-1, 2, (50, 3))
    expected = [oracle.f1_score(units[:, k][units[:, k] >= 0], active[:, k][units[:, k] >= 0]) for k in range(3)]
    assert mean_unit_f1(active, units) == pytest.approx(np.mean(expected))
    assert quality({"nll": 2.0, "uar": 0.5}, "nll") == -2.0 and quality({"a": 0.1, "uar": 0.5}, "a + uar") == 0.6


def test_unknown_labels_do_not_count() -> None:
    answer = models.build("mien-base", **TABLE["model"]["options"]).eval()(torch.zeros(4, 1, 32, 32))
    criterion = Criterion((Term(output="fer2013"), Term(kind="votes", output="ferplus")), answer, 7, torch.ones(7))
    targets = {"label": torch.tensor([1, -1, -1, 2]), "votes": torch.zeros(4, 10)}
    targets["votes"][0, 3] = 8
    loss, terms = criterion(answer, targets)
    part = Criterion((Term(output="fer2013"),), answer, 7, torch.ones(7))
    kept = type(answer)(*(value[[0, 3]] for value in answer))
    assert terms["cross-entropy"] == pytest.approx(part(kept, {"label": torch.tensor([1, 2])})[0].item())
    assert loss.isfinite()
    nothing, _ = criterion(answer, {"label": torch.full((4,), -1), "votes": torch.zeros(4, 10)})
    assert nothing.item() == 0


def test_runs_of_mien_0_1_have_the_same_identity() -> None:
    """A config of 0.1, with its spelling and the fields that are gone, is the config of 0.2 that it became."""
    augment = [{"op": "erase", "p": 0.5, "fill": "noise"}]
    ours = identity_of(config(model__init={"file": "first.safetensors"}, augment=augment))
    theirs = config(augment=augment).to_dict()
    theirs["input"]["colour"], theirs["input"]["normalise"] = theirs["input"].pop("color"), theirs["input"].pop("normalize")
    theirs["input"]["colour"] = "grey"
    theirs |= {"loss_weighting": "fixed", "fill": theirs.pop("pseudo_labels")}
    theirs["mix"]["cutmix"], theirs["model"]["init"] = 0.0, "first.safetensors"
    assert identity_of_saved(theirs) == ours


def test_a_run_of_mien_0_1_resumes(tmp_path: Path) -> None:
    """`run-of-0.1` was written by version 0.1 (commit bc25b9e): three epochs of `TABLE`, interrupted in the second."""
    saved = Path(__file__).parent / "run-of-0.1"
    (tmp_path / "last.pt").write_bytes(gzip.decompress((saved / "last.pt.gz").read_bytes()))
    resumed = TrainConfig.of(upgrade(tomllib.loads((saved / "config.toml").read_text())))
    best = train(resumed, tmp_path, resume=True)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3] and ["train_accuracy" in row for row in rows] == [False, True, True]
    assert cards.read(best.with_suffix(".toml")).training["epoch"] == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"optim__sam": 0.05},
        {"accumulate": 4},
        {"optim__name": "radam", "optim__lr": 1e-3, "schedule__kind": "plateau"},
        {"optim__name": "adamw", "optim__lr": 1e-3, "mix": {"mixup": 0.4}},
        {"sampler": {"kind": "balanced", "samples": 48}, "validation": {"views": 2, "patience": 1},
         "input__sizes": {"0": 32, "1": 40}},
        {"stages": [{"epoch": 0, "train": ["fer2013.*"], "batch_norm": "frozen"}, {"epoch": 1}]},
        {"precision": "bf16", "data__limit": 32},
        {"loss": [{"output": "fer2013"},
                  {"kind": "center", "output": "feature", "weight": 0.01},
                  {"kind": "dsf", "output": "feature", "weight": 0.01}, {"kind": "lgm", "output": "feature", "weight": 0.1}]},
    ],
    ids=lambda changes: " ".join(changes),
)  # fmt: skip
def test_every_knob_trains(changes: dict[str, Any], tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    best = train(config(**changes), tmp_path / "run", report=rows.append)
    epochs = [row for row in rows if row["event"] == "epoch"]
    assert best.exists() and np.isfinite(epochs[-1]["loss"])


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    """Without BatchNorm's view of the parts (statistics frozen), four parts give the step of one batch."""
    frozen = [{"train": ["fer2013.*"], "batch_norm": "frozen"}]
    changes = {"stages": frozen, "model__options": {**TABLE["model"]["options"], "dropout": 0.0}, "epochs": 1}
    weights = [load_file(train(config(accumulate=parts, **changes), tmp_path / str(parts))) for parts in (1, 4)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=1e-6, rtol=1e-5)


def test_precision_is_what_the_processor_has() -> None:
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if not torch.cuda.is_available():
        assert loop.fastest_precision() == ("bf16" if native else "fp32")


def test_the_first_losses_are_as_ever(tmp_path: Path) -> None:
    """Twenty steps of a run with augmentation, clipping and averaged weights, as tools/make_golden_scores.py wrote them.

    They may differ by 0.001: sums in another order, as processors take them, move them by 1e-5 (see test_processes.py).
    """
    golden = json.loads((Path(__file__).parents[1] / "golden" / "losses.json").read_text())
    assert losses(tmp_path) == pytest.approx(golden, abs=1e-3) and len(golden) == STEPS == 20
