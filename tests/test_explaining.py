"""Explanations: formulas against plain loops and captum, and a network with known evidence."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import Occlusion
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import mien
from mien import cards, models
from mien.cards import Input, sha256
from mien.errors import ConfigError, SourceError, UnknownName
from mien.explaining import METHODS, NOTHING, Explanation, explain
from mien.explaining.explanation import RAMP, colors, lay, positive
from mien.explaining.faces import Probe, SeenFace, enlarged, log_odds, patches, see, smoothed
from mien.explaining.gradients import attributions, plus_plus
from mien.explaining.strips import strip, strips_per_class
from mien.inference.recognizer import Recognizer
from mien.io.images import read_image
from mien.labels import FER2013
from mien.models.dda import DualDomainAttention
from mien.models.global_roi import CBAM
from mien.models.mfer import DSAttention
from mien.models.torch_runtime import TorchRuntime
from small_networks import BASE, RGB, SMALL, save

SIDE = 64
QUARTERS = [(0, 0), (0, 1), (1, 0), (1, 1)]
"""Row and column of the quarters of an image."""
GRID = np.indices((14, 14))
TEXTURES = [GRID.sum(0) // 3 % 2, GRID[0] // 3 % 2, GRID[1] // 3 % 2, np.hypot(*(GRID - 6.5)) < 6]
"""Classes of a network made here: chequers, lines across, lines down, a disc."""
LOOKING = ["grad-cam", "grad-cam++", "integrated-gradients", "occlusion"]


def scene(*shown: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A gray image with noise and, for each (class, quarter), a square of that texture there."""
    rng = np.random.default_rng(seed)
    image = rng.normal(110, 12, (SIDE, SIDE))
    for each, quarter in shown:
        y, x = (corner * 32 + int(rng.integers(5, 14)) for corner in QUARTERS[quarter])
        image[y : y + 14, x : x + 14] = np.where(TEXTURES[each], 250, 20)
    return np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network trained on the textures: four of its seven classes."""
    path = save(
        tmp_path_factory.mktemp("textures"), "mien-base", {**SMALL, "dropout": 0.0},
        outputs={"scores": "fer2013"}, input=Input(size=(SIDE, SIDE), color="gray"),
    )  # fmt: skip
    torch.manual_seed(0)
    network = models.build("mien-base", **SMALL, dropout=0.0).train()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(70):
        rng = np.random.default_rng(step)
        label, quarter = rng.integers(0, 4, 32), rng.integers(0, 4, 32)
        shown = zip(label.tolist(), quarter.tolist(), strict=True)
        batch = np.stack([scene(each, seed=step * 32 + row)[..., 0] for row, each in enumerate(shown)])
        loss = nn.functional.cross_entropy(
            network(torch.from_numpy(batch)[:, None] / 127.5 - 1).fer2013, torch.from_numpy(label)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    return rewrite(path, network)


def rewrite(path: Path, network: nn.Module) -> Path:
    """Put other weights into a file, and their digest into its card."""
    card = cards.read(path.with_suffix(".toml"))
    save_file({name: value.clone().contiguous() for name, value in network.state_dict().items()}, path)
    text = path.with_suffix(".toml").read_text()
    path.with_suffix(".toml").write_text(text.replace(card.sha256, sha256(path)))
    return path


@pytest.fixture(scope="module")
def read(trained: Path) -> Recognizer:
    return mien.load(trained, detector="whole", points=False, blendshapes=False)


def share(found: Explanation, quarter: int) -> float:
    """Share of the heat in a quarter."""
    row, column = QUARTERS[quarter]
    return float(found.heat[row * 32 :, column * 32 :][:32, :32].sum() / max(found.heat.sum(), 1e-9))


@pytest.mark.parametrize("method", LOOKING)
def test_heat_is_at_the_location_of_the_class(read: Recognizer, method: str) -> None:
    shares = [share(explain(read, scene((each, 3 - each), seed=9000 + each), method=method), 3 - each) for each in range(4)]
    assert min(shares) > 0.35 and np.mean(shares) > 0.45, shares  # 0.25 by chance


@pytest.mark.parametrize("method", LOOKING)
def test_another_class_another_map(read: Recognizer, method: str) -> None:
    """Of two textures in one image each class finds its own."""
    image = scene((0, 0), (3, 3), seed=5)
    first, second = (explain(read, image, method=method, target=FER2013[each]) for each in (0, 3))
    assert share(first, 0) > share(first, 3) and share(second, 3) > share(second, 0)
    assert (first.label, second.label) == (FER2013[0], FER2013[3]) and first.predicted == second.predicted


@pytest.mark.parametrize("method", LOOKING)
def test_random_weights_change_the_map(read: Recognizer, trained: Path, method: str, tmp_path: Path) -> None:
    """A method whose map stays the same when the weights are drawn by lot explains no model (Adebayo et al. 2018)."""
    shuffled = save(
        tmp_path, "mien-base", {**SMALL, "dropout": 0.0},
        outputs={"scores": "fer2013"}, input=Input(size=(SIDE, SIDE), color="gray"),
    )  # fmt: skip
    random = mien.load(shuffled, detector="whole", points=False, blendshapes=False)
    same, other = [], []
    for each in range(4):
        one, two = (scene((each, each), seed=9000 + each) for _ in range(2))
        two[::7, ::7] = np.minimum(two[::7, ::7] + 3, 255)  # an irrelevant change
        target = FER2013[each]
        maps = [
            explain(model, image, method=method, target=target).heat.ravel()
            for model, image in ((read, one), (read, two), (random, one))
        ]
        same.append(np.corrcoef(maps[0], maps[1])[0, 1])
        other.append(np.nan_to_num(np.corrcoef(maps[0], maps[2])[0, 1]) if maps[2].std() else 0.0)
    assert np.mean(same) > 0.9 and np.mean(other) < 0.5, (same, other)


def network_and_field(read: Recognizer) -> tuple[nn.Module, str]:
    assert isinstance(read.runtime, TorchRuntime)
    return read.runtime.network, read.card.outputs["scores"]


def seen_of(read: Recognizer, image: np.ndarray) -> SeenFace:
    return see(read.preprocess, image, None, whole=True)


def test_grad_cam_follows_its_formula(read: Recognizer) -> None:
    """Channels weighed by the mean of their gradient, added, cut off at zero."""
    network, _ = network_and_field(read)
    image = scene((2, 1), seed=1)
    found = explain(read, image, method="grad-cam", target=FER2013[2])
    assert list(found.maps) == ["blocks"]  # the last module that gives places
    batch = torch.from_numpy(np.asarray(Probe(read).batch(seen_of(read, image), [image])))
    places = network.blocks(network.stem(batch)).detach().requires_grad_()  # pyrefly: ignore
    network.fer2013(places.mean((2, 3)))[0, 2].backward()  # pyrefly: ignore
    assert places.grad is not None
    wanted = np.zeros(places.shape[2:])
    for channel, weight in zip(places.detach()[0].numpy(), places.grad[0].mean((1, 2)).tolist(), strict=True):
        wanted += weight * channel
    assert found.maps["blocks"] == pytest.approx(positive(enlarged(np.maximum(wanted, 0), SIDE, SIDE)), abs=1e-4)


def test_grad_cam_plus_plus_follows_its_formula() -> None:
    draw = torch.Generator().manual_seed(0)
    activation, gradient = torch.rand(5, 4, 3, generator=draw), torch.randn(5, 4, 3, generator=draw)
    gradient[2] = 0
    wanted = np.zeros((4, 3))
    for a, g in zip(activation.double().numpy(), gradient.double().numpy(), strict=True):
        weight = 0.0
        for y in range(4):
            for x in range(3):
                if g[y, x] != 0:
                    alpha = g[y, x] ** 2 / (2 * g[y, x] ** 2 + a.sum() * g[y, x] ** 3)
                    weight += alpha * max(g[y, x], 0)
        wanted += weight * a
    assert plus_plus(activation, gradient).numpy() == pytest.approx(np.maximum(wanted, 0), rel=1e-3, abs=1e-5)


def test_integrated_gradients_add_up(read: Recognizer) -> None:
    """Completeness: all attributions together are the rise of the score over the start."""
    network, name = network_and_field(read)
    image = torch.from_numpy(scene((1, 2), seed=3)[..., 0])[None, None] / 127.5 - 1
    start = image.mean((2, 3), keepdim=True).expand_as(image)

    def score(x: Tensor) -> Tensor:
        return getattr(network(x), name)

    with torch.no_grad():
        rise = float(score(image)[0, 1] - score(start)[0, 1])
    total = float(attributions(score, image, (), 1, start).sum())
    assert rise > 1 and total == pytest.approx(rise, rel=0.1)


def test_occlusion_equals_that_of_captum(read: Recognizer) -> None:
    network, name = network_and_field(read)
    image = scene((3, 0), seed=2)
    found = patches(Probe(read), seen_of(read, image), 3, window=16, stride=8)
    fill = float(np.round(image.mean((0, 1)))[0]) / 127.5 - 1
    batch = torch.from_numpy(image[..., 0])[None, None] / 127.5 - 1

    def log_odds(x: Tensor) -> Tensor:
        logits = getattr(network(x), name)
        others = [column for column in range(logits.shape[1]) if column != 3]
        return logits[:, 3] - logits[:, others].logsumexp(1)

    with torch.no_grad():
        wanted = Occlusion(log_odds).attribute(batch, (1, 16, 16), (1, 8, 8), baselines=fill)
    assert found == pytest.approx(wanted[0, 0].numpy(), abs=1e-3) and found.max() > 0.1


def test_drops_of_the_log_odds_of_a_sure_model(read: Recognizer) -> None:
    """Where the probability of a class rounds to one, covering its texture still lowers the log-odds."""
    sure = np.float32([[1e-7, 1, 9e-7], [0, 1, 0], [0.5, 0.5, 0], [1, 0, 0]])
    assert log_odds(sure, 1) == pytest.approx([np.log(1e6), np.log(1e7), 0, -np.log(1e7)], rel=1e-3, abs=1e-6)
    found = explain(read, scene((1, 0), seed=4), method="occlusion", target=FER2013[1])
    assert found.strength == pytest.approx(found.to_dict()["strength"]) and found.strength > 1
    assert explain(read, scene((1, 0), seed=4), method="grad-cam").strength is None


@pytest.mark.parametrize(("name", "side", "maps"), [("dan", 64, 4), ("ddamfn", 112, 2), ("global-cbam", 64, 1)])
def test_attention_maps_are_those_of_the_network(name: str, side: int, maps: int, tmp_path: Path, sample: Path) -> None:
    contract = Input(size=(side, side), scale=RGB.scale, offset=RGB.offset, std=RGB.std)
    read = mien.load(
        save(tmp_path, name, {"num_classes": 7}, input=contract), detector="whole", points=False, blendshapes=False
    )
    image = read_image(sample).pixels[60:200, 150:290]
    found = explain(read, image, method="attention")
    assert len(found.maps) == maps and all((each >= 0).all() and each.max() == 1 for each in found.maps.values())
    if name != "ddamfn":
        return
    seen = seen_of(read, image)
    image = torch.from_numpy(np.asarray(Probe(read).batch(seen, [seen.pixels])))
    with torch.no_grad():
        heads = network_and_field(read)[0](image).heads
    for each, head in zip(found.maps.values(), heads, strict=True):
        mean = head[0].mean(0).numpy()
        stretched = (mean - mean.min()) / (mean.max() - mean.min())
        assert each == pytest.approx(positive(enlarged(stretched, side, side)), abs=1e-4)


def test_places_are_what_the_modules_multiply_by() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 32, 6, 5).relu()
    with torch.no_grad():
        cbam = CBAM(32).eval()
        assert torch.allclose(cbam(x), cbam.channels(x) * cbam.places(x)[:, None])
        attend = DSAttention(32, "code").eval()
        assert attend.places(x).shape == (2, 6, 5) and torch.allclose(attend.places(x).sum((1, 2)), torch.ones(2))
        block = DualDomainAttention(4, 512, 512, "sigmoid", False, True, 64).eval()
        x = torch.randn(1, 512, 7, 7).relu()
        gain = block.places(x)
        assert torch.allclose((x * (1 + block(x))).sum(1), x.sum(1) * (1 + gain), rtol=1e-4)


def test_the_sample_without_torch(sample: Path, tmp_path: Path) -> None:
    """The mouth matters most for the sample; neither torch nor the packages for reports are needed."""
    code = f"""
import sys
for name in ("torch", "captum", "sklearn", "matplotlib"):
    sys.modules[name] = None
import mien
found = mien.explain("mien-base", {str(sample)!r})
most = max(("eyes", "nose", "mouth"), key=found.regions.get)
print(found.method, found.label, most, found.save({str(tmp_path / "why.png")!r}).name)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.split() == ["occlusion", "happiness", "mouth", "why.png"], run.stderr
    with Image.open(tmp_path / "why.png") as image:
        assert image.width == 1024 and image.height > 1024


@pytest.fixture(scope="module")
def on_photo(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> tuple[Recognizer, Explanation]:
    path = save(tmp_path_factory.mktemp("photo"), "mien-base", SMALL, crop=cards.Crop(template="fer2013"), **BASE)
    read = mien.load(path, blendshapes=False)
    return read, explain(read, sample, layers=["blocks.1"])


def test_the_explanation_is_of_the_prediction(on_photo: tuple[Recognizer, Explanation], sample: Path) -> None:
    read, found = on_photo
    (face,) = read(sample).faces
    assert (found.label, found.predicted) == (face.label, face.label) and found.box == face.box
    assert found.probability == pytest.approx(face.confidence, abs=1e-6)
    assert list(found.maps) == ["blocks.1"] and found.heat.shape == (48, 48) and found.heat.max() == 1
    plain = found.to_dict()
    assert plain["regions"].keys() == {"eyes", "nose", "mouth", "elsewhere"} and plain["status"] == "ok"


def test_the_overlay_keeps_the_rest_of_the_photograph(on_photo: tuple[Recognizer, Explanation]) -> None:
    _, found = on_photo
    plain = np.asarray(Image.fromarray(found.image).resize((1024, 1024), Image.Resampling.BICUBIC)).astype(int)
    changed = np.abs(np.asarray(found.overlay())[:1024] - plain).max(2) > 40
    rows, columns = np.nonzero(changed)
    box = found.box
    assert changed.sum() > 1000
    assert 2 * box.left - 60 < columns.min() and columns.max() < 2 * box.right + 60 and rows.max() < 2 * box.bottom + 60


def test_heat_is_mapped_back_to_the_photograph() -> None:
    """A hot pixel of a turned and enlarged crop is mapped to its location by the matrix."""
    photo = Image.new("RGB", (200, 150), (128, 128, 128))
    turn, zoom = np.deg2rad(20), 0.8
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = np.column_stack([linear, [-20.0, -45.0]])
    heat = np.zeros((48, 48))
    heat[30, 12] = 1
    changed = np.abs(np.asarray(lay(photo, heat, matrix)).astype(float) - 128).sum(2)
    rows, columns = np.indices(changed.shape)
    place = np.array([(columns * changed).sum(), (rows * changed).sum()]) / changed.sum()
    assert matrix[:, :2] @ place + matrix[:, 2] == pytest.approx([12, 30], abs=0.1)


def test_a_tile_is_the_face_at_another_size(on_photo: tuple[Recognizer, Explanation], read: Recognizer) -> None:
    _, found = on_photo
    same = np.asarray(found.face(48)).astype(int)
    assert np.abs(same - found.crop).max() <= 1
    plain = explain(read, np.full((SIDE, SIDE, 3), 200, np.uint8), method="occlusion")
    assert np.asarray(plain.face(150)).min() == 200  # no dark rim


def test_colors_grow_lighter() -> None:
    light = colors(np.linspace(0, 1, 50)) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > 0).all()
    assert colors(np.array([0.0, 1.0, 2.0])).tolist() == [RAMP[0].tolist(), RAMP[-1].tolist(), RAMP[-1].tolist()]
    assert positive(np.array([[-1.0, 0], [2, 1]])).tolist() == [[0, 0], [1, 0.5]] and not positive(-np.ones((2, 2))).any()
    spot = np.zeros((9, 9))
    spot[4, 4] = 1
    assert smoothed(spot, 1).sum() == pytest.approx(1) and smoothed(np.full((5, 5), 3.0), 2) == pytest.approx(3)


def test_invalid_requests(on_photo: tuple[Recognizer, Explanation], sample: Path, tmp_path: Path) -> None:
    read, found = on_photo
    lawn = np.full((120, 160, 3), 90, np.uint8)
    with pytest.raises(SourceError):
        explain(read, lawn)
    with pytest.raises(SourceError) as caught:
        explain(read, sample, face=1)
    assert (caught.value.value, caught.value.expected) == (1, range(1))
    with pytest.raises(ConfigError) as caught:
        explain(read, sample, target="contempt")
    assert caught.value.value == "contempt" and "happiness" in caught.value.expected
    with pytest.raises(UnknownName, match="'grad-cam'"):
        explain(read, sample, method="gradcam")
    with pytest.raises(UnknownName, match=r"'block\.1'"):
        explain(read, sample, layers=["block.1"])
    with pytest.raises(ConfigError) as caught:
        explain(read, sample, method="attention")
    assert caught.value.value == read.card.network["architecture"]
    for method in METHODS.keys() - {"occlusion"}:
        with pytest.raises(ConfigError) as caught:
            explain("mien-base", sample, method=method)
        assert (caught.value.path, caught.value.value) == ("mien-base.onnx", method)
    with pytest.raises(ValueError, match=r"\.txt"):
        found.save(tmp_path / "why.txt")


def test_an_empty_map_has_a_note(tmp_path: Path) -> None:
    """A network with constant output."""
    path = save(tmp_path, "mien-base", SMALL, **BASE)
    network = models.build("mien-base", **SMALL)
    with torch.no_grad():
        network.fer2013.weight.zero_()  # pyrefly: ignore
    read = mien.load(rewrite(path, network), detector="whole", points=False, blendshapes=False)
    found = explain(read, scene((0, 0)), method="occlusion")
    assert NOTHING in found.notes and not found.heat.any() and found.to_dict()["center"] is None
    assert found.strength == pytest.approx(0, abs=1e-6)


def test_a_missing_explanation_leaves_its_place_empty(on_photo: tuple[Recognizer, Explanation]) -> None:
    other = dataclasses.replace(on_photo[1], source="other", method="occlusion")
    uneven = np.asarray(strip([on_photo[1], other], tile=64))  # Grad-CAM of one face and occlusion of another
    corners = [(top, uneven.shape[1] - right) for top in (11, 81) for right in (146, 76)]
    assert [bool((uneven[y : y + 64, x : x + 64] == 255).all()) for y, x in corners] == [False, True, True, False]
    with pytest.raises(ConfigError):
        strip([])


def test_strips(on_photo: tuple[Recognizer, Explanation], read: Recognizer, sample: Path, shared: Path) -> None:
    _, found = on_photo
    two = strip([found, explain("mien-base", sample, method="occlusion")], tile=64)
    one = strip([found], tile=64)
    assert two.width == one.width + 70 and two.height == one.height  # one row: the same face

    data = mien.open_dataset("fer2013", shared / "data" / "fer2013", "validation").take(np.arange(60))
    with pytest.raises(ConfigError) as caught:
        strips_per_class(read, data, 0)
    assert caught.value.value == 0
    first, again = (strips_per_class(read, data, 2, method="occlusion", tile=48, seed=seed) for seed in (1, 1))
    assert first.tobytes() == again.tobytes() and first.width > 3 * 48
    nameless = data.take(np.arange(5), labels=tuple(f"class {index}" for index in range(7)))
    with pytest.raises(ConfigError) as caught:
        strips_per_class(read, nameless)
    assert caught.value.value == nameless.labels
