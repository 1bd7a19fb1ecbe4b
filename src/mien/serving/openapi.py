"""The OpenAPI document: its schemas come from the dataclasses that the server answers with and checks requests by."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from ..io.provenance import VERSION
from ..types import json_schema
from .jobs import JobState
from .options import Options, StreamOptions, VideoOptions, schema
from .problems import MEDIA_TYPE, PROBLEMS, ProblemDetails

DESCRIPTION = (
    "Read the expressions of faces in images, videos and streams. WS /v1/stream, which OpenAPI cannot describe, takes a text "
    "message with options (StreamOptions) and then JPEG frames, and answers each frame; docs/serving.md has its messages."
)


def components() -> dict[str, Any]:
    """Return the named schemas."""
    result = json_schema()
    found = {name: _in_components(each) for name, each in result.pop("$defs").items()}
    found["Result"] = _in_components({name: each for name, each in result.items() if not name.startswith("$")})
    kinds = {"Options": Options, "VideoOptions": VideoOptions, "StreamOptions": StreamOptions}
    found |= {name: schema(kind) for name, kind in kinds.items()}
    found["Problem"] = {
        "type": "object", "description": ProblemDetails.__doc__, "additionalProperties": False,
        "properties": {
            **{name: {"type": "string"} for name in ("type", "title", "detail")}, "status": {"type": "integer"},
        },
        "required": [each.name for each in dataclasses.fields(ProblemDetails)],
    }  # fmt: skip
    found["Results"] = object_of(
        {"results": {"type": "array", "items": _ref("Result")}}, "One result for each image, in order."
    )
    found["Job"] = JobState.schema()
    found["Models"] = object_of(
        {
            "models": {"type": "array", "items": {"type": "object"}},
            "default": {"type": "string"},
            "explain": {"type": "boolean"},
        },
        "The cards of all models, the one that answers by default, and whether POST /v1/explain is there.",
    )
    return found


def document(base: dict[str, Any], **schemas: dict[str, Any]) -> dict[str, Any]:
    """Complete what FastAPI made of the routes; `schemas` are named ones besides `components`."""
    base["info"] = {"title": "mien", "version": VERSION, "description": DESCRIPTION, "license": {"name": "Apache-2.0"}}
    base["components"] = {
        "schemas": components() | schemas,
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
    }
    base["security"] = [{}, {"token": []}]
    return base


def answers(success: Mapping[int, Any], *problems: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route: what it gives, and the problems it may end with."""
    found: dict[int | str, dict[str, Any]] = dict(success.items())
    for name in (*problems, "foreign-origin", "unauthorised", "foreign-host", "internal"):
        status, title = PROBLEMS[name]
        content = {MEDIA_TYPE: {"schema": _ref("Problem")}}
        found.setdefault(status, {"description": title, "content": content})
    return found


def of_json(name: str, text: str) -> dict[str, Any]:
    """Return the description of an answer in JSON."""
    return {"description": text, "content": {"application/json": {"schema": _ref(name)}}}


def images_body(options: type[Options] = Options, *, json_too: bool = True, files: str = "images") -> dict[str, Any]:
    """Return the description of a body with images, or with one video."""
    about = schema(options)["properties"]
    file = {"type": "string", "format": "binary"}
    content: dict[str, Any] = {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {files: {"type": "array", "items": file, "minItems": 1} if json_too else file, **_plain(about)},
                "required": [files],
                "additionalProperties": False,
            },
        },
    }
    if json_too:
        entry = {"anyOf": [_entry("data", _DATA), _entry("url", _URL)]}
        content["application/json"] = {
            "schema": {
                "type": "object", "additionalProperties": False, "required": ["images"],
                "properties": {"images": {"type": "array", "items": entry, "minItems": 1}, "options": _ref(options.__name__)},
            },
        }  # fmt: skip
    return {"requestBody": {"required": True, "content": content}}


def _entry(field: str, about: dict[str, Any]) -> dict[str, Any]:
    properties = {"name": {"type": "string"}, field: about}
    return {"type": "object", "properties": properties, "required": [field], "additionalProperties": False}


_DATA = {
    "type": "string", "contentEncoding": "base64", "description": "The image's file in base64.",
    "pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}  # fmt: skip
_URL = {
    "type": "string",
    "format": "uri",
    "description": "Where the image is, on the public internet; only with --allow-urls.",
}


def _plain(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties as fields of a form, which know no null: leaving one out is its default."""
    fields = {}
    for name, about in properties.items():
        kind = about["type"][0] if isinstance(about["type"], list) else about["type"]
        fields[name] = {key: value for key, value in about.items() if key != "default" or value is not None} | {"type": kind}
    return fields


def object_of(properties: dict[str, Any], text: str) -> dict[str, Any]:
    """Return the schema of an object that has all these properties."""
    return {"type": "object", "description": text, "properties": properties, "required": list(properties)}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _in_components(table: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(table).replace("#/$defs/", "#/components/schemas/"))
