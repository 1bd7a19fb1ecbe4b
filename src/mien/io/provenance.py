"""Provenance: the software that wrote a file, as model cards, runs and evaluations record it."""

import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

VERSION = version("mien")  # version of the installed package


def software(packages: Sequence[str]) -> dict[str, Any]:
    """Return the versions of mien, Python and the installed ones of `packages`, and the commit of the source tree."""
    found = {name: package_version(name) for name in packages}
    return {
        "mien": VERSION,
        "python": platform.python_version(),
        "packages": {name: number for name, number in found.items() if number},
        "commit": commit(),
    }


def package_version(package: str) -> str:
    """Return the version of a package, empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def commit() -> str:
    """Return the short git commit of the running source tree, with `+` for uncommitted changes.

    Empty outside a git checkout, also for a package installed in an environment inside another project's tree.
    """
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        name = _git("rev-parse", "--short", "HEAD")
        # Without locks: a status that refreshes the index leaves its lock behind when it is killed.
        return name + ("+" if _git("--no-optional-locks", "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()
