"""The core, alone, in a fresh environment: small, without torch, and able to read a photo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment into which the package was installed without extras, from its sources."""
    folder = tmp_path_factory.mktemp("core")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pip = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    done = subprocess.run([*pip, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "venv"


@pytest.mark.slow
def test_the_core_reads_a_photo_anywhere(core: Path, tmp_path: Path) -> None:
    """From another folder, with no home, so that nothing but the installation can help."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C"}

    def run(*command: str) -> str:
        done = subprocess.run([core / "bin" / command[0], *command[1:]], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    photo = run("python", "-c", "import mien; print(mien.sample())").strip()
    assert photo.startswith(str(core))
    result = json.loads(run("mien", "predict", photo, "--json", "--save", "out"))
    assert [face["label"] for face in result["faces"]] == ["happiness"]
    assert len(list((tmp_path / "out").iterdir())) == 1
    run("mien", "doctor")

    installed = {item["name"].lower() for item in json.loads(run("python", "-m", "pip", "list", "--format", "json"))}
    assert {"mien", "numpy", "pillow", "onnxruntime", "cyclopts"} <= installed
    assert not installed & {
        "torch",
        "torchvision",
        "opencv-python",
        "opencv-python-headless",
        "scipy",
        "matplotlib",
        "scikit-learn",
    }
    size = sum(path.stat().st_size for path in core.rglob("*") if path.is_file() and not path.is_symlink())
    assert size / 2**20 <= 250


@pytest.mark.parametrize("module", ["mien", "mien.recognizer", "mien.cli", "mien.datasets", "mien.drawing", "mien.models"])
def test_no_heavy_import_creeps_in(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


HEAVY = ("torch", "torchvision", "timm", "matplotlib", "sklearn", "cv2", "accelerate", "pandas", "scipy")


def test_import_and_help_load_next_to_nothing() -> None:
    """`import mien` and `mien --help` bring in neither the runtime nor numpy: that is what keeps them quick."""
    for code in ("import mien", "import sys\nfrom mien.cli import main\nmain(['--help'])"):
        code += "\nimport sys\nprint([m for m in ('numpy', 'PIL', 'onnxruntime') if m in sys.modules], file=sys.stderr)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stderr.strip().splitlines()[-1] == "[]"
