"""Actors that need GPUs: how many there are, what Ray keeps for them, and clusters without GPUs.

Ray does not check the number of GPUs it is given, so its part needs none; the worker then finds that onnxruntime has no CUDA.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
from command import environment

from mien.batch import Options, batch, describe
from mien.batch.cluster import actors_for
from mien.batch.items import list_items
from mien.batch.job import Listing
from mien.errors import ConfigError


@pytest.mark.parametrize(("resources", "workers", "threads", "size", "needs"), [
    ({"CPU": 8, "GPU": 2}, None, 1, 2, {"num_cpus": 1, "num_gpus": 1}),
    ({"CPU": 1, "GPU": 2}, None, 1, 1, {"num_cpus": 1, "num_gpus": 1}),  # the cores decide
    ({"CPU": 8, "GPU": 2}, 4, 2, 4, {"num_cpus": 2, "num_gpus": 0.5}),
    ({"CPU": 8, "GPU": 2}, 3, 1, 3, {"num_cpus": 1, "num_gpus": 0.5}),  # thirds would leave room for two only
    ({"CPU": 8, "GPU": 1}, 7, 0, 7, {"num_cpus": 1, "num_gpus": 0.1428}),  # rounded down: seven of them fit
    ({"CPU": 8, "GPU": 4}, 2, 1, 2, {"num_cpus": 1, "num_gpus": 1}),
])  # fmt: skip
def test_gpus_are_shared_alike(
    resources: dict[str, float], workers: int | None, threads: int, size: int, needs: dict[str, float]
) -> None:
    found, each = actors_for(resources, workers, threads, gpu=True)
    assert found == size and each == needs
    sharing = -(-size // int(resources["GPU"]))
    assert each["num_gpus"] * sharing <= 1  # so many fit onto one GPU


def test_without_gpus() -> None:
    assert actors_for({"CPU": 8, "GPU": 2}, None, 2, gpu=False) == (4, {"num_cpus": 2})
    assert actors_for({"CPU": 8}, 3, 1, gpu=False) == (3, {"num_cpus": 1})
    with pytest.raises(ConfigError) as caught:
        actors_for({"CPU": 8}, None, 1, gpu=True)
    assert (caught.value.value, caught.value.expected) == (0, "GPUs")
    with pytest.raises(ConfigError) as caught:
        actors_for({"CPU": 2, "GPU": 1}, None, 4, gpu=True)
    assert (caught.value.value, caught.value.expected) == (4, 2)


def test_the_job_says_the_device(album: Path) -> None:
    """On a cluster the driver needs no GPU; there `auto` is the CPU, since Ray keeps GPUs for those who ask for them."""
    listing = Listing(list_items([str(album / "face 0.jpg")], None))
    for word, here, found, gpu in (("cuda", False, "cuda:0", True), ("auto", False, "cpu", False), ("cpu", True, "cpu", False)):
        job = describe(listing, Options(device=word, points="none", blendshapes=False), None, here=here)
        assert job.options["device"] == found and job.on_gpu is gpu and job.reading.device == found
    changed = describe(listing, Options(device="cuda", points="none", blendshapes=False), None, here=False)
    (difference,) = changed.differences(job)
    assert "'cpu'" in difference and "'cuda:0'" in difference
    listing.close()


def test_ray_chooses_which_gpu(album: Path, tmp_path: Path) -> None:
    for device in ("cuda:1", "gpu"):
        with pytest.raises(ConfigError) as caught:
            batch([str(album)], tmp_path / "out", Options(device=device), ray="local")
        assert caught.value.value == device
    assert not (tmp_path / "out").exists()


SCRIPT = """
import json
import sys
import ray
from mien.errors import MienError
from mien.batch import Options, batch

ray.init(num_cpus=1, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
try:
    batch([sys.argv[1]], sys.argv[2], Options(device="cuda", points="none", blendshapes=False), ray="local")
except MienError as error:
    print(json.dumps([type(error).__name__, error.value, error.expected, str(error)]))
"""


@pytest.mark.slow
@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA")
def test_actors_get_their_gpu_and_the_worker_says_what_is_missing(album: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="clusters need mien[scale]")
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    command = [sys.executable, "-c", SCRIPT, str(album / "face 0.jpg"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**quiet), timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "CUDAExecutionProvider" in done.stdout
