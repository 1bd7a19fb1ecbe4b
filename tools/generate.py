"""Regenerate the committed files that derive from code or results: the JSON Schema and README's tables.

python tools/generate.py            write them
python tools/generate.py --check    exit 1 if one is out of date
"""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from mien.cards import ASSETS
from mien.types import Box, EyeGaze, Face, Gaze, Pose, Result
from tables import ROOT, fill


def main() -> int:
    """Write or check the files; return the exit status."""
    readme = ROOT / "README.md"
    files = {
        ASSETS / "schemas" / "result.json": json.dumps(result_schema(), indent=2, ensure_ascii=False) + "\n",
        readme: fill(readme.read_text(encoding="utf-8")),
    }
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run: python tools/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def result_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of `Result.to_dict`, derived from the classes of `mien.types`."""
    definitions = {kind.__name__: _object(kind) for kind in (Box, EyeGaze, Face, Gaze, Pose)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Result",
        "description": Result.__doc__,
        **_object(Result),
        "$defs": definitions,
    }


def _object(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    properties = {f.name: _schema(hints[f.name]) for f in dataclasses.fields(kind)}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _schema(hint: Any) -> dict[str, Any]:
    plain = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    if hint in plain:
        return {"type": plain[hint]}
    if hint is np.ndarray:
        return {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 3}}
    if dataclasses.is_dataclass(hint):
        return {"$ref": f"#/$defs/{hint.__name__}"}
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _schema(args[0])}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(arg) for arg in args]}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(args[1])}
    raise TypeError(f"no JSON Schema for {hint!r}")


if __name__ == "__main__":
    sys.exit(main())
