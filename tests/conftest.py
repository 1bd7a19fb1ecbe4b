"""Fixtures that every test may use, and the rules of the suite.

* `shared`: the folder `../shared` with data and references. Where it is absent its tests are skipped and counted; with
  `MIEN_REQUIRE_SHARED=1` in the environment they fail instead, so that a run meant to be complete cannot pass half done.
* `sample`: the photograph that ships with the package (one smiling face, 512 × 512).
* hypothesis: no deadline (machines differ); under `CI` the examples are the same in every run.
"""

from __future__ import annotations

import importlib.resources
import os
from pathlib import Path

import pytest
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared"

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whatever asks for the fixture `shared`, so that `-m "not shared"` leaves nothing behind."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("shared") and not SHARED.is_dir():
        reason = f"the folder {SHARED.name}/ beside the project is absent"
        if os.environ.get("MIEN_REQUIRE_SHARED") == "1":
            pytest.fail(f"{reason}, and MIEN_REQUIRE_SHARED=1 asks for it")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with data and references beside the project."""
    return SHARED


@pytest.fixture(scope="session")
def sample() -> Path:
    """The bundled photograph: Eileen Collins, NASA, public domain; one smiling face."""
    return Path(str(importlib.resources.files("mien") / "assets" / "sample.png"))
