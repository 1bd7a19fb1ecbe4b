import pytest
import torch

from mien import models
from mien.errors import ConfigError

NAMES = ("ddamfn", "ddamfn-mtl")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [16, 48, 64, 112])
def test_the_last_kernels_span_the_map_of_any_size(name: str, size: int) -> None:
    with torch.device("meta"):
        answer = models.build(name, size=size).eval()(torch.empty(2, 3, size, size))
    assert answer.feature.shape == (2, 512)
    assert {tuple(head.shape[2:]) for head in answer.heads} == {(size // 16, size // 16)}


@pytest.mark.parametrize("name", NAMES)
def test_a_network_reads_the_size_it_was_made_for(name: str) -> None:
    with torch.device("meta"):
        network = models.build(name, size=64)
        with pytest.raises(ValueError, match=r"64.*112"):
            network(torch.empty(2, 3, 112, 112))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0, -16, 15, 50])
def test_a_size_without_a_network_is_refused(name: str, size: int) -> None:
    with pytest.raises(ConfigError, match=f"size={size}"), torch.device("meta"):
        models.build(name, size=size)
