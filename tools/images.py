"""Which bundled models the images of the documentation show: `docs/images/made.json`, and whether these models still ship.

python tools/images.py --check
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from mien import cards

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "images"
MADE = FOLDER / "made.json"
"""Image → model → SHA-256 of the model's file when the image was made; nothing for what shows no bundled model."""

READER = ("mien-base", "blazeface", "mesh478", "blendshapes")
"""What reads a photograph by default."""


def record(name: str, models: Iterable[str]) -> None:
    """Note that an image was made just now with these models."""
    made = json.loads(MADE.read_text(encoding="utf-8")) if MADE.exists() else {}
    made[name] = {model: cards.load(model).sha256 for model in models}
    MADE.write_text(json.dumps(dict(sorted(made.items())), indent=1) + "\n", encoding="utf-8")


def save(image: Image.Image, name: str, models: Iterable[str], **how: Any) -> None:
    """Write an image of the documentation and note it."""
    image.save(FOLDER / name, optimize=True, **how)
    record(name, models)
    print(f"{name}: {(FOLDER / name).stat().st_size / 1000:.0f} kB")


def stale() -> list[str]:
    """Return what is wrong with the images: one that is not noted, or shows a model that ships no more."""
    made = json.loads(MADE.read_text(encoding="utf-8"))
    present = {path.name for path in FOLDER.iterdir() if path.suffix in (".jpg", ".png")}
    wrong = [f"{name} is not in {MADE.name}" for name in sorted(present - set(made))]
    wrong += [f"{name} does not exist" for name in sorted(set(made) - present)]
    shipped = {name: card.sha256 for name, card in cards.bundled().items()}
    for name, models in made.items():
        old = [model for model, digest in models.items() if shipped.get(model) != digest]
        if old:
            wrong.append(f"{name} shows an older {' and '.join(old)}")
    return wrong


def main() -> int:
    if sys.argv[1:] != ["--check"]:
        print(__doc__, file=sys.stderr)
        return 2
    wrong = stale()
    for line in wrong:
        print(f"docs/images: {line}; run: make images", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
