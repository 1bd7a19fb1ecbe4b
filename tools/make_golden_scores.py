"""Write what the bundled weights answer on the bundled photo to `tests/golden/sample_scores.json`: the guard against drift."""

from __future__ import annotations

import json
from pathlib import Path

import mien

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
path = Path(__file__).parents[1] / "tests" / "golden" / "sample_scores.json"
path.write_text(json.dumps(golden, indent=1) + "\n")
print(path)
