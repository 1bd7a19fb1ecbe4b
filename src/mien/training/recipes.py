"""The recipes that the package contains, found by name."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import config as tables
from ..cards import ASSETS
from ..errors import ConfigError, did_you_mean, reason

EXTENDS = "extends"  # key of the recipe that a recipe is based on: a name, or a path relative to the file

# Short names of fields in overrides.
ALIASES = {
    "lr": "optim.lr", "weight_decay": "optim.weight_decay", "size": "input.size",
    "fold": "data.fold", "folds": "data.folds", "protocol": "data.protocol",
}  # fmt: skip


def folder() -> Path:
    """Return the folder of the recipes: inside the installed package, or in the source tree."""
    packaged = ASSETS / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "recipes"


def names() -> list[str]:
    """Return the names of all recipes in alphabetical order."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def find(recipe: str | Path, beside: Path | None = None) -> Path:
    """Return the file of a recipe: a path, relative to `beside`, or a name of the package; ConfigError: there is none."""
    path = Path(recipe) if beside is None else beside / recipe
    if path.is_file():
        return path
    packaged = folder() / f"{recipe}.toml"
    if len(Path(recipe).parts) == 1 and packaged.is_file():
        return packaged
    known = [*names(), *(each.name for each in path.parent.glob("*.toml"))]
    hint = did_you_mean(path.name, known, "; mien recipes lists those of the package")
    raise ConfigError(f"recipe {recipe} not found{hint}", path=path, value=str(recipe), expected=tuple(known))


def read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the tables of a recipe, merged key by key into those of the recipe that it extends.

    All other values, lists included, replace those of the extended recipe. Raises ConfigError for an unreadable or
    invalid file, or a circle of recipes.
    """
    if path.resolve() in above:
        raise ConfigError(f"recipe {path}: {EXTENDS} leads back to the recipe itself", path=path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path} cannot be read: {reason(error)}", path=path) from error
    table = tables.parse(text, f"recipe {path}")
    base = table.pop(EXTENDS, None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise ConfigError(f"recipe {path}: {EXTENDS} must be the name or path of a recipe, got {base!r}", path=path, value=base)
    return _merged(read(find(base, path.parent), (*above, path.resolve())), table)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(base[key], value) if isinstance(value, Mapping) and isinstance(base.get(key), Mapping) else value
        for key, value in changes.items()
    }
    return {**base, **both}


def override(table: dict[str, Any], changes: Sequence[str] | Mapping[str, Any]) -> None:
    """Set fields of a recipe, `["optim.lr=5e-4"]` or `{"optim.lr": 5e-4}`; raises ConfigError if that is impossible."""
    given = changes if isinstance(changes, Mapping) else dict(map(_assignment, changes))
    for key, value in given.items():
        _assign(table, ALIASES.get(key.replace("-", "_"), key), value)


def _assignment(text: str) -> tuple[str, Any]:
    """Parse `a.b=value`. Values that are not valid TOML are text."""
    key, equals, value = text.removeprefix("--").partition("=")
    if not equals:
        raise ConfigError(f"{text!r} has no value; write {text}=VALUE", value=text)
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return key, value


def _assign(table: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.replace("-", "_").split(".")
    inner: Any = table
    for name in path:
        if isinstance(inner, list):
            if not (name.isdecimal() and int(name) < len(inner)):
                raise ConfigError(f"{key}: {name!r} must be an index from 0 to {len(inner) - 1}", value=key)
            inner = inner[int(name)]
        else:
            inner = inner.setdefault(name, {})
        if not isinstance(inner, (dict, list)):
            raise ConfigError(f"{key} cannot be set: {name} is not a table", value=key)
    if not isinstance(inner, dict):
        expected = ".".join([*path, "0", last])
        raise ConfigError(f"{key}: {path[-1]} is a list of {len(inner)} tables; write {expected}", value=key, expected=expected)
    inner[last] = value
