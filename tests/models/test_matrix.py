"""Every architecture × what one does with it: read, learn, save and load, export, refuse images that do not fit."""

import re
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mien import models
from zoo import CASES, Case

SLOW = ([], [pytest.mark.slow])
SLOW_TO_BUILD = {"dda-resnet50"}
DYNAMO = ("dan", "timm:test_resnet", "timm:test_vit")
"""What torch's exporter of graphs is tried with. It takes ten times longer than the one that `mien export` uses, with which
tests/exporting tries every architecture."""

every_case = pytest.mark.parametrize(
    "case", [pytest.param(case, id=name, marks=SLOW[name in SLOW_TO_BUILD]) for name, case in CASES.items()]
)


def answer(network: nn.Module, images: dict[str, Tensor]) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(network(**images)) if leaf is not None]


def loss(network: nn.Module, images: dict[str, Tensor]) -> Tensor:
    torch.manual_seed(1)  # dropout draws the same every time
    output = network(**images)
    labels = torch.arange(len(output.logits)) % output.logits.shape[1]
    return nn.functional.cross_entropy(output.logits, labels) + sum(leaf.square().mean() for leaf in tree_leaves(output)[1:])


def test_the_matrix_has_every_architecture() -> None:
    assert set(models.MODELS) - {"mien-base", "mien-nano"} <= set(CASES)


@every_case
def test_learns(case: Case, tmp_path: Path) -> None:
    network, images = case.build(), case.images(4)
    dead = set(models.dead_parameters(network))
    before = loss(network, images)
    before.backward()
    for name, parameter in network.named_parameters():
        assert not (name in dead and parameter.requires_grad), name
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    learning = [each for each in network.parameters() if each.requires_grad]
    assert learning
    nn.utils.clip_grad_norm_(learning, 1.0)
    torch.optim.SGD(learning, lr=1e-3).step()
    assert loss(network, images) < before

    expected = answer(network.eval(), case.images(2))
    assert all(leaf.isfinite().all() for leaf in expected)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    for tensor in network.state_dict().values():
        tensor.zero_()
    network.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    parameters = dict(network.named_parameters())
    for name in dead:
        nn.init.constant_(parameters[name], torch.nan)  # whatever a dead parameter holds, nobody notices
    for again, once in zip(answer(network, case.images(2)), expected, strict=True):
        torch.testing.assert_close(again, once, rtol=0, atol=0)


@pytest.mark.skipif(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9), reason="torch 2.9 or newer")
@pytest.mark.parametrize("name", DYNAMO)
def test_torchs_other_exporter_takes_it_too(name: str, tmp_path: Path) -> None:
    case, path = CASES[name], tmp_path / "network.onnx"
    network, images = case.settled(), case.images(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        dynamic = {image: {0: torch.export.Dim.DYNAMIC} for image in images}
        torch.onnx.export(
            network, (), path, kwargs=images, dynamic_shapes=dynamic, external_data=False, verbose=False, dynamo=True
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == list(case.sizes)
    for batch in (1, 2, 7):
        images = case.images(batch)
        with torch.inference_mode():
            ours = answer(network, images)
        theirs = session.run(None, {name: image.numpy() for name, image in images.items()})
        for torch_output, onnx_output in zip(ours, theirs, strict=True):
            largest = torch_output.abs().max().item()
            np.testing.assert_allclose(onnx_output, torch_output.numpy(), rtol=0, atol=1e-4 * largest)


@every_case
def test_says_which_images_work(case: Case) -> None:
    inputs = models.info(case.name).inputs
    with torch.device("meta"):
        network = models.build(case.name, **{name: value for name, value in case.options.items() if name != "size"})
        images = {each.name: torch.empty(2, 3, each.size, each.size) for each in inputs}
    for each in inputs:
        with pytest.raises(ValueError, match=rf"{each.name}: expected .*\(N, 3, height, width\).*\(2, 1, 64, 64\)"):
            network(**images | {each.name: torch.empty(2, 1, 64, 64, device="meta")})
        wrong = next(side for side in range(130, 0, -1) if not each.fits(side))
        for height, width in ((wrong, each.size), (each.size, wrong)):
            message = f"{each.name}: height and width must be {each.sizes}, got {height} and {width}"
            with pytest.raises(ValueError, match=re.escape(message)):
                network(**images | {each.name: torch.empty(2, 3, height, width, device="meta")})


@pytest.mark.parametrize("name", ["dda-resnet34", "ddamfn", "ddamfn-mtl"])
def test_slim_leaves_out_what_is_dead_and_nothing_else(name: str) -> None:
    case = CASES[name]
    full, slim = case.build().eval(), models.build(name, slim=True, **case.options).eval()
    kept, left = slim.load_state_dict(full.state_dict(), strict=False)
    assert kept == []
    assert set(models.dead_parameters(full)) <= set(left)
    assert {key.rpartition(".")[0] for key in left} == {key.rpartition(".")[0] for key in models.dead_parameters(full)}
    assert models.dead_parameters(slim) == []
    for ours, theirs in zip(answer(slim, case.images(1)), answer(full, case.images(1)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
