import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["mien.models", "mien.models.keys", "mien.models.global_roi"])
def test_the_examples_in_docstrings_run(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.failed == 0
    assert outcome.attempted > 0
