import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["affect", "attention", "centers", "classification", "gaussian", "votes"])
def test_docstring_examples_run(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"mien.losses.{module}"))
    assert results.attempted > 0
    assert results.failed == 0
