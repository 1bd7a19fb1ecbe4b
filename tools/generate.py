"""Regenerate the committed files that derive from code or results: the JSON Schema, the list of architectures, README's tables.

python tools/generate.py            write them
python tools/generate.py --check    exit 1 if one is out of date
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from mien import models
from mien.cards import ARCHITECTURES, ASSETS
from mien.errors import UnknownName
from mien.types import json_schema
from tables import ROOT, fill


def architecture(name: str) -> dict[str, Any]:
    """Return the description and cost of an architecture for `mien models`, which must not import torch."""
    try:
        about, cost = models.info(name), models.count(name)
    except UnknownName:  # described by the card of its weights
        return {}
    left_out = ("name", "inputs", "diagram", "cam_layers")
    return {
        **{f.name: getattr(about, f.name) for f in dataclasses.fields(about) if f.name not in left_out},
        "outputs": dict(about.outputs),
        "published": [{k: v for k, v in dataclasses.asdict(figure).items() if k != "recipes"} for figure in about.published],
        "inputs": [{"name": i.name, "channels": i.channels, "size": i.size, "sizes": i.sizes} for i in about.inputs],
        "parameters": cost.parameters,
        "dead_parameters": cost.dead,
        "macs": cost.macs,
    }


def main() -> int:
    """Write or check the files; return the exit status."""
    described = {name: architecture(name) for name in models.MODELS}
    readme = ROOT / "README.md"
    files = {
        ASSETS / "schemas" / "result.json": json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
        ARCHITECTURES: json.dumps(described, indent=1, ensure_ascii=False) + "\n",
        readme: fill(readme.read_text(encoding="utf-8")),
    }
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run: python tools/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
