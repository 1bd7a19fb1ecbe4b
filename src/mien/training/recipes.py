"""The recipes that the package contains, found by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import config as tables
from ..cards import ASSETS
from ..errors import ConfigError, did_you_mean

EXTENDS = "extends"
"""Key of the recipe that a recipe is based on: a name, or a path relative to the file."""


def folder() -> Path:
    """Return the folder of the recipes: inside the installed package, or in the source tree."""
    packaged = ASSETS / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "recipes"


def names() -> list[str]:
    """Return the names of all recipes in alphabetical order."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def find(recipe: str | Path, beside: Path | None = None) -> Path:
    """Return the file of a recipe.

    Args:
        recipe: a path, or the name of a recipe of the package.
        beside: folder that relative paths refer to; None: the working folder.

    Raises:
        ConfigError: not found; the message names similar recipes.
    """
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
    """Return the tables of a recipe, merged into those of the recipe that it extends.

    Tables are merged key by key; all other values, lists included, replace those of the extended recipe.

    Raises:
        ConfigError: unreadable file, invalid TOML, or a circle of recipes.
    """
    if path.resolve() in above:
        raise ConfigError(f"recipe {path}: {EXTENDS} leads back to the recipe itself", path=path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"recipe {path} cannot be read: {reason}", path=path) from error
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
