"""What an installation of mien consists of: packages with their licenses, and bundled weights.

python tools/inventory.py licenses [EXTRA …]   a table, and what to look at
python tools/inventory.py sbom [EXTRA …]       a software bill of materials, CycloneDX 1.6 in JSON

Packages are those that `mien[EXTRA …]` asks for, directly or not, as installed beside this Python. Known vulnerabilities are
not looked up here: `make audit` goes on with pip-audit, which asks a service on the network.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

from packaging.requirements import Requirement

from mien import cards

UNUSUAL = re.compile(r"(?<!L)GPL|AGPL|SSPL|EUPL|CC-BY-NC|CC-BY-SA|proprietary|LicenseRef", re.IGNORECASE)
"""Licenses that ask more of who passes a work on than that it is named."""

NAMES = {"Apache Software License": "Apache-2.0", "MIT License": "MIT", "BSD License": "BSD"}
"""What classifiers call licenses, and their usual short names."""


def packages(extras: Iterable[str] = ()) -> dict[str, Distribution]:
    """Return the installed packages that `mien` with these extras needs, by normalized name, without `mien` itself.

    Raises:
        PackageNotFoundError: an extra is not installed.
    """
    found: dict[str, Distribution] = {}
    waiting = [("mien", frozenset(extras))]
    seen = set(waiting)
    while waiting:
        name, wanted = waiting.pop()
        found[name] = distribution(name)
        for line in found[name].requires or ():
            need = Requirement(line)
            if need.marker and not any(need.marker.evaluate({"extra": extra}) for extra in wanted or {""}):
                continue
            step = (re.sub(r"[-_.]+", "-", need.name).lower(), frozenset(need.extras))
            if step not in seen:
                seen.add(step)
                waiting.append(step)
    del found["mien"]
    return dict(sorted(found.items()))


def license_of(package: Distribution) -> str:
    """Return the license that a package states, as an SPDX expression where it has one; empty where it states none."""
    about = package.metadata
    if expression := about.get("License-Expression"):
        return expression
    named = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier", ()) if line.startswith("License :: ")]
    text = (about.get("License") or "").strip()
    if text and "\n" not in text and len(text) < 60:
        return text
    return " AND ".join(NAMES.get(name, name) for name in named if name != "OSI Approved")


def bill(extras: Iterable[str] = ()) -> dict[str, Any]:
    """Return the bill of materials; the same installation gives the same bill."""
    own = distribution("mien")
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{package.version}",
            "name": name,
            "version": package.version,
            "purl": f"pkg:pypi/{name}@{package.version}",
            **_licenses(license_of(package)),
        }
        for name, package in packages(extras).items()
    ]
    weights = [
        {
            "type": "machine-learning-model",
            "bom-ref": f"weight:{card.name}@{card.version}",
            "name": card.name,
            "version": card.version,
            "description": card.summary,
            "hashes": [{"alg": "SHA-256", "content": card.sha256}],
            **_licenses(card.license),
        }
        for card in cards.bundled().values()
    ]
    root = {"type": "library", "bom-ref": "mien", "name": "mien", "version": own.version, **_licenses(license_of(own))}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": components + weights,
    }


def _licenses(text: str) -> dict[str, Any]:
    return {"licenses": [{"license": {"name": text}}]} if text else {}


def table(extras: Iterable[str] = ()) -> tuple[str, list[str]]:
    """Return name, version and license of every package and weight, and what a maintainer should look at."""
    rows = [(name, package.version, license_of(package)) for name, package in packages(extras).items()]
    rows += [(f"weight {card.name}", card.version, card.license) for card in cards.bundled().values()]
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{name:<{width}}  {version:<14} {terms or '?'}" for name, version, terms in rows]
    odd = [f"{name}: no license stated" for name, _, terms in rows if not terms]
    odd += [f"{name}: {terms}" for name, _, terms in rows if UNUSUAL.search(terms)]
    return "\n".join(lines), odd


def main() -> int:
    """Print what was asked for; exit 1 where an extra is not installed."""
    what, *extras = sys.argv[1:] or ["licenses"]
    try:
        if what == "sbom":
            print(json.dumps(bill(extras), indent=1, ensure_ascii=False))
            return 0
        text, odd = table(extras)
    except PackageNotFoundError as error:
        print(f"{error.name} is not installed; install mien with the extras asked for", file=sys.stderr)
        return 1
    print(text)
    print("\nto look at:\n" + "\n".join(f"  {line}" for line in odd) if odd else "\nevery license is stated and permissive")
    return 0


if __name__ == "__main__":
    sys.exit(main())
