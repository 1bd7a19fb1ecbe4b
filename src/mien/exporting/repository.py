"""A folder ready to be pushed to a model hub: README with metadata, ONNX file with its card, readable card, example."""

import json
from pathlib import Path

from ..cards import Card
from ..io.files import write_file
from ..io.urls import FILE

EXAMPLE = '''"""Facial expression recognition with this model: python example.py photo.jpg"""

import sys
from pathlib import Path

import mien

recognizer = mien.load(Path(__file__).with_name("{file}"))
for face in recognizer(sys.argv[1] if len(sys.argv) > 1 else mien.sample()).faces:
    print(face.box, face.label if face.certain else "uncertain", f"{{face.confidence:.1%}}")
'''


def write_repository(card: Card, folder: str | Path) -> None:
    """Write README.md, card.json and example.py beside the exported `model.onnx` of a folder."""
    folder = Path(folder)
    texts = {
        "README.md": readme(card, folder.name),
        "card.json": json.dumps(card.to_dict(), indent=1, ensure_ascii=False) + "\n",
        "example.py": EXAMPLE.format(file=FILE),
    }
    for name, text in texts.items():
        write_file(folder / name, text)


def readme(card: Card, repository: str) -> str:
    """Return the model card in the form that hubs show: YAML metadata and Markdown."""
    from ..evaluation.report import environment

    templates = environment(autoescape=False, yaml=lambda value: json.dumps(str(value), ensure_ascii=False))
    # Hubs know simple SPDX expressions in lower case.
    simple = card.license and " " not in card.license and not card.license.startswith("LicenseRef")
    return templates.get_template("model_card.md").render(
        card=card,
        repository=repository,
        license=card.license.lower() if simple else "other",
        measured=[one for one in card.measured if one.split == "test"],
        title=lambda one: f"{one.metric} ({one.note})" if one.note else one.metric,
    )
