"""Conversion between plain tables (TOML, JSON) and frozen dataclasses, used for cards and recipes.

The dataclass is the only declaration: its fields are the keys, their types and ranges decide which values are valid, and
fields with a default are optional.
"""

import contextlib
import dataclasses
import math
import tomllib
import types
from collections.abc import Mapping, Set
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from .errors import ConfigError, did_you_mean, shown

T = TypeVar("T")

WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list", dict: "a table"}
"""Names of types in messages."""


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """Valid range of a number, as in `Annotated[int, Range(1)]`; of a pair, both numbers are in it and in order."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False  # whether `low` itself is invalid

    def __contains__(self, value: Any) -> bool:
        values = value if isinstance(value, tuple) else (value,)
        inside = all(self.low <= each <= self.high and not (self.open and each == self.low) for each in values)
        return inside and all(math.isfinite(each) for each in values) and list(values) == sorted(values)

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.open else f"{self.low:g} or more"
        if math.isinf(self.high):
            return low if math.isfinite(self.low) else "finite"
        return f"{low} and at most {self.high:g}" if self.open else f"from {self.low:g} to {self.high:g}"


Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Fraction = Annotated[float, Range(0, 1)]
Amount = Annotated[float, Range(0)]

RENAMED = {
    "colour": "color",
    "grey": "gray",
    "normalise": "normalize",
    "licence": "license",
    "licence_note": "license_note",
    "colour-jitter": "color-jitter",
    "value-grey": "value-gray",
    "fill": "pseudo_labels",
}
"""Keys and values of mien 0.1 → their names since 0.2, for messages."""


def parse(text: str, where: str) -> dict[str, Any]:
    """Return the tables of a TOML text; `where` names it in messages. Raises ConfigError: invalid TOML."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # invalid TOML, integers of thousands of digits, or deep nesting
        raise ConfigError(f"{where} is not valid TOML: {' '.join(str(error).split())[:200]}") from error


def build(kind: type[T], table: Any, where: str, *, without: Set[str] = frozenset(), short: Mapping[str, str] = {}) -> T:
    """Return an instance of a dataclass with the values of a table; nested tables become the declared dataclasses.

    Args:
        kind: the dataclass. Its fields are of type `str`, `int`, `float`, `bool`, `Any`, `Literal`, `tuple[…, ...]`, a mapping
            with text keys, another such dataclass, one of these or None, or one of these `Annotated` with a `Range`.
        table: name → value.
        where: name of the table in messages.
        without: fields that a table must not set.
        short: names that are not fields → the fields that they stand for, for messages.

    Raises:
        ConfigError: unknown or missing key, value of another type or out of range.

    Example:
        >>> from mien.cards import Crop
        >>> build(Crop, {"template": "arcface", "margin": 0}, "mine.toml").margin
        0.0
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} must be a table, got {shown(table)}", value=table)
    fields = {each.name: each for each in dataclasses.fields(kind) if each.name not in without}  # pyrefly: ignore
    for key in table:
        if key not in fields:
            if RENAMED.get(key) in fields:
                raise ConfigError(f"{where}: {key} was renamed {RENAMED[key]} in mien 0.2", value=key, expected=RENAMED[key])
            hint = did_you_mean(str(key), fields, f"; known: {', '.join(fields)}", short=short)
            raise ConfigError(f"{where}: unknown key {shown(key)}{hint}", value=key, expected=tuple(fields))
    required = (name for name, each in fields.items() if each.default is each.default_factory is dataclasses.MISSING)
    if missing := [name for name in required if name not in table]:
        raise ConfigError(f"{where}: missing {', '.join(missing)}", expected=tuple(missing))
    hints = get_type_hints(kind, include_extras=True)
    return kind(**{key: convert(hints[key], value, f"{where}: {key}") for key, value in table.items()})


def convert(hint: Any, value: Any, where: str) -> Any:
    """Return a value as the declared type of a field; `where` names the field in messages.

    Raises ConfigError: the value has another type, or is outside the declared `Range`.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        value = convert(args[0], value, where)
        for bounds in args[1:]:
            if isinstance(bounds, Range) and value not in bounds:
                order = " in ascending order" if isinstance(value, tuple) else ""
                raise ConfigError(f"{where} must be {bounds}{order}, got {shown(value)}", value=value, expected=bounds)
        return value
    if origin is types.UnionType:
        return None if value is None else convert(next(arg for arg in args if arg is not types.NoneType), value, where)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # pyrefly: ignore
    if origin is Literal:
        if value in args:
            return value
        if isinstance(value, str) and RENAMED.get(value) in args:
            raise ConfigError(f"{where}: {value!r} was renamed {RENAMED[value]!r} in mien 0.2", value=value, expected=args)
        near = did_you_mean(shown(value).strip("'"), args)
        raise ConfigError(f"{where} must be one of {', '.join(args)}, got {shown(value)}{near}", value=value, expected=args)
    if origin is tuple and dataclasses.is_dataclass(args[0]) and isinstance(value, Mapping):
        value = (value,)  # A single table is a list of one.
    if origin is tuple and isinstance(value, (list, tuple)):
        if Ellipsis not in args and len(value) != len(args):
            raise ConfigError(f"{where} must be {len(args)} values, got {shown(value)}", value=value, expected=len(args))
        return tuple(convert(args[0], item, f"{where} [{index}]") for index, item in enumerate(value))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {str(key): convert(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and type(value) is int:
        with contextlib.suppress(OverflowError):
            return float(value)
    if hint is Any or type(value) is hint:
        return value
    wanted = WORDS.get(hint) or WORDS[tuple if origin is tuple else dict]
    raise ConfigError(f"{where} must be {wanted}, got {shown(value)}", value=value, expected=wanted)


def plain(value: Any, *, empty: bool = True) -> Any:
    """Return dataclasses, mappings and tuples as plain tables and lists, without None and, if not `empty`, empty values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        kept = {key: item for key, item in value.items() if item is not None and (empty or item not in ((), {}, ""))}
        return {key: plain(item, empty=empty) for key, item in kept.items()}
    return [plain(item, empty=empty) for item in value] if isinstance(value, (tuple, list)) else value


def flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested tables by dotted names: `{"optim": {"lr": 0.1}}` → `{"optim.lr": 0.1}`."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return dotted name, old and new value of the entries in which nested tables differ; None where one lacks the entry."""
    old, new = flattened(before), flattened(now)
    return [(name, old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)]
