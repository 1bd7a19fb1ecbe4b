import importlib.util
from pathlib import Path

from mien import models

TOOL = Path(__file__).resolve().parents[2] / "tools" / "make_models_page.py"


def test_the_page_is_what_the_code_says() -> None:
    specification = importlib.util.spec_from_file_location("make_models_page", TOOL)
    assert specification
    assert specification.loader
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    written = tool.page()
    assert tool.PAGE.read_text(encoding="utf-8") == written, "run: python tools/make_models_page.py"
    described = set(models.MODELS) - {"mien-base", "mien-nano"}
    assert all(f"### {name}\n" in written for name in described)
    assert written.count("```mermaid") >= len(described)
