"""Dataclasses from tables and back: what every recipe and card goes through."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from mien.config import build, parse, plain
from mien.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    name: str
    sides: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outer:
    rate: float = 0.1
    many: tuple[Inner, ...] = ()
    one: Inner | None = None
    kind: Literal["gray", "rgb"] = "rgb"
    counts: dict[str, int] = field(default_factory=dict)
    anything: Any = None
    strict: bool = False


def test_tables_within_become_what_the_fields_declare() -> None:
    table = {
        "rate": 1,
        "many": [{"name": "a", "sides": [1, 2]}],
        "one": {"name": "b"},
        "kind": "gray",
        "counts": {"x": 3},
        "anything": [1, "two"],
        "strict": True,
    }
    built = build(Outer, table, "mine.toml")
    assert built == Outer(1.0, (Inner("a", (1, 2)),), Inner("b"), "gray", {"x": 3}, [1, "two"], True)
    assert isinstance(built.rate, float)
    assert build(Outer, plain(built), "again") == built
    assert build(Outer, {"one": None}, "mine.toml") == Outer()


def test_what_is_empty_may_be_left_out() -> None:
    assert plain(Outer(one=Inner("b")), empty=False) == {"rate": 0.1, "one": {"name": "b"}, "kind": "rgb", "strict": False}
    assert "many" in plain(Outer()) and "one" not in plain(Outer())


@pytest.mark.parametrize(
    ("table", "place", "value"),
    [
        ({"rat": 1}, "mine.toml", "rat"),
        ({"one": {}}, "one", None),
        ({"one": 3}, "one", 3),
        ({"many": [{"name": "a"}, {"name": 3}]}, "many [1]: name", 3),
        ({"counts": {"x": 1.5}}, "counts.x", 1.5),
        ({"counts": []}, "counts", []),
        ({"rate": True}, "rate", True),
        ({"rate": 10**400}, "rate", 10**400),
        ({"strict": 1}, "strict", 1),
        ({"kind": "grau"}, "kind", "grau"),
        ({"kind": "grey"}, "'gray'", "grey"),
        ({"kind": ["rgb"]}, "kind", ["rgb"]),
    ],
)
def test_invalid_values_are_reported_with_their_place(table: dict[str, Any], place: str, value: object) -> None:
    with pytest.raises(ConfigError, match=re.escape(place)) as error:
        build(Outer, table, "mine.toml")
    assert error.value.value == value


def test_keys_that_no_table_may_give() -> None:
    with pytest.raises(ConfigError, match="unknown key 'rate'"):
        build(Outer, {"rate": 1}, "mine.toml", without={"rate"})


def test_text_that_is_no_toml() -> None:
    with pytest.raises(ConfigError, match=r"recipe mine\.toml is not valid TOML: "):
        parse("a = ", "recipe mine.toml")
