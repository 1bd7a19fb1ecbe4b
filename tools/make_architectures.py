"""Write what `mien models` tells of the architectures, so that it needs no torch; with --check, fail if the file is stale.

python tools/make_architectures.py [--check]
"""

import argparse
import dataclasses
import json
import sys
from typing import Any

from mien import models
from mien.cards import ARCHITECTURES
from mien.errors import UnknownName


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is out of step")
    described = {name: describe(name) for name in models.MODELS}
    wanted = json.dumps(described, indent=1, ensure_ascii=False) + "\n"
    if not parser.parse_args().check:
        ARCHITECTURES.write_text(wanted, encoding="utf-8")
        print(f"wrote {ARCHITECTURES.name}")
        return 0
    if ARCHITECTURES.is_file() and ARCHITECTURES.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"{ARCHITECTURES.name} is not what mien.models gives; run: python tools/make_architectures.py", file=sys.stderr)
    return 1


def describe(name: str) -> dict[str, Any]:
    """Return what an architecture's file says and what it costs; nothing for one that its card describes."""
    try:
        about, cost = models.info(name), models.count(name)
    except UnknownName:
        return {}
    told = {
        f.name: getattr(about, f.name)
        for f in dataclasses.fields(models.ModelInfo)
        if f.name not in ("name", "inputs", "diagram", "cam_layers")
    }
    return {
        **told,
        "outputs": dict(about.outputs),
        "published": [
            {each.name: getattr(figure, each.name) for each in dataclasses.fields(figure) if each.name != "recipes"}
            for figure in about.published
        ],
        "inputs": [{"name": i.name, "channels": i.channels, "size": i.size, "sizes": i.sizes} for i in about.inputs],
        "parameters": cost.parameters,
        "dead_parameters": cost.dead,
        "macs": cost.macs,
    }


if __name__ == "__main__":
    sys.exit(main())
