"""Frozen dataclasses from plain tables (TOML, JSON) and back: cards and recipes are read by what they declare.

A dataclass is the only declaration: its fields are the keys, their types say what a value must be, and what has a default may
be left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tomllib
import types
from collections.abc import Mapping, Set
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from .errors import ConfigError, did_you_mean, shown

T = TypeVar("T")

WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list", dict: "a table"}
"""What messages call a type."""


RENAMED = {"colour": "color", "grey": "gray", "normalise": "normalize", "licence": "license", "licence_note": "license_note"}
"""Keys and values of mien 0.1 → their names since 0.2, for messages."""


def parse(text: str, where: str) -> dict[str, Any]:
    """Return the tables of a TOML text; `where` names it in messages.

    Raises:
        ConfigError: the text is no TOML.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # no TOML, numbers of thousands of digits, endless nesting
        raise ConfigError(f"{where} is not valid TOML: {' '.join(str(error).split())[:200]}") from error


def build(kind: type[T], table: Any, where: str, *, without: Set[str] = frozenset()) -> T:
    """Return a dataclass with the values of a table; tables within become the dataclasses that its fields declare.

    Args:
        kind: the dataclass. Its fields are of type `str`, `int`, `float`, `bool`, `Any`, `Literal`, `tuple[…, ...]`, a mapping
            from text, another such dataclass, or one of these or None.
        table: name → value.
        where: what the table is, for messages.
        without: fields that no table may give.

    Raises:
        ConfigError: an unknown key, a missing one, or a value of another type.

    Example:
        >>> from mien.cards import Crop
        >>> build(Crop, {"template": "arcface", "margin": 0}, "mine.toml").margin
        0.0
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} must be a table, not {shown(table)}")
    fields = {each.name: each for each in dataclasses.fields(kind) if each.name not in without}  # pyrefly: ignore
    for key in table:
        if key not in fields:
            if RENAMED.get(key) in fields:
                raise ConfigError(f"{where}: {key} is called {RENAMED[key]} since mien 0.2")
            hint = did_you_mean(str(key), fields, f"; known: {', '.join(fields)}")
            raise ConfigError(f"{where}: unknown key {shown(key)}{hint}")
    missing = [
        name
        for name, each in fields.items()
        if each.default is each.default_factory is dataclasses.MISSING and name not in table
    ]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}")
    hints = get_type_hints(kind)
    return kind(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in table.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """Return a value as the type that a field declares, or say where it is wrong."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _value(next(arg for arg in args if arg is not types.NoneType), value, where)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # pyrefly: ignore
    if origin is Literal:
        if value in args:
            return value
        if isinstance(value, str) and RENAMED.get(value) in args:
            raise ConfigError(f"{where}: {value!r} is called {RENAMED[value]!r} since mien 0.2")
        hint_text = did_you_mean(shown(value).strip("'"), args)
        raise ConfigError(f"{where} must be one of {', '.join(args)}, not {shown(value)}{hint_text}")
    if origin is tuple and dataclasses.is_dataclass(args[0]) and isinstance(value, Mapping):
        value = (value,)  # a single table is a list of one
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_value(args[0], item, f"{where} [{index}]") for index, item in enumerate(value))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {str(key): _value(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and type(value) is int:
        with contextlib.suppress(OverflowError):
            return float(value)
    if hint is Any or type(value) is hint:
        return value
    wanted = WORDS.get(hint) or WORDS[tuple if origin is tuple else dict]
    raise ConfigError(f"{where} must be {wanted}, not {shown(value)}")


def plain(value: Any, *, empty: bool = True) -> Any:
    """Return dataclasses, mappings and tuples as plain tables and lists; None is left out, and what is empty unless wanted."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        kept = {key: item for key, item in value.items() if item is not None and (empty or item not in ((), {}, ""))}
        return {key: plain(item, empty=empty) for key, item in kept.items()}
    return [plain(item, empty=empty) for item in value] if isinstance(value, (tuple, list)) else value
