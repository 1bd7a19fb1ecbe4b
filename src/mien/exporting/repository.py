"""A folder ready to be pushed to a model hub: README with metadata, ONNX file with its card, readable card, example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..cards import Card, Measured
from ..io.files import atomic_write
from ..io.model_files import FILE

EXAMPLE = '''"""Facial expression recognition with this model: python example.py photo.jpg"""

import sys
from pathlib import Path

import mien

read = mien.load(Path(__file__).with_name("{file}"))
for face in read(sys.argv[1] if len(sys.argv) > 1 else mien.sample()).faces:
    print(face.box, face.label if face.certain else "uncertain", f"{{face.confidence:.1%}}")
'''

USE = """## Use

```sh
pip install 'mien[hub]'
```

```python
import mien

read = mien.load("hf://OWNER/{repository}")
print(read("photo.jpg").faces[0].label)
```

`model.onnx` contains its card: labels, preprocessing, calibration, provenance. `card.json` is a readable copy."""


def write_repository(card: Card, folder: str | Path) -> None:
    """Write README.md, card.json and example.py beside the exported `model.onnx` of a folder."""
    folder = Path(folder)
    texts = {
        "README.md": readme(card, folder.name),
        "card.json": json.dumps(card.to_dict(), indent=1, ensure_ascii=False) + "\n",
        "example.py": EXAMPLE.format(file=FILE),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as part:
            part.write_text(text, encoding="utf-8")


def readme(card: Card, repository: str) -> str:
    """Return the model card in the form that hubs show: YAML metadata and Markdown."""
    measured = [one for one in card.measured if one.split == "test"]
    head = ["---", "library_name: mien", "pipeline_tag: image-classification", f"license: {_license(card.license)}"]
    head += ["tags:", "- facial-expression-recognition", "- onnx"]
    if measured:
        head += ["model-index:", f"- name: {card.name}", "  results:"]
    for one in measured:
        head += [
            "  - task: {type: image-classification, name: Facial expression recognition}",
            f"    dataset: {{name: {_yaml(one.dataset)}, type: {_yaml(one.dataset)}, split: test}}",
            f"    metrics: [{{type: {_yaml(one.metric)}, name: {_yaml(_title(one))}, value: {one.value:.4f}}}]",
        ]
    parts = ["\n".join([*head, "---"]), f"# {card.name} {card.version}", card.summary]
    parts.append(USE.format(repository=repository))
    parts.append(f"Labels, in order: {', '.join(card.labels)}.")
    if card.calibration.threshold:
        parts.append(f"The model abstains below a probability of {card.calibration.threshold:.2f}.")
    parts.append(f"## Limits\n\n{card.limits or 'Not stated.'}")
    parts.append(f"## Training data\n\n{card.data or 'Not stated.'}")
    if measured:
        rows = ["| dataset | metric | value | 95 % interval | n |", "|---|---|---|---|---|"]
        for one in measured:
            interval = "" if one.low is None or one.high is None else f"{one.low:.3f} … {one.high:.3f}"
            rows.append(f"| {one.dataset} | {_title(one)} | {one.value:.3f} | {interval} | {one.n} |")
        parts.append("## Results on test data\n\n" + "\n".join(rows))
    parts.append("## License\n\n" + ". ".join(text for text in (card.license, card.license_note) if text))
    if card.origin:
        parts.append(f"Origin: {card.origin}.")
    return "\n\n".join(parts) + "\n"


def _license(spdx: str) -> str:
    """Return the hub's id of a license: lower-case SPDX for simple expressions, else `other`."""
    return spdx.lower() if spdx and " " not in spdx and not spdx.startswith("LicenseRef") else "other"


def _title(one: Measured) -> str:
    return f"{one.metric} ({one.note})" if one.note else one.metric


def _yaml(value: Any) -> str:
    return json.dumps(str(value), ensure_ascii=False)
