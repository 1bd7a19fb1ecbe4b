import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from checkpoint_samples import saved
from test_loading import author_dan, build
from torch import Tensor
from torchvision.transforms import v2

import mien
from disks import full_disk
from mien import cards, models
from mien.cli import main
from mien.errors import ConfigError, UnknownName, WeightsError
from mien.faces.preprocessing import Preprocess
from mien.labels import ACTION_UNITS, AFFECTNET7, AFFWILD2, label_set
from mien.models.checkpoints import import_checkpoint
from mien.runtime.open_model import open_model


def filled(name: str, **options: Any) -> dict[str, Tensor]:
    """Return a state dict with numbers of its own for every entry."""
    torch.manual_seed(0)
    return {
        key: torch.rand(tensor.shape) if tensor.is_floating_point() else torch.tensor(7)
        for key, tensor in build(name, **options).state_dict().items()
    }


def test_a_checkpoint_becomes_weights_and_a_card(tmp_path: Path) -> None:
    state = filled("ddamfn", num_classes=7, num_heads=4)  # DDAMFN's mapping leaves names alone that are ours already
    file = saved(
        {"iter": 19, "acc": 0.671, "model_state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "aff7.pth"
    )
    report = import_checkpoint("ddamfn", file, tmp_path / "out" / "ddamfn-affectnet7.safetensors")

    assert report.load is not None
    assert report.load.summary() == f"{len(state)} tensors loaded"
    written = safetensors.torch.load_file(report.weights)
    assert written.keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in written.items())

    assert report.card == tmp_path / "out" / "ddamfn-affectnet7.toml"
    card = cards.read(report.card)
    assert card.weights == report.weights  # the digest is right, too
    assert card.labels == AFFECTNET7
    assert card.network == {"architecture": "ddamfn", "options": {"num_heads": 4, "num_classes": 7}}
    assert card.training["file_says"] == {"iter": 19, "acc": 0.671}
    assert card.origin == "aff7.pth (torch zip, entry 'model_state_dict')"
    assert card.crop == cards.Crop(template="ddamfn5")
    assert not list((tmp_path / "out").glob("*.part"))

    network = models.build(card.network["architecture"], **card.network["options"])
    network.load_state_dict(written)  # strictly


def test_weights_that_cannot_be_written_leave_the_old_ones(tmp_path: Path) -> None:
    file, out = saved(filled("ddamfn", num_classes=7), tmp_path / "a.pth"), tmp_path / "out/a.safetensors"
    out.parent.mkdir()
    out.write_bytes(b"old")
    with full_disk(100_000), pytest.raises(WeightsError, match=r"a\.safetensors"):
        import_checkpoint("ddamfn", file, out)
    assert out.read_bytes() == b"old" and not out.with_suffix(".toml").exists()


def test_the_card_feeds_what_the_authors_fed(tmp_path: Path) -> None:
    file = saved(filled("ddamfn", num_classes=7), tmp_path / "a.pth")
    report = import_checkpoint("ddamfn", file, tmp_path / "a.safetensors")
    assert report.card is not None
    preprocess = Preprocess.of(cards.read(report.card))
    face = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    theirs = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    )
    np.testing.assert_allclose(preprocess.tensor(face[None])[0], theirs(face).numpy(), atol=1e-6)


def test_the_multi_task_net_is_recognized_by_its_columns(tmp_path: Path) -> None:
    for form, columns in {"code": (*AFFWILD2, "never labeled"), "paper": AFFWILD2, "default": AFFWILD2}.items():
        file = saved(filled("ddamfn-mtl", form=form), tmp_path / f"{form}.pth")
        report = import_checkpoint("ddamfn-mtl", file, tmp_path / f"{form}.safetensors")
        assert report.card is not None
        card = cards.read(report.card)
        assert card.labels == columns
        assert card.network["options"] == {"num_heads": 2, "form": form, "num_classes": len(columns)}


def test_an_unknown_order_of_classes_needs_labels(tmp_path: Path) -> None:
    file, out = saved(filled("timm:test_resnet", num_classes=7), tmp_path / "a.pth"), tmp_path / "a.safetensors"
    with pytest.raises(ConfigError, match=r"fer2013, .*rafdb"):
        import_checkpoint("timm:test_resnet", file, out)
    with pytest.raises(ConfigError, match="'ferplus'"):
        import_checkpoint("timm:test_resnet", file, out, labels="ferplus")
    with pytest.raises(UnknownName, match="'rafdb'"):
        import_checkpoint("timm:test_resnet", file, out, labels="rafbd")
    assert not out.exists()
    for labels in ("rafdb", "fer2013"):
        report = import_checkpoint("timm:test_resnet", file, out, labels=labels)
        assert report.card is not None
        assert cards.read(report.card).labels == label_set(labels)


def test_images_are_resized_and_normalized_as_the_data_sets_authors_did(tmp_path: Path) -> None:
    file = saved(filled("resnet34", num_classes=7), tmp_path / "a")
    seen = {}
    for labels in ("fer2013", "rafdb"):
        report = import_checkpoint("resnet34", file, tmp_path / "a.safetensors", labels=labels)
        assert report.card is not None
        seen[labels] = cards.read(report.card).input
    assert seen["fer2013"] == cards.Input(size=(224, 224), scale=1 / 255, offset=(0.0,), resize="cv2-bilinear")
    assert seen["rafdb"] is not None
    assert (seen["rafdb"].resize, seen["rafdb"].std) == ("pil-bilinear", (0.229, 0.224, 0.225))


def test_a_file_that_only_starts_a_network_gets_no_card(tmp_path: Path) -> None:
    start = {key.removeprefix("model."): value for key, value in filled("timm:resnet18", num_classes=9).items()}
    file = saved({"state_dict": start}, tmp_path / "resnet18_msceleb.pth")
    report = import_checkpoint("dan", file, tmp_path / "start.safetensors", partial=True)
    assert report.card is None
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".toml"] == []
    written = safetensors.torch.load_file(report.weights)
    assert len(written) == 120
    assert torch.equal(written["features.layer4.1.conv2.weight"], start["layer4.1.conv2.weight"])
    with pytest.raises(WeightsError, match="'dan'"):
        import_checkpoint("dan", file, tmp_path / "whole.safetensors")


def test_as_is_changes_the_container_only(tmp_path: Path) -> None:
    tied = torch.rand(3, 4)
    file = saved({"net": {"a": tied, "b": tied, "c": tied.T}}, tmp_path / "a")
    report = import_checkpoint("as-is", file, tmp_path / "a.safetensors")
    assert (report.card, report.load) == (None, None)
    written = safetensors.torch.load_file(report.weights)
    assert torch.equal(written["a"], tied)
    assert torch.equal(written["b"], tied)
    assert torch.equal(written["c"], tied.T)


def test_options_that_the_file_does_not_tell_can_be_given(tmp_path: Path) -> None:
    file = saved(filled("dan", backbone="test_resnet", num_classes=8), tmp_path / "a")
    for told in ({"backbone": "test_resnet"}, {"backbone": "test_resnet", "num_classes": 8}):
        report = import_checkpoint("dan", file, tmp_path / "a.safetensors", options=told)
        assert report.card is not None
        options = cards.read(report.card).network["options"]
        assert options == {"num_heads": 4, "backbone": "test_resnet", "num_classes": 8}


def test_a_loose_import_says_so_on_the_card(tmp_path: Path) -> None:
    state = filled("timm:test_resnet", num_classes=7)
    del state["model.fc.bias"]
    file = saved(state, tmp_path / "a")
    report = import_checkpoint("timm:test_resnet", file, tmp_path / "a.safetensors", labels="rafdb", strict=False)
    assert report.card is not None
    assert cards.read(report.card).training["import"].endswith("tensors loaded, 1 missing (model.fc.bias)")


def test_mistakes_are_reported_before_anything_is_written(tmp_path: Path) -> None:
    file = saved(author_dan(models.build("dan", num_classes=8)), tmp_path / "dan8.pth")
    out = tmp_path / "new" / "a.safetensors"
    with pytest.raises(ConfigError, match=r"a\.pth"):
        import_checkpoint("dan", file, tmp_path / "a.pth")
    with pytest.raises(UnknownName, match="'dan'"):
        import_checkpoint("dann", tmp_path / "none.pth", out)
    with pytest.raises(WeightsError, match="'global-roi'"):
        import_checkpoint("global-roi", file, out, labels="affectnet8")
    assert not out.parent.exists()


@pytest.mark.parametrize(("labels", "given", "template"), [
    ("fer2013", None, "fer2013"), ("rafdb", None, "arcface112"), ("rafdb", "fer2013", "fer2013"), ("rafdb", "", None),
])  # fmt: skip
def test_faces_are_cropped_as_in_the_dataset_or_as_given(
    labels: str, given: str | None, template: str | None, tmp_path: Path
) -> None:
    file = saved(filled("timm:test_resnet", num_classes=7), tmp_path / "a.pth")
    report = import_checkpoint("timm:test_resnet", file, tmp_path / "a.safetensors", labels=labels, crop=given)
    assert report.card is not None
    crop = cards.read(report.card).crop
    assert (crop.template if crop else None) == template


def test_a_misspelt_crop_is_refused_before_the_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        import_checkpoint("dan", tmp_path / "none.pth", tmp_path / "a.safetensors", crop="arcface")


def test_the_multi_task_card_has_all_three_heads(tmp_path: Path) -> None:
    file = saved(filled("ddamfn-mtl", form="code"), tmp_path / "a.pth")
    report = import_checkpoint("ddamfn-mtl", file, tmp_path / "a.safetensors")
    assert report.card is not None
    card, runtime = open_model(report.card)
    outputs = runtime(np.zeros((2, 3, 112, 112), np.float32))
    assert outputs[card.outputs["valence_arousal"]].shape == (2, 2)
    assert outputs[card.outputs["action_units"]].shape == (2, 12)
    assert outputs[card.outputs["scores"]].shape == (2, 9)


def test_trained_action_units_of_an_import_replace_the_estimated_ones(tmp_path: Path, sample: Path) -> None:
    """From the authors' file by `mien import` to every output of `mien predict`."""
    torch.manual_seed(0)
    network = models.build("ddamfn-mtl", form="code")
    file, out = saved(network.state_dict(), tmp_path / "a.pth"), tmp_path / "mtl.safetensors"
    assert main(["import", "ddamfn-mtl", str(file), "--out", str(out)]) == 0
    (face,) = mien.load(out)(sample).faces
    (usual,) = mien.load()(sample).faces
    assert usual.action_units is None and usual.action_units_estimated is not None
    assert face.action_units_estimated is None and face.action_units is not None and tuple(face.action_units) == ACTION_UNITS
    assert face.valence is not None and face.arousal is not None and len(face.scores) == 9
    table, lines = tmp_path / "faces.csv", tmp_path / "faces.jsonl"
    assert main(["predict", str(sample), "--model", str(out), "--csv", str(table), "--jsonl", str(lines), "--overwrite"]) == 0
    with table.open(newline="") as rows:
        (row,) = csv.DictReader(rows)
    assert not [name for name in row if name.startswith("estimated_")]
    assert {name.removeprefix("unit_"): float(row[name]) for name in row if name.startswith("unit_")} == pytest.approx(
        face.action_units, abs=1e-5
    )
    assert float(row["valence"]) == pytest.approx(face.valence, abs=1e-5)
    (stored,) = json.loads(lines.read_text())["faces"]
    assert stored["action_units"] == pytest.approx(face.action_units, abs=1e-5) and stored["action_units_estimated"] is None
    table = tmp_path / "openface.csv"
    assert main(["predict", str(sample), "--model", str(out), "--csv", str(table), "--format", "openface"]) == 0
    header = table.read_text().splitlines()[0]
    assert "AU12_c" in header and "AU12_r" not in header  # trained units have probabilities, not intensities
