import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from PIL import Image
from runs import config
from safetensors.torch import save_file
from torch import Tensor, nn

from mien import cards, models
from mien.cards import Input
from mien.errors import ConfigError, WeightsError
from mien.runtime.open_model import open_model
from mien.training.config import InitConfig
from mien.training.init_weights import IMAGENET, bundled_network, load_initial_weights
from mien.training.loop import train


def init(file: object, kind: str = "mien") -> InitConfig:
    return InitConfig(file=str(file), kind=kind)


HALF = Input(size=(224, 224))
UNIT = Input(size=(224, 224), scale=1 / 255, offset=(0.0,))
LITE0, MOBILE, FACES = "timm:tf_efficientnet_lite0", "timm:mobilenetv2_100", "timm:mobilenetv1_100"


@pytest.fixture(scope="module")
def pixels(sample: Path) -> Tensor:
    """(2, 3, 224, 224) 0 … 255: the bundled photograph and its upper left quarter."""
    photo = Image.open(sample).convert("RGB")
    views = [photo.resize((224, 224)), photo.crop((0, 0, 256, 256)).resize((224, 224))]
    return torch.from_numpy(np.stack([np.asarray(view) for view in views])).permute(0, 3, 1, 2).float()


def fed(pixels: Tensor, feed: Input) -> Tensor:
    offset, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (feed.offset, feed.std or (1.0,)))
    return (pixels * feed.scale + offset) / std


def reference(shared: Path) -> nn.Module:
    """The plain network that ships beside Lite0's weights, with these weights."""
    spec = importlib.util.spec_from_file_location("effnet_lite0", shared / "tools/effnet_lite0.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return filled(module.EffLite0(), shared / "models/efficientnet_lite0.npz")


def filled(network: nn.Module, path: Path) -> nn.Module:
    with np.load(path) as file:
        network.load_state_dict({name: torch.from_numpy(file[name]) for name in file.files})
    return network.eval()


@pytest.mark.parametrize("name", ["mien-base", "mien-nano"])
@torch.no_grad()
def test_a_bundled_network_can_be_trained_on(name: str, sample: Path) -> None:
    """It answers as the file does, in training too, and other classes keep their random head."""
    photo = np.asarray(Image.open(sample).convert("L"))
    corners = [(y, x) for y in range(0, 256, 16) for x in range(0, 256, 16)]
    card = cards.load(name)
    side = card.input.size[0]
    crops = np.stack([np.asarray(Image.fromarray(photo[y : y + 192, x : x + 192]).resize((side, side))) for y, x in corners])
    images = torch.from_numpy(crops).float()[:, None] / 127.5 - 1
    network = bundled_network(card)
    report = load_initial_weights(network, name, init(name), images=lambda: images)
    assert not (report.unused or report.missing or report.shape_mismatch)
    wanted = torch.from_numpy(open_model(name)[1](images.numpy())["ferplus"])
    temperature = card.training["calibration"]["ferplus"]

    def error() -> float:
        """The files average logits over the mirror image."""
        logits = (network(images).ferplus + network(images.flip(3)).ferplus) / 2
        return float(((logits / temperature).softmax(1) - wanted).abs().mean())

    network.eval()
    assert error() < 0.01
    network.train()
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    assert error() < 0.02
    with pytest.raises(WeightsError, match="training images"):
        load_initial_weights(bundled_network(card), name, init(name))


def test_a_resumed_run_does_not_need_its_initial_weights(tmp_path: Path) -> None:
    first = train(config(epochs=1), tmp_path / "first")
    started = config(model__init={"file": str(first)}, epochs=2)

    def stop(event: dict[str, object]) -> None:
        if event["event"] == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(started, tmp_path / "second", report=stop)
    first.unlink()
    assert train(started, tmp_path / "second", resume=True).exists()
    with pytest.raises(WeightsError):
        train(started, tmp_path / "third")


@pytest.mark.parametrize("file", ["mien-bse", "x", "blazefac"])
def test_missing_files_name_the_bundled_models(file: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load_initial_weights(models.build("mien-nano"), "mien-nano", init(file))
    assert caught.value.path == file and {"mien-base", "mien-nano"} <= {*caught.value.expected}


def test_an_exported_file_of_another_network(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    network = models.build("mien-nano")
    for file in (broken, "mien-base"):
        with pytest.raises(WeightsError) as caught:
            load_initial_weights(network, "mien-nano", init(file), images=lambda: torch.zeros(4, 1, 48, 48))
        assert caught.value.path is not None and caught.value.path.endswith(".onnx")


@torch.no_grad()
def test_mobilenet_v2_answers_as_torchvisions(shared: Path, pixels: Tensor) -> None:
    path = shared / "models/mobilenet_v2.npz"
    network = models.build(MOBILE, num_classes=1000).eval()
    report = load_initial_weights(network, MOBILE, init(path, "mobilenet-v2"))
    assert len(report.loaded) == 262 and not (report.unused or report.missing or report.shape_mismatch)
    expected = filled(torchvision.models.mobilenet_v2(), path)(fed(pixels, IMAGENET))
    assert torch.allclose(network(fed(pixels, IMAGENET)).logits, expected, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("feed", "tolerance"), [(HALF, 5e-3), (IMAGENET, 0.5), (UNIT, 1.0)])
def test_lite0_answers_as_its_reference_whatever_it_is_fed(shared: Path, pixels: Tensor, feed: Input, tolerance: float) -> None:
    network = models.build(LITE0, num_classes=1000).eval()
    load_initial_weights(network, LITE0, init(shared / "models/efficientnet_lite0.npz", "efficientnet-lite0"), feed=feed)
    plain, own = reference(shared), (pixels - 127) / 128
    here, there = network.model.conv_stem(fed(pixels, feed)), plain._conv_stem(own)
    here, there = (x if norm is None else norm(x) for x, norm in ((here, network.model.bn1), (there, plain._bn0)))
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # at the border, zeros are another shade
    assert torch.allclose(here[inner], there.clamp(0, 6)[inner], atol=1e-4)
    assert torch.allclose(network(fed(pixels, feed)).logits, plain(own), atol=tolerance)


@torch.no_grad()
def test_the_face_network_answers_as_its_onnx_file_also_in_training(shared: Path, pixels: Tensor) -> None:
    london = [Image.open(shared / f"data/london/images/{name}.jpg").resize((224, 224)) for name in ("001_03", "002_08")]
    faces = torch.from_numpy(np.stack([np.asarray(face.convert("RGB")) for face in london])).permute(0, 3, 1, 2).float()
    faces = torch.cat([faces, pixels])
    session = onnxruntime.InferenceSession(shared / "models/faceres.onnx")
    bgr = faces.flip(1).permute(0, 2, 3, 1).numpy() - np.array([103.939, 116.779, 123.68], np.float32)
    expected = torch.from_numpy(session.run(None, {"input_1": bgr})[0])
    network = models.build(FACES, num_classes=7, pad_type="same")
    weights = init(shared / "models/faceres.npz", "faceres")
    report = load_initial_weights(network, FACES, weights, images=lambda: fed(faces, IMAGENET))
    assert report.missing == ("model.classifier.weight", "model.classifier.bias") and len(report.loaded) == 135
    assert network.training
    assert torch.allclose(network(fed(faces, IMAGENET)).feature, expected, atol=0.05)
    assert torch.allclose(network.eval()(fed(faces, IMAGENET)).feature, expected, atol=5e-3)
    with pytest.raises(WeightsError, match="training images"):
        load_initial_weights(network, FACES, weights)
    with pytest.raises(WeightsError) as caught:
        load_initial_weights(network, FACES, init(weights.file, "mobilenet-v2"))
    assert caught.value.value == "mobilenet-v2"


@torch.no_grad()
def test_gray_images_are_read_as_the_color_network_reads_them(shared: Path, pixels: Tensor) -> None:
    gray = pixels.mean(1, keepdim=True)
    answers = []
    for channels in (1, 3):
        network = models.build(LITE0, num_classes=1000, in_chans=channels).eval()
        load_initial_weights(network, LITE0, init(shared / "models/efficientnet_lite0.npz", "efficientnet-lite0"), feed=HALF)
        answers.append(network(fed(gray.expand(-1, channels, -1, -1), HALF)).logits)
    assert torch.allclose(*answers, atol=1e-4)


@torch.no_grad()
def test_torchvisions_names_are_understood_by_their_order(tmp_path: Path) -> None:
    theirs = torchvision.models.efficientnet_b0(num_classes=5).eval()
    for part in theirs.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
    torch.save(theirs.state_dict(), tmp_path / "b0.pth")
    network = models.build("timm:efficientnet_b0", num_classes=5).eval()
    report = load_initial_weights(network, "timm:efficientnet_b0", init(tmp_path / "b0.pth", "ordered"))
    assert not report.missing
    image = torch.rand(2, 3, 64, 64)
    assert torch.allclose(network(image).logits, theirs(image), atol=1e-4)


@torch.no_grad()
def test_the_trunk_of_two_heads_is_found_by_the_order_of_entries(tmp_path: Path) -> None:
    """Gray images are seen as the color network sees the same gray three times."""
    theirs = torchvision.models.mobilenet_v2().eval()
    for part in theirs.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
    torch.save(theirs.state_dict(), tmp_path / "mobilenet.pth")
    network = models.build("mien-base", trunk="mobilenetv2_100").eval()
    report = load_initial_weights(network, "mien-base", init(tmp_path / "mobilenet.pth", "ordered"))
    assert report.missing == ("fer2013.weight", "fer2013.bias", "ferplus.weight", "ferplus.bias")
    image = torch.rand(2, 1, 64, 64)
    color = image.expand(-1, 3, -1, -1)
    assert torch.allclose(network(image).feature, theirs.features(color).mean((2, 3)), atol=1e-4)


@torch.no_grad()
def test_the_face_network_can_bear_two_heads(shared: Path, pixels: Tensor) -> None:
    """In `mien-base`'s trunk, told to pad as TensorFlow does, it sees in gray faces what it sees by itself."""
    gray = fed(pixels.mean(1, keepdim=True), HALF)
    options: dict[str, dict[str, object]] = {
        "mien-base": {"trunk": "mobilenetv1_100", "trunk_options": {"pad_type": "same"}},
        FACES: {"num_classes": 7, "pad_type": "same", "in_chans": 1},
    }
    features = []
    for name, wanted in options.items():
        network = models.build(name, **wanted).eval()
        load_initial_weights(network, name, init(shared / "models/faceres.npz", "faceres"), feed=HALF, images=lambda: gray)
        features.append(network(gray).feature)
    assert torch.allclose(*features, atol=1e-5) and float(features[0].std()) > 0.1


@torch.no_grad()
def test_sface_gives_the_features_of_its_file(shared: Path, pixels: Tensor) -> None:
    network = models.build("mien-base", trunk="sface").eval()
    gray = pixels.mean(1, keepdim=True)
    report = load_initial_weights(network, "mien-base", init(shared / "models/sface_trunk.npz", "sface"), feed=HALF)
    assert len(report.loaded) == 162 and not report.shape_mismatch
    assert set(report.missing) == {f"{head}.{part}" for head in ("fer2013", "ferplus") for part in ("weight", "bias")}

    entries = np.load(shared / "models/sface_trunk.npz")
    expected = (gray.expand(-1, 3, -1, -1) - 127.5) / 128
    for name in ["conv_1", *(name for index in range(2, 15) for name in (f"conv_{index}_dw", f"conv_{index}"))]:
        kernel, *norm = (
            torch.from_numpy(entries[f"{name}_{part}"])
            for part in ("conv2d_weight", *(f"batchnorm_{each}" for each in ("moving_mean", "moving_var", "gamma", "beta")))
        )
        stride = 2 if name in ("conv_3_dw", "conv_5_dw", "conv_7_dw", "conv_13_dw") else 1
        groups = expected.shape[1] if name.endswith("dw") else 1
        expected = nn.functional.conv2d(expected, kernel, None, stride, kernel.shape[2] // 2, groups=groups)
        expected = nn.functional.batch_norm(expected, *norm, eps=1e-3)
        expected = nn.functional.prelu(expected, torch.from_numpy(entries[f"{name}_relu_gamma"]).flatten())
    found = network(fed(gray, HALF)).feature
    # Zeros around the image stand for slightly different grays in the two value ranges.
    assert found.shape == (len(pixels), 1024) and torch.allclose(found, expected.mean((2, 3)), atol=0.02)


@torch.no_grad()
@pytest.mark.parametrize("exported", [False, True])
def test_a_system_starts_from_the_trunk_of_another_network(exported: bool, tmp_path: Path) -> None:
    donor = bundled_network(cards.load("mien-base")) if exported else models.build("mien-base", trunk="sface")
    donor.eval()
    images = torch.rand(64, 1, 48, 48) * 2 - 1
    if exported:
        load_initial_weights(donor, "mien-base", init("mien-base"), images=lambda: images)
    path = tmp_path / "donor.safetensors"
    save_file(donor.state_dict(), path)
    network = models.build("dan", backbone="sface").eval()
    source = init("mien-base" if exported else path, "trunk")
    report = load_initial_weights(network, "dan", source, images=lambda: images)
    assert not any("trunk" in key for key in report.missing) and not report.unused and not report.shape_mismatch
    inner = network.features.trunk
    assert torch.allclose(inner(images), donor.trunk(images), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_layers_that_no_image_reaches_may_start_too() -> None:
    """DDAMFN has a BatchNorm of 1,024 channels that it does not use."""
    network = models.build("ddamfn", backbone="sface", size=64)
    report = load_initial_weights(
        network, "ddamfn", init("mien-base", "trunk"), images=lambda: torch.rand(8, 1, 64, 64) * 2 - 1
    )
    assert not any("trunk" in key for key in report.missing)


SLOPES = (0.3, 0.2, 0.0, *(0.1,) * 24)


@torch.no_grad()
def test_the_trunk_with_fixed_slopes_starts_from_prelu(tmp_path: Path) -> None:
    """All but the slopes is taken; the other way round the slopes would be missing."""
    donor = models.build("mien-base", trunk="sface")
    save_file(donor.state_dict(), tmp_path / "prelu.safetensors")
    network = models.build("mien-base", trunk="sface", slopes=SLOPES)
    report = load_initial_weights(network, "mien-base", init(tmp_path / "prelu.safetensors"))
    assert not report.missing and all(key.endswith(".act.weight") for key in report.unused) and len(report.unused) == 27
    assert [getattr(unit.act, "negative_slope", 0.0) for unit in network.trunk] == list(SLOPES)
    assert type(network.trunk[2].act) is nn.ReLU

    save_file(network.state_dict(), tmp_path / "leaky.safetensors")
    with pytest.raises(WeightsError):
        load_initial_weights(models.build("dan", backbone="sface"), "dan", init(tmp_path / "leaky.safetensors", "trunk"))
    with pytest.raises(ConfigError) as caught:
        models.build("mien-base", trunk="sface", slopes=[0.1, 0.2])
    assert caught.value.expected == 27


def test_a_file_without_a_trunk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    save_file({"fc.weight": torch.zeros(7, 512)}, path)
    with pytest.raises(WeightsError):
        load_initial_weights(models.build("dan", backbone="sface"), "dan", init(path, "trunk"))


def test_a_network_starts_from_itself_with_other_classes(tmp_path: Path) -> None:
    trained = models.build("mien-base")
    save_file({key: tensor.contiguous() for key, tensor in trained.state_dict().items()}, tmp_path / "best.safetensors")
    dan = models.build("dan", num_classes=7)
    save_file(dan.state_dict(), tmp_path / "dan.safetensors")
    network = models.build("mien-base")
    assert not load_initial_weights(network, "mien-base", init(tmp_path / "best.safetensors")).missing
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), trained.state_dict().values(), strict=True))
    other = models.build("dan", num_classes=8)
    before = other.fc.weight.clone()
    report = load_initial_weights(other, "dan", init(tmp_path / "dan.safetensors"))
    assert {key for key, _, _ in report.shape_mismatch} == {
        *("fc.weight", "fc.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    }
    assert torch.equal(other.fc.weight, before)
    assert torch.equal(other.features.conv1.weight, dan.features.conv1.weight)


def test_backbones_go_inside_our_networks_under_any_names(tmp_path: Path) -> None:
    resnet = torchvision.models.resnet18()
    save_file(resnet.state_dict(), tmp_path / "resnet18.safetensors")
    dan = models.build("dan", num_classes=7)
    report = load_initial_weights(dan, "dan", init(tmp_path / "resnet18.safetensors", "author"))
    assert sorted(report.unused) == ["pretraining.fc.bias", "pretraining.fc.weight"]
    assert torch.equal(dan.features.layer4[1].conv2.weight, resnet.layer4[1].conv2.weight)
    plain = models.build("timm:resnet18", num_classes=7)
    report = load_initial_weights(plain, "timm:resnet18", init(tmp_path / "resnet18.safetensors", "backbone"))
    assert [key for key, _, _ in report.shape_mismatch] == ["model.fc.bias", "model.fc.weight"]
    assert torch.equal(plain.model.layer4[1].conv2.weight, resnet.layer4[1].conv2.weight)
    ddamfn = models.build("ddamfn", num_classes=8)
    torch.save({"model_state_dict": ddamfn.state_dict()}, tmp_path / "affectnet8.pth")
    multi = models.build("ddamfn-mtl")
    report = load_initial_weights(multi, "ddamfn-mtl", init(tmp_path / "affectnet8.pth", "author"))
    assert all(key.startswith("classifier.") for key in report.missing) and len(report.missing) == 8
    assert torch.equal(multi.pool[0].weight, ddamfn.pool[0].weight)


def test_what_does_not_fit_is_refused_and_changes_nothing(shared: Path, tmp_path: Path) -> None:
    network = models.build("timm:resnet18", num_classes=7)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    wide = torchvision.models.wide_resnet50_2()
    save_file(wide.state_dict(), tmp_path / "wide.safetensors")
    for weights in (
        init(shared / "models/mobilenet_v2.npz", "ordered"),
        init(tmp_path / "missing.npz"),
        init(tmp_path / "wide.safetensors", "backbone"),
    ):
        with pytest.raises(WeightsError) as caught:
            load_initial_weights(network, "timm:resnet18", weights)
        assert caught.value.path == weights.file
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
