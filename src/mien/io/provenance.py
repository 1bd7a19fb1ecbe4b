"""Provenance: the version of the package that wrote a file."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("mien")
"""Version of the installed package."""
