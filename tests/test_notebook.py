"""The notebook runs from data to a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples/paper/from_data_to_table.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    cells = ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells[0].startswith("%pip install")  # for Colab
    names: dict[str, object] = {}
    for number, source in enumerate(cells[1:], 2):
        exec(compile(source, f"cell {number}", "exec"), names)
    printed = capsys.readouterr().out
    assert "augmented" in printed and r"\toprule" in printed
    assert (tmp_path / "compare" / "comparison.html").is_file()
