"""Memory of long runs, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import mien

pytest.importorskip("resource", reason="peak memory is read with the module resource")

RUN = """
import resource, sys
import mien

unit = 1 if sys.platform == "darwin" else 1024
read = mien.load("mien-nano")
for number, _ in enumerate(read.stream([sys.argv[1]] * 400), 1):
    if number in (40, 400):
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    path = tmp_path / "small.jpg"
    Image.open(mien.sample()).convert("RGB").resize((128, 128)).save(path)
    done = subprocess.run([sys.executable, "-c", RUN, str(path)], capture_output=True, text=True, check=True)
    early, late = map(int, done.stdout.split())
    assert late - early < 10e6
