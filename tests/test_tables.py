"""Dataclasses from tables and back: what every recipe and card goes through."""

from __future__ import annotations

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
    ("table", "says"),
    [
        ({"rat": 1}, "mine.toml: unknown key 'rat'; did you mean 'rate'"),
        ({"zzz": 1}, "unknown key 'zzz'; known: rate, many, one"),
        ({"one": {}}, "mine.toml: one lacks name"),
        ({"one": 3}, "mine.toml: one must be a table, not 3"),
        ({"many": [{"name": "a"}, {"name": 3}]}, r"many \[1\]: name must be text, not 3"),
        ({"many": {"name": "a"}}, "many must be a list"),
        ({"counts": {"x": 1.5}}, r"counts\.x must be a whole number, not 1\.5"),
        ({"counts": []}, "counts must be a table"),
        ({"rate": True}, "rate must be a number, not True"),
        ({"rate": 10**400}, "rate must be a number, not 1000"),
        ({"strict": 1}, "strict must be true or false, not 1"),
        ({"kind": "grau"}, "kind must be one of gray, rgb, not 'grau'; did you mean 'gray'"),
        ({"kind": "grey"}, "'grey' is called 'gray' since mien 0.2"),
        ({"kind": ["rgb"]}, "kind must be one of gray, rgb"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build(Outer, table, "mine.toml")


def test_keys_that_no_table_may_give() -> None:
    with pytest.raises(ConfigError, match="unknown key 'rate'"):
        build(Outer, {"rate": 1}, "mine.toml", without={"rate"})


def test_text_that_is_no_toml() -> None:
    with pytest.raises(ConfigError, match=r"recipe mine\.toml is not valid TOML: "):
        parse("a = ", "recipe mine.toml")
