"""Print a CycloneDX bill of materials: the packages of `mien[EXTRA …]` and the bundled weights.

    python tools/sbom.py [EXTRA …]

cyclonedx-bom describes the packages of this environment; those that `mien` with these extras does not depend on are dropped.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import requires
from typing import Any

from packaging.requirements import Requirement

from mien import cards


def dependencies(*extras: str) -> set[str]:
    """Return the normalized names of the packages that `mien` with these extras needs, directly or not."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [("mien", frozenset(extras))]
    while waiting:
        step = waiting.pop()
        if step in seen:
            continue
        seen.add(step)
        for line in requires(step[0]) or ():
            need = Requirement(line)
            if not need.marker or any(need.marker.evaluate({"extra": extra}) for extra in step[1] or {""}):
                waiting.append((_normal(need.name), frozenset(need.extras)))
    return {name for name, _ in seen} - {"mien"}


def bill(*extras: str) -> dict[str, Any]:
    """Return the bill of materials."""
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        "environment",
        "--output-reproducible",
        "--spec-version",
        "1.6",
        sys.executable,
    ]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    wanted = dependencies(*extras) | {"mien"}
    packages = [part for part in found["components"] if _normal(part["name"]) in wanted]
    weights = [
        {
            "type": "machine-learning-model", "bom-ref": f"weight:{card.name}@{card.version}", "name": card.name,
            "version": card.version, "description": card.summary, "licenses": [{"license": {"name": card.license}}],
            "hashes": [{"alg": "SHA-256", "content": card.sha256}],
        }
        for card in cards.bundled().values()
    ]  # fmt: skip
    kept = {part["bom-ref"] for part in packages}
    graph = [
        {**node, "dependsOn": [ref for ref in node.get("dependsOn", ()) if ref in kept]}
        for node in found.get("dependencies", ())
        if node["ref"] in kept
    ]
    return {**found, "components": packages + weights, "dependencies": graph}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    print(json.dumps(bill(*sys.argv[1:]), indent=1, ensure_ascii=False))
