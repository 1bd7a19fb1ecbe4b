import argparse
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_samples import SAMPLES, author_classes, author_net, optimizer_state, saved, state, whole_module, zipped

from mien.errors import WeightsError
from mien.models.checkpoints import read_checkpoint


def assert_same(read: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert sorted(read) == sorted(wanted)
    for name, tensor in wanted.items():
        assert read[name].dtype == tensor.dtype, name
        assert torch.equal(read[name], tensor), name
        assert not read[name].requires_grad


@pytest.mark.parametrize("name", SAMPLES)
def test_every_container_gives_the_same_names_and_values(name: str, tmp_path: Path) -> None:
    make, container = SAMPLES[name]
    suffix = ".npz" if name.startswith("npz") else ".pth"  # numpy appends .npz by itself
    path = make(tmp_path / f"weights{suffix}")
    assert not {"package", "package.model1", "networks"} & set(sys.modules)
    checkpoint = read_checkpoint(path)
    assert not {"package", "package.model1", "networks"} & set(sys.modules)
    assert_same(checkpoint.state, state())
    assert checkpoint.container == container


def test_names_keep_the_order_of_the_module(tmp_path: Path) -> None:
    with author_classes("package.model1") as kind:
        order = list(kind().state_dict())
    assert list(read_checkpoint(whole_module(tmp_path / "a.path")).state) == order
    assert "gate.grid" in order
    assert "gate.scratch" not in order  # not persistent
    assert "absent" not in order


def test_plain_values_beside_the_state_are_metadata(tmp_path: Path) -> None:
    content = {
        "lr": 1e-4,
        "net": state(),
        "val_acc": [1.5, 2],
        "name": "DDA",
        "optimizer": optimizer_state(),
        "path": None,
    }
    assert read_checkpoint(saved(content, tmp_path / "a")).metadata == {"lr": 1e-4, "val_acc": [1.5, 2], "name": "DDA"}
    assert read_checkpoint(SAMPLES["safetensors"][0](tmp_path / "b")).metadata == {"epoch": "7"}


@pytest.mark.parametrize("name", ["optimizer", "optimizer_state_dict", "Optim"])
def test_an_optimizer_is_never_taken_for_the_network(name: str, tmp_path: Path) -> None:
    assert_same(read_checkpoint(saved({name: optimizer_state(), "encoder": state()}, tmp_path / "a")).state, state())
    with pytest.raises(WeightsError, match=name):
        read_checkpoint(saved({"epoch": 3, name: optimizer_state()}, tmp_path / "b"))


@pytest.mark.parametrize("protocol", [2, 4])
def test_numbers_of_numpy_are_numbers(protocol: int, tmp_path: Path) -> None:
    beside = {"acc": np.float64(0.8996), "loss": np.float32(0.5), "epoch": np.int64(-300), "best": np.bool_(True)}
    read = read_checkpoint(saved({"net": state(), **beside, "all": [np.float64(0.25)]}, tmp_path / "a", protocol=protocol))
    assert read.metadata == {"acc": 0.8996, "loss": 0.5, "epoch": -300, "best": True, "all": [0.25]}
    assert {type(value) for value in read.metadata.values()} == {float, int, bool, list}


def test_parameters_of_old_modules_are_read(tmp_path: Path) -> None:
    with author_classes("package.model1") as kind:
        net = author_net(kind)
        net.fc.__dict__["_parameters"] = {name: OldParameter(tensor.detach()) for name, tensor in net.fc.named_parameters()}
        path = saved(net, tmp_path / "a")
    assert_same(read_checkpoint(path).state, state())


class OldParameter:
    """Pickles as parameters did before PyTorch 1.0."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> object:
        return torch.nn.parameter.Parameter, (self.tensor, True)


@pytest.mark.parametrize("legacy", [False, True])
def test_every_number_type_and_layout(legacy: bool, tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {f"{kind}": torch.tensor([[0, 1], [1, 0]]).to(kind) for kind in (torch.float16, torch.bfloat16, torch.float64)}
    tensors |= {
        f"{kind}": torch.tensor([0, 1, 1]).to(kind) for kind in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    }
    tensors |= {
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(3),
        "empty": torch.empty(0, 4),
        "transposed": whole.T,
        "window": whole[1:3, 2:5],
        "nothing more": whole,
    }
    read = read_checkpoint(saved(tensors, tmp_path / "a", legacy=legacy)).state
    assert_same(read, tensors)
    assert all(tensor.is_contiguous() for tensor in read.values())


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    tied = torch.ones(3)
    read = read_checkpoint(saved({"a": tied, "b": tied}, tmp_path / "a")).state
    read["a"][0] = 5
    assert read["b"][0] == 5


def test_only_the_requested_tensors_are_read(tmp_path: Path) -> None:
    path = saved(
        {"model_state_dict": {"w": torch.ones(2)}, "optimizer_state_dict": {"state": {0: torch.zeros(9)}}}, tmp_path / "a"
    )
    data = path.read_bytes()
    assert data.count(bytes(36)) == 1
    path.write_bytes(data.replace(bytes(36), b"\x01" * 36))  # wrong checksum, in the optimizer's block
    assert read_checkpoint(path).state["w"].tolist() == [1, 1]


def test_fortran_and_big_endian_arrays(tmp_path: Path) -> None:
    grid = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(tmp_path / "a.npz", fortran=np.asfortranarray(grid), big=grid.astype(">f4"), scalar=np.int64(4))
    read = read_checkpoint(tmp_path / "a.npz").state
    assert_same(read, {"fortran": torch.from_numpy(grid), "big": torch.from_numpy(grid), "scalar": torch.tensor(4)})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (
            b"<!DOCTYPE html><html>Google Drive - Virus scan warning",
            "text",
        ),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5 file"),
        (b"\x00" * 257 + b"ustar" + b"\x00" * 250, "the tar format that PyTorch wrote before 0.1.10"),
        (b"\x93NUMPY\x01\x00", "begins with b'.*NUMPY"),
        (b"\x80\x02}q\x00.", "not one that torch.save wrote"),
    ],
)
def test_other_files_are_named(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=reason) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(WeightsError):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"epoch": 3, "loss": [0.5]}, "it contains no state dict, only 'epoch', 'loss'"),
        ({}, "only an empty dict"),
        ([torch.ones(2)], "it contains a list, expected a state dict"),
        (torch.ones(2), "it contains a TensorRef, expected a state dict"),
        (torch.nn.ReLU(), "its torch.nn.modules.activation.ReLU is not a module with weights"),
    ],
)
def test_files_without_weights_say_what_they_hold(content: object, reason: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=reason):
        read_checkpoint(saved(content, tmp_path / "a"))


def test_a_torchscript_program_is_named(tmp_path: Path) -> None:
    path = zipped(b"\x80\x02}.", tmp_path / "a", {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", b"\x80\x02).")
    with pytest.raises(WeightsError, match="TorchScript program"):
        read_checkpoint(path)


class RecorderMeter:
    """What the training script of POSTER++ pickles beside the weights."""


def test_records_of_metrics_and_arguments_beside_the_weights_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter, arguments = RecorderMeter(), argparse.Namespace(lr=3.5e-5)
    meter.epoch_losses = np.zeros((3, 2), np.float32)  # pyrefly: ignore
    monkeypatch.setattr(RecorderMeter, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "RecorderMeter", RecorderMeter, raising=False)
    wrapped = {f"module.{name}": tensor for name, tensor in state().items()}
    content = {"epoch": 3, "state_dict": wrapped, "best_acc": torch.tensor(92.2), "recorder": meter, "args": arguments}
    checkpoint = read_checkpoint(saved(content, tmp_path / "model_best.pth"))
    assert_same(checkpoint.state, state())
    assert checkpoint.metadata["epoch"] == 3


def test_a_file_with_only_an_optimizer_is_refused(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    path = saved(optimizer.state_dict(), tmp_path / "model_best.pth")
    with pytest.raises(WeightsError, match="optimizer") as caught:
        read_checkpoint(path)
    assert caught.value.path == str(path)
