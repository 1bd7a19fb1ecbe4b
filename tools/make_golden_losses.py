"""Write the first losses of a small training run to `tests/golden/losses.json`: the guard against drift of the whole loop.

The run is that of `tests/training/runs.py`: drawn faces, mien-base in small, augmentation, clipping, averaged weights.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from mien.training.loop import train

ROOT = Path(__file__).parents[1]
STEPS = 20


def losses(out: Path) -> list[float]:
    """Return the losses of the first steps of the run, which is written to `out`."""
    from runs import config

    found: list[float] = []
    train(config(epochs=4), out, report=lambda event: found.append(event["loss"]) if event["event"] == "step" else None)
    return found[:STEPS]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests" / "training"))
    with tempfile.TemporaryDirectory() as folder:
        golden = [round(loss, 5) for loss in losses(Path(folder) / "run")]
    path = ROOT / "tests" / "golden" / "losses.json"
    path.write_text(json.dumps(golden) + "\n")
    print(path)
