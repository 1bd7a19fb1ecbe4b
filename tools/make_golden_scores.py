"""Write what the bundled weights answer on the bundled photo to `tests/golden/sample_scores.json`: the guard against drift."""

from __future__ import annotations

import json
from pathlib import Path

import mien

result = mien.load()(mien.sample())
face = result.faces[0]
golden = {
    "model": result.model,
    "label": face.label,
    "scores": {name: round(value, 5) for name, value in face.scores.items()},
    "points5": [] if face.points5 is None else face.points5.round(2).tolist(),
}
path = Path(__file__).parents[1] / "tests" / "golden" / "sample_scores.json"
path.write_text(json.dumps(golden, indent=1) + "\n")
print(path)
