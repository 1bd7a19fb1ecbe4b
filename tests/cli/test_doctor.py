"""`mien doctor` says that a whole installation works, and finds what is broken."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import onnxruntime
import pytest
from command import environment, on_terminal
from command import mien as run_mien

from mien import cards
from mien.cli.doctor import checks, requirements

ROOT = Path(__file__).parents[2]


def test_a_whole_installation_works() -> None:
    run = run_mien("doctor")
    assert (run.returncode, run.stderr) == (0, "everything works\n"), run.stdout
    found = {each["name"]: each for each in map(json.loads, run.stdout.splitlines())}
    assert not [each for each in found.values() if each["state"] == "broken"]
    assert {"mien", "Python", "CPU threads", *requirements()[""], *(f"weights {name}" for name in cards.bundled())} <= set(
        found
    )
    assert "CPUExecutionProvider" in found["onnxruntime runs on"]["detail"]
    torch = r", \S+ \(torch\)" if importlib.util.find_spec("torch") else ""
    assert re.match(rf"\S+ \(onnxruntime\){torch}", found["device auto"]["detail"])
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers() and sys.platform != "darwin":
        assert found["device auto"]["detail"].startswith("cpu (onnxruntime)")
    reading = found["inference"]["detail"]
    assert re.match(r"happiness \d+% in \d+ ms with one thread \(decode \d", reading)
    for stage in ("detect", "mesh", "align", "classify", "blendshapes"):
        assert re.search(rf"\b{stage} \d+\.\d", reading)


def test_a_terminal_gets_marks() -> None:
    run = on_terminal("doctor", env={"NO_COLOR": "1"})
    shown = re.sub(r"\x1b\[[\d;]*m", "", run.stdout)
    assert run.returncode == 0 and "✗" not in shown
    assert re.search(r"^ok +mien +\S+", shown, re.MULTILINE) and re.search(r"^ok +inference", shown, re.MULTILINE)


def doctor_of(package: Path) -> subprocess.CompletedProcess[str]:
    """Run the doctor of a copy of the package."""
    settings = environment()
    settings["PYTHONPATH"] = os.pathsep.join([str(package.parent), settings["PYTHONPATH"]])
    return subprocess.run([sys.executable, "-m", "mien", "doctor"], capture_output=True, encoding="utf-8", env=settings)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the installed package, to be broken."""
    package = Path(cards.__file__).parent
    return Path(shutil.copytree(package, tmp_path / "mien", ignore=shutil.ignore_patterns("__pycache__")))


def states(run: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {each["name"]: each["detail"] for each in map(json.loads, run.stdout.splitlines()) if each["state"] == "broken"}


def test_damaged_and_missing_weights_are_found(copy: Path) -> None:
    """One byte of the classifier is flipped; the digest in its card tells."""
    weights = copy / "assets" / "weights" / "mien-base.onnx"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    run = doctor_of(copy)
    broken = states(run)
    assert run.returncode == 1 and run.stderr == "2 broken\n" and set(broken) == {"weights mien-base", "inference"}
    assert "sha256" in broken["weights mien-base"]
    weights.unlink()
    assert "does not exist" in states(doctor_of(copy))["weights mien-base"]


def test_a_part_that_cannot_be_imported_does_not_stop_the_doctor(copy: Path) -> None:
    (copy / "inference" / "recognizer.py").write_text("raise ImportError('half an installation')\n")
    (copy / "assets" / "cards" / "broken.toml").write_text("name = ")
    run = doctor_of(copy)
    broken = states(run)
    assert run.returncode == 1 and set(broken) == {"cards", "inference"}
    assert broken["inference"] == "ImportError: half an installation"
    assert "broken.toml" in broken["cards"] and "TOML" in broken["cards"]


def test_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {"": project["dependencies"], **project["optional-dependencies"]}
    del named["dev"]
    wanted = {extra: {re.split(r"[<>=\[ ]", each)[0].replace("_", "-") for each in named[extra]} - {"mien"} for extra in named}
    found = requirements()
    assert set(found) == set(wanted) and all(wanted[extra] <= set(found[extra]) for extra in wanted)


def test_a_missing_extra_is_no_fault() -> None:
    """Nobody asked for the extra; the line says how to get it."""
    code = """
import importlib.metadata, sys
known = importlib.metadata.version
def version(name):
    if name in ("torch", "dlib-bin"):
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)
importlib.metadata.version = version
from mien.cli import main
sys.exit(main(["doctor"]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment())
    found = {each["name"]: each for each in map(json.loads, run.stdout.splitlines())}
    assert run.returncode == 0 and found["extra train"]["state"] == "absent"
    assert "missing torch" in found["extra train"]["detail"] and "pip install 'mien[train]'" in found["extra train"]["detail"]


def test_checks_come_one_after_the_other() -> None:
    first = next(checks())
    assert dataclasses.asdict(first)["name"] == "mien" and first.state == "ok"
