"""What a request may choose. One dataclass gives the checks, the defaults and the part of OpenAPI that describes them."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from ..errors import did_you_mean
from ..inference.options import USUAL
from ..types import Points
from .problems import Problem

FILES = ("images", "image", "video")
"""What clients call the files in a form."""


def bounds(low: float, high: float, text: str) -> dict[str, Any]:
    """Return what a field that is a number says of itself."""
    return {"minimum": low, "maximum": high, "description": text}


def about(text: str) -> dict[str, Any]:
    """Return what any other field says of itself."""
    return {"description": text}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How images are read, as for `mien.load`."""

    model: str | None = field(default=None, metadata=about("Name of a model of GET /v1/models; null: the first."))
    max_faces: int | None = field(
        default=None, metadata=bounds(1, 1000, "Read this many faces of an image at most, the largest and surest first.")
    )
    min_size: int = field(default=0, metadata=bounds(0, 10_000, "Leave out faces whose longer side has fewer pixels."))
    small_faces: bool = field(default=False, metadata=about("Look closer, and slower, for faces that are small in the image."))
    points: Points = field(default="5", metadata=about("How many points of the face mesh are listed."))
    blendshapes: bool = field(default=True, metadata=about("Tell the 52 blendshapes."))

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, text: bool = False) -> Self:
        """Return the options that a request asks for.

        Args:
            values: name → value.
            text: whether values are the strings of a form, where `true` and `3` stand for what they look like.

        Raises:
            Problem: an unknown name, or a value of another type or outside its range.
        """
        fields = {each.name: each for each in dataclasses.fields(cls)}
        hints = get_type_hints(cls)
        given = {}
        for name, value in values.items():
            if text and name in FILES:
                raise Problem("invalid", f"{name!r} came as text, not as a file; with curl it is -F {name}=@FILE, with the @")
            if name not in fields:
                hint = did_you_mean(str(name)[:60], fields, f"; known: {', '.join(fields)}")
                raise Problem("invalid", f"there is no option {str(name)[:60]!r}{hint}")
            given[name] = _value(name, value, hints[name], fields[name].metadata, text)
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class VideoOptions(Options):
    """How a video is read: as images are, and which frames."""

    every: int = field(default=1, metadata=bounds(1, 10_000, "Read one frame of so many."))
    fps: float | None = field(
        default=None, metadata=bounds(0.01, 240, "Read about so many frames a second of the video; null: all.")
    )
    start: float = field(default=0.0, metadata=bounds(0, 1e6, "Second at which reading begins."))
    end: float | None = field(default=None, metadata=bounds(0, 1e6, "Second at which reading ends; null: the end."))
    detect_every: int = field(
        default=USUAL.detect_every,
        metadata=bounds(1, 1000, "Frames from one search for faces to the next; 1: each frame is read by itself."),
    )
    smooth: Literal["none", "ema", "box", "gaussian"] = field(
        default="ema", metadata=about("How readings are smoothed over time.")
    )


@dataclass(frozen=True, kw_only=True)
class StreamOptions(Options):
    """How the frames of a stream are read: as images are, and how faces are followed from frame to frame."""

    detect_every: int = field(
        default=USUAL.detect_every,
        metadata=bounds(1, 1000, "Frames from one search for faces to the next; 1: each frame is read by itself."),
    )
    smooth: Literal["none", "ema"] = field(default="ema", metadata=about("How readings are smoothed over time."))


def _value(name: str, value: Any, hint: Any, limits: Mapping[str, Any], text: bool) -> Any:
    wanted, optional = _plain(hint)
    if value is None and optional:
        return None
    if text and isinstance(value, str):
        value = _of_text(value.strip(), wanted, optional)
        if value is None and optional:
            return None
    if get_origin(wanted) is Literal:
        if value in get_args(wanted) and isinstance(value, str):
            return value
        raise Problem("invalid", f"{name} must be one of {', '.join(get_args(wanted))}")
    right = type(value) is wanted or (wanted is float and type(value) is int) or (wanted is int and _whole(value))
    if not right:
        raise Problem("invalid", f"{name} must be {_NAMES[wanted]}")
    if wanted in (int, float):
        low, high = limits["minimum"], limits["maximum"]
        if not low <= value <= high:  # NaN ends here too
            raise Problem("invalid", f"{name} must lie between {low:g} and {high:g}")
        return wanted(value)
    if isinstance(value, str) and len(value) > 200:
        raise Problem("invalid", f"{name} is longer than 200 characters")
    return value


def _whole(value: Any) -> bool:
    return type(value) is float and math.isfinite(value) and value == int(value)


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _plain(hint: Any) -> tuple[Any, bool]:
    """Return the type without None, and whether None was in it."""
    if isinstance(hint, types.UnionType):
        return next(each for each in get_args(hint) if each is not types.NoneType), True
    return hint, False


def _of_text(value: str, wanted: Any, optional: bool) -> Any:
    if optional and value in ("", "null"):
        return None
    if wanted is bool:
        return {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}.get(value.lower(), value)
    if wanted in (int, float):
        try:
            return wanted(value) if len(value) < 40 else value
        except ValueError:
            return value
    return value


def schema(kind: type[Options]) -> dict[str, Any]:
    """Return the JSON Schema of a class of options."""
    hints = get_type_hints(kind)
    names = {str: "string", int: "integer", float: "number", bool: "boolean"}
    properties = {}
    for each in dataclasses.fields(kind):
        wanted, optional = _plain(hints[each.name])
        if get_origin(wanted) is Literal:
            said: dict[str, Any] = {"type": "string", "enum": list(get_args(wanted))}
        else:
            said = {"type": [names[wanted], "null"] if optional else names[wanted]}
        if wanted is str:
            said["maxLength"] = 200
        properties[each.name] = {**said, **each.metadata, "default": each.default}
    return {
        "type": "object", "description": " ".join((kind.__doc__ or "").split()), "properties": properties,
        "additionalProperties": False,
    }  # fmt: skip
