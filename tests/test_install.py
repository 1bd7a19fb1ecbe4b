"""The core, alone, in a fresh environment: small, without torch, and able to read a photo."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from sbom import dependencies

ROOT = Path(__file__).parents[1]


PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
ALONE = ["--no-index", "--no-deps", "--no-cache-dir"]
"""Nothing is fetched: what mien needs is taken from the environment that runs the tests."""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with wheel and source archive, as `make dist` builds them, and in `again` the wheel that the archive gives."""
    pytest.importorskip("hatchling", reason="archives are built by hatchling")
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", folder]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = [*PIP, "wheel", *ALONE, "--no-build-isolation", "-w", folder / "again", *folder.glob("*.tar.gz")]
    done = subprocess.run(again, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module", params=["wheel", "source archive"])
def core(request: pytest.FixtureRequest, dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment into which the one or the other was installed, beside what mien needs and no extra."""
    folder = tmp_path_factory.mktemp("core") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in map(distribution, dependencies()):
        for top in {path.parts[0] for path in package.files or ()} - {"..", "__pycache__"}:
            (site / top).symlink_to(Path(str(package.locate_file(top))))
    (wheel,) = dist.glob("*.whl" if request.param == "wheel" else "again/*.whl")
    install = [*PIP, "--python", folder / "bin/python", "install", *ALONE, "--no-compile", wheel]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_wheel_holds_what_runs_and_nothing_else(dist: Path) -> None:
    wheel = next(dist.glob("*.whl"))
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    info = next(top for top in tops if top.endswith(".dist-info"))
    assert tops == {"mien", info}  # no tests, tools or data
    here = ROOT / "src"
    ours = {path.relative_to(here).as_posix() for path in (here / "mien").rglob("*") if path.is_file()}
    ours |= {f"mien/assets/recipes/{path.name}" for path in (ROOT / "recipes").glob("*.toml")}
    assert {name for name in names if name.startswith("mien/")} == {name for name in ours if "__pycache__" not in name}
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE", f"{info}/entry_points.txt"} <= names
    assert {
        "mien/py.typed", "mien/assets/sample.png", "mien/assets/weights/mien-base.onnx", "mien/assets/cards/mien-base.toml",
        "mien/assets/templates/report.html", "mien/serving/page/index.html",
    } <= names  # fmt: skip
    assert wheel.stat().st_size <= 20 * 2**20


@pytest.mark.slow
def test_the_source_archive_is_enough_to_test_and_build(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    tracked = set(wanted.stdout.splitlines()) if wanted.returncode == 0 else set()
    missing = {name for name in tracked - names if not name.startswith((".", "LOG_", "README_", "zoo/"))}
    assert not missing
    assert {"src/mien/__init__.py", "tests/test_install.py", "fuzz/corpus.py", "SECURITY.md", "NOTICE"} <= names
    assert not {name for name in names if "shared" in name.split("/")}


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

    listing = "from importlib.metadata import distributions\nfor found in distributions(): print(found.name.lower())"
    installed = set(run("python", "-c", listing).split())
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
    places = [Path(place, name) for place, _, names in os.walk(core / "lib", followlinks=True) for name in names]
    assert 50 < sum(place.stat().st_size for place in places) / 2**20 <= 250


@pytest.mark.parametrize(
    "module", ["mien", "mien.inference.recognizer", "mien.cli", "mien.data.datasets", "mien.visualization.faces", "mien.models"]
)
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


def test_the_version_is_the_same_wherever_it_stands() -> None:
    """The package, the citation and the newest released heading of the changelog, with its date; a release moves all three."""
    import mien

    headings = [line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line.startswith("## ")]
    released = re.fullmatch(r"## (\S+) \((\d{4}-\d\d-\d\d)\)", headings[headings[0] == "## Unreleased"])
    assert released and released[1] == mien.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {released[1]}\ndate-released: {released[2]}\n" in citation
