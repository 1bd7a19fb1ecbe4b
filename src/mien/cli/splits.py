"""Helpers of the dataset commands: NAME=VALUE options, and a table of the splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from ..errors import ConfigError


def pairs(options: Sequence[str], flag: str) -> dict[str, str]:
    """Return `("mode=probability",)` as `{"mode": "probability"}`.

    Raises:
        ConfigError: an option without `=`.
    """
    found = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise ConfigError(f"{flag} must be NAME=VALUE, got {option!r}", value=option, expected=("NAME=VALUE",))
        found[name] = value
    return found


def split_table(classes: Mapping[str, Mapping[str, int]], images: Mapping[str, int], digests: Mapping[str, str]) -> Table:
    """Return a table of image counts, classes down and splits across, with totals and digests."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for split in classes:
        table.add_column(split, justify="right")
    for kind in dict.fromkeys(kind for counts in classes.values() for kind in counts):
        table.add_row(kind, *(f"{counts.get(kind, 0):,}" for counts in classes.values()))
    table.add_row("images", *(f"{number:,}" for number in images.values()), style="bold")
    table.add_row("digest", *(digest[:12] for digest in digests.values()), style="dim")
    return table
