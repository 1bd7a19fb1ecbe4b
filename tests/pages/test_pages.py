"""Every example of the README and of the documentation runs, in the order of its page."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest
from blocks import CHECKED, PAGES, ROOT, RUN, SHOWN, blocks, prose
from sandbox import at_work, furnish

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
WITH_CODE = [name for name in NAMES if any(block.language in RUN for block in blocks(ROOT / name))]


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    return furnish(tmp_path_factory.mktemp("pages"), sample)


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_examples_run(name: str, furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(furnished, tmp_path / "work", symlinks=True)
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    with at_work(folder) as sandbox:
        for block in blocks(ROOT / name):
            if block.language in RUN | {"toml"} and not block.not_run:
                try:
                    sandbox.run(block)
                except BaseException as error:
                    error.add_note(f"in the block at {name}:{block.line}")
                    raise


@pytest.mark.parametrize("name", NAMES)
def test_blocks_say_what_they_are(name: str) -> None:
    page = ROOT / name
    for block in blocks(page):
        assert block.language in RUN | CHECKED | SHOWN, f"{name}:{block.line}: a block in {block.language or 'no language'}"
        if block.language == "toml":
            tomllib.loads(block.text)
        assert not block.not_run or block.not_run.startswith("needs "), f"{name}:{block.line}: a mark says what is needed"
    indented = re.search(r"(?:\A|\n)(?!\s*[*\d-])[^\n]*\n\n {4}\S[^\n]*", prose(page))
    assert indented is None, f"{name}: code is fenced, so that it can be run: {indented[0]!r}"


def test_marks_are_few() -> None:
    """A mark is for what no test machine has; a page that is full of them promises without proof."""
    every = [block for name in NAMES for block in blocks(ROOT / name) if block.language in RUN]
    marked = [block for block in every if block.not_run]
    assert len(marked) < len(every) / 4
