"""On a real Ray cluster of two nodes, of which an actor and a node are killed, a run gives the bytes it gives without Ray."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from batch_runs import bytes_of
from command import environment, mien


@pytest.mark.slow
def test_a_cluster_that_loses_an_actor_and_a_node(album: Path, whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="clusters need mien[scale]")
    script = Path(__file__).with_name("two_nodes.py")
    command = [sys.executable, script, album, tmp_path / "out"]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**quiet), timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["answer"] == [44, 5, 6], report
    assert report["nodes"] == report["actors"] == 2 and report["actor killed"] and report["node killed"], report
    assert report["parts when the node is killed"] < 6, report
    assert bytes_of(tmp_path / "out") == bytes_of(whole)


@pytest.mark.slow
def test_a_cluster_that_requires_a_token(sample: Path, tmp_path: Path) -> None:
    """Two nodes. With the token a run succeeds; with another, without one and with authentication off the error names it."""
    pytest.importorskip("ray", reason="clusters need mien[scale]")
    script = Path(__file__).with_name("with_token.py")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, script, sample, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**token), timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("right")[0] == 0
    assert list(found) == ["wrong", "missing", "disabled"]
    assert all(status == 1 and "RAY_AUTH_TOKEN" in message for status, message in found.values()), found


def test_a_run_without_ray_does_not_import_it(album: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from mien.cli import main
assert main(["batch", {str(album / "face 0.jpg")!r}, "--out", {str(tmp_path / "out")!r}]) == 0
print([name for name in ("ray", "torch", "fsspec") if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.returncode == 0 and done.stderr.splitlines()[-1] == "[]", done.stderr


def test_an_unreachable_cluster_is_one_line(album: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="clusters need mien[scale]")
    done = mien("batch", album / "face 0.jpg", "--out", tmp_path / "out", "--ray", "127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr.splitlines()[-1]
