"""Every example of the README and of the documentation runs, in the order of its page."""

from __future__ import annotations

import re
import shutil
import tomllib
from contextlib import nullcontext
from pathlib import Path

import pytest
from blocks import CHECKED, PAGES, ROOT, RUN, SHOWN, Block, blocks, prose
from cyclopts import CycloptsError
from sandbox import at_work, furnish
from unrun import check

from mien.errors import MienError

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
WITH_CODE = [name for name in NAMES if any(block.language in RUN for block in blocks(ROOT / name))]
UNRUN = {f"{name}:{block.line}": block for name in NAMES for block in blocks(ROOT / name) if block.not_run}


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


@pytest.mark.parametrize("place", UNRUN)
def test_what_is_not_run_is_understood(place: str) -> None:
    check(UNRUN[place])


@pytest.mark.parametrize(
    ("script", "wrong"),
    [
        ("mien predikt a.jpg", "predikt"),
        ("mien train recipes/none.toml", "none.toml"),
        ("mien train recipes/rafdb-dan-mien.toml --optim.lt=5", "lt"),
        ("for a in 1 2; do mien watch --kamera $a; done", "kamera"),
        ("torchrun -m mien train recipes/rafdb-dan-mien.toml --sead 2", "sead"),
    ],
)
def test_what_mien_does_not_understand_is_found(script: str, wrong: str) -> None:
    with pytest.raises((AssertionError, CycloptsError, MienError), match=wrong):
        check(Block("sh", script, 1, "needs nothing"))


@pytest.mark.parametrize(("words", "fine"), [("verify mien-base", False), ("audit --dataset london", False), ("doctor", True)])
def test_only_findings_may_end_with_1(words: str, fine: bool, tmp_path: Path) -> None:
    """`audit` and `verify` end with 1 for what they find; for an error they explain they do so too, and an example must not."""
    with at_work(tmp_path) as sandbox, nullcontext() if fine else pytest.raises(AssertionError, match="mien: "):
        sandbox.mien(words.split())


@pytest.mark.parametrize("name", NAMES)
def test_tests_that_are_named_exist(name: str) -> None:
    known = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"\btest_[a-z0-9_]+", prose(ROOT / name))) <= known
