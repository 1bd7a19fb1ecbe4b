"""Griffe extension: examples in docstrings are rendered as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

BARE = re.compile(r"^(?:>>> .*\n?)(?:.+\n?)*", re.MULTILINE)
"""An example in the text of a docstring, up to the next blank line."""


class Examples(griffe.Extension):
    """Reads the section `Example:` as `Examples:`, which griffe knows, and fences examples outside of sections."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object before it is parsed."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            text = re.sub(r"^ {4}(?=>>> )", "", text, flags=re.MULTILINE) if "Examples:" not in text else text
            obj.docstring.value = BARE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Rewrite the docstring of the package itself."""
        self.on_object(obj=pkg)
