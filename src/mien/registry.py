"""Find an entry of a registry by name: the whole plug-in system.

A registry is a literal dict of name → object, or name → `"package.module:attribute"` where importing the object is expensive.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import UnknownName, did_you_mean


def lookup(name: str, table: Mapping[str, Any], kind: str, *, plugins: bool = True) -> Any:
    """Return the object that `name` stands for.

    Args:
        name: a key of `table`, or `"module:attribute"` for an object of the caller's own.
        table: the registry. Values that are `"module:attribute"` strings are imported.
        kind: what the table holds, in the singular, for the message: `"detector"`.
        plugins: whether `"module:attribute"` names are accepted; the module may lie in the working folder. Pass False
            for names that come from a card, a checkpoint or a request: those must never import code of their choosing.

    Raises:
        UnknownName: no entry has that name, or the module or attribute does not exist.

    Example:
        >>> lookup("sqrt", {"sqrt": "math:sqrt"}, "function")(9.0)
        3.0
    """
    if name in table:
        entry = table[name]
        return _load(entry, kind) if isinstance(entry, str) else entry
    if plugins and ":" in name:
        here = str(Path.cwd())
        if here not in sys.path:  # the command `mien` starts without it; last, so that nothing installed is hidden
            sys.path.append(here)
        return _load(name, kind)
    hint = did_you_mean(name, table, ".")
    raise UnknownName(f"unknown {kind} {name!r}{hint} Known: {', '.join(sorted(table))}")


def _load(path: str, kind: str) -> Any:
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise  # the module exists, one of its own imports does not
        hint = f"; a module is named without .py: {module_name[:-3]}:{attribute}" if module_name.endswith(".py") else ""
        raise UnknownName(f"{kind} {path!r}: there is no module {module_name!r}{hint}") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise UnknownName(f"{kind} {path!r}: module {module_name!r} has no {attribute!r}") from error
