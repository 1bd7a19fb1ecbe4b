"""Registries: literal dicts from a name to an object, or to `"package.module:attribute"` where an import is expensive."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import UnknownName, did_you_mean


def lookup(name: str, table: Mapping[str, Any], kind: str, *, plugins: bool = True) -> Any:
    """Return the entry of a registry.

    Args:
        name: a key of `table`, or `"module:attribute"` for a user-defined object.
        table: the registry. Values that are `"module:attribute"` strings are imported.
        kind: singular noun for messages, such as `"detector"`.
        plugins: whether `"module:attribute"` is allowed; the module may be in the working folder. Must be False for names
            from cards, checkpoints and requests, which must not import code.

    Raises:
        UnknownName: unknown name, or the module or attribute does not exist.

    Example:
        >>> lookup("sqrt", {"sqrt": "math:sqrt"}, "function")(9.0)
        3.0
    """
    if name in table:
        entry = table[name]
        return _load(entry, kind) if isinstance(entry, str) else entry
    if plugins and ":" in name:
        here = str(Path.cwd())
        if here not in sys.path:  # Scripts start without it; appended last so that installed modules take precedence.
            sys.path.append(here)
        return _load(name, kind)
    known = f"{did_you_mean(name, table, '.')} Known: {', '.join(sorted(table))}" if table else "; expected module:attribute"
    raise UnknownName(f"unknown {kind} {name!r}{known}")


class LazyModule:
    """A module, by name, that is imported when an attribute is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        module: ModuleType = importlib.import_module(self._name)
        return getattr(module, attribute)


def _load(path: str, kind: str) -> Any:
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise  # The module exists, but one of its imports does not.
        hint = f"; a module is named without .py: {module_name[:-3]}:{attribute}" if module_name.endswith(".py") else ""
        raise UnknownName(f"{kind} {path!r}: module {module_name!r} not found{hint}") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise UnknownName(f"{kind} {path!r}: module {module_name!r} has no {attribute!r}") from error
