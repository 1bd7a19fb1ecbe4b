"""Fixtures of all tests, and the rules of the suite.

* `shared`: the folder `../shared` with data and references. Without it its tests are skipped and counted; with
  `MIEN_REQUIRE_SHARED=1` they fail instead, so that a run meant to be complete cannot pass half done.
* `sample`: the photo that ships with the package (one smiling face, 512 × 512).
* Test files whose imports need an extra that is not installed are not collected. `MIEN_TEST_EXTRAS=eval` collects only those
  that need none but these extras, whatever is installed.
* The last lines of a run name what was not run and the command that brings it.
* One thread a process, unless `OMP_NUM_THREADS` says otherwise.
* hypothesis: no deadline, because machines differ; under `CI` the examples are the same in every run.
"""

from __future__ import annotations

import ast
import functools
import importlib.resources
import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: there is a pytest worker for each core

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parents[1] / "shared"

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

NEEDS = {
    "torch": "train", "onnx": "train", "safetensors": "train", "timm": "train", "tomli_w": "train", "mien.losses": "train",
    "mien.models": "train", "mien.training": "train", "mien.explaining": "train", "mien.exporting": "train",
    "mien.evaluation.embeddings": "train", "sklearn": "eval",
    "matplotlib": "eval", "scipy": "eval", "mien.metrics": "eval", "mien.evaluation": "eval", "av": "video", "clips": "video",
    "fastapi": "serve", "uvicorn": "serve", "websockets": "serve", "mien.serving": "serve", "playwright": "dev",
    "site_hooks": "dev", "tables": "train",
    "schemathesis": "dev", "pyarrow": "scale", "fsspec": "scale", "ray": "scale", "mien.batch": "scale", "openvino": "openvino",
}  # fmt: skip
"""Module → the extra that it needs; the longest name that fits counts."""
PACKAGES = {"train": "torch", "eval": "sklearn", "video": "av", "serve": "fastapi", "scale": "pyarrow", "openvino": "openvino"}
"""Extra → a package that comes with it only."""

left_out: Counter[str] = Counter()
"""Extra → test files that were not collected because it is missing."""


@functools.cache
def missing() -> frozenset[str]:
    """Return the extras that are not installed or, with `MIEN_TEST_EXTRAS`, not named there."""
    if (named := os.environ.get("MIEN_TEST_EXTRAS")) is not None:
        return frozenset({*PACKAGES, "dev"} - set(named.split()))
    return frozenset(extra for extra, package in PACKAGES.items() if importlib.util.find_spec(package) is None)


@functools.cache
def extras(path: Path) -> frozenset[str]:
    """Return the extras that the imports at the top of a test file need, those of its helpers in `tests` included."""
    found: set[str] = set()
    for name in _imports(path):
        known = [each for each in NEEDS if name == each or name.startswith(f"{each}.")]
        if known:
            found.add(NEEDS[max(known, key=len)])
        top = name.partition(".")[0]
        for folder in (path.parent, *map(Path, sys.path)):
            helper = folder / f"{top}.py"
            if TESTS in helper.parents and helper.is_file() and helper != path:
                found |= extras(helper)
                break
    return frozenset(found)


def _imports(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Skip test files, and folders whose conftest.py needs a missing extra."""
    if collection_path.is_dir():
        files, tests = [collection_path / "conftest.py"], [*collection_path.rglob("test_*.py")]
    elif collection_path.name.startswith("test_") and collection_path.suffix == ".py":
        files, tests = [collection_path], [collection_path]
    else:
        return None
    needed = frozenset().union(*(extras(path) for path in files if path.is_file() and path != TESTS / "conftest.py"))
    if absent := missing() & needed:
        left_out[min(absent)] += len(tests)
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that use the fixture `shared`, so that `-m "not shared"` excludes all of them."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("shared") and not SHARED.is_dir():
        reason = f"the folder {SHARED.name}/ beside the project is missing"
        if os.environ.get("MIEN_REQUIRE_SHARED") == "1":
            pytest.fail(f"{reason}, and MIEN_REQUIRE_SHARED=1 requires it")
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was not run and the command that brings it."""
    lines = [
        f"{count} test files need the extra {extra}: pip install -e '.[{extra}]'" for extra, count in sorted(left_out.items())
    ]
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple)
    )
    browser = sum(count for reason, count in reasons.items() if "chromium" in reason.lower())
    if browser:
        lines.append(f"{browser} tests need a browser: sudo apt-get install chromium")
    if absent := sum(count for reason, count in reasons.items() if "shared/" in reason):
        lines.append(f"{absent} tests need reference data in ../shared, which is not public")
    if slow := [item for item in terminalreporter.stats.get("deselected", ()) if item.get_closest_marker("slow")]:
        lines.append(f"{len(slow)} slow tests: make test-slow")
    if lines:
        terminalreporter.section("not run")
        terminalreporter.write_line("\n".join(lines))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with data and references beside the project."""
    return SHARED


@pytest.fixture(scope="session")
def sample() -> Path:
    """The bundled photo: Eileen Collins, NASA, public domain; one smiling face."""
    return Path(str(importlib.resources.files("mien") / "assets" / "sample.png"))
