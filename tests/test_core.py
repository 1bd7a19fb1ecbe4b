"""The core packages import neither torch nor anything else that an extra brings."""

import subprocess
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def contract(kind: str) -> dict:
    contracts = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (found,) = (each for each in contracts if each["type"] == kind)
    return found


def test_importing_the_core_loads_no_optional_dependency() -> None:
    core, forbidden = contract("forbidden")["source_modules"], contract("forbidden")["forbidden_modules"]
    code = f"""
import importlib, pkgutil, sys
for name in {core!r}:
    module = importlib.import_module(name)
    for each in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
        importlib.import_module(each.name)
print(sorted(set({forbidden!r}) & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert run.stdout == "[]\n"
