"""Write the golden values of the tests: predictions on the bundled photo, and the first losses of a small training run.

python tools/make_golden_scores.py [scores] [losses]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import mien

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
STEPS = 20


def scores() -> dict[str, Any]:
    """Return the predictions of the bundled models on the bundled photo."""
    golden = {}
    for name in ("mien-base", "mien-nano"):
        result = mien.load(name)(mien.sample())
        face = result.faces[0]
        golden[name] = {
            "model": result.model,
            "label": face.label,
            "scores": {name: round(value, 5) for name, value in face.scores.items()},
            "box": {side: round(getattr(face.box, side), 2) for side in ("left", "top", "right", "bottom")},
            "points5": [] if face.points5 is None else [[round(float(value), 2) for value in point] for point in face.points5],
            "blendshapes": {name: round(value, 4) for name, value in (face.blendshapes or {}).items()},
        }
    return golden


def losses(out: Path) -> list[float]:
    """Return the losses of the first steps of the run of `tests/training/runs.py`, which is written to `out`."""
    from runs import config

    from mien.training.loop import train

    found: list[float] = []
    train(config(epochs=4), out, report=lambda event: found.append(event["loss"]) if event["event"] == "step" else None)
    return found[:STEPS]


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["scores", "losses"]
    if "scores" in chosen:
        (GOLDEN / "sample_scores.json").write_text(json.dumps(scores(), indent=1) + "\n")
    if "losses" in chosen:
        sys.path.insert(0, str(ROOT / "tests" / "training"))
        with tempfile.TemporaryDirectory() as folder:
            (GOLDEN / "losses.json").write_text(json.dumps([round(loss, 5) for loss in losses(Path(folder) / "run")]) + "\n")
