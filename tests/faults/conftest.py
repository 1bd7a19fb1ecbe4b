"""Places that cannot be written, and a cache of each test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A folder in which nothing can be made, not even by root."""
    if os.geteuid() == 0:
        place = Path("/sys/kernel")
        if not place.is_dir():
            pytest.skip("root may write everywhere here")
        return place
    place = tmp_path / "read-only"
    place.mkdir(mode=0o555)
    return place


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of parsed datasets."""
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MIEN_CACHE", str(place))
    return place
