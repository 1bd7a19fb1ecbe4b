"""docs/datasets.md tells of the readers what they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "make_datasets_page.py"


def test_the_page_is_up_to_date_and_names_every_flaw() -> None:
    specification = importlib.util.spec_from_file_location("make_datasets_page", TOOL)
    assert specification is not None and specification.loader is not None
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    written = tool.page()
    assert tool.PAGE.read_text(encoding="utf-8") == written, "run: python tools/make_datasets_page.py"
    assert all(flaw in written for _, known in tool._readers() for entry in known.protocols.values() for flaw in entry.flaws)
