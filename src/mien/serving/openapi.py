"""The OpenAPI document: schemas of the pydantic models that validate requests and of the responses."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from ..io.provenance import VERSION
from ..types import json_schema
from .jobs import JobState
from .options import ExplainOptions, Options, StreamOptions, VideoOptions
from .problems import MEDIA_TYPE, PROBLEMS, ProblemDetails

DESCRIPTION = (
    "Facial expression recognition in images, videos and streams. WS /v1/stream is outside the scope of OpenAPI: it takes a "
    "text message with StreamOptions and then JPEG frames, and returns one message per frame; docs/serving.md describes them."
)
REF = "#/components/schemas/"


class Entry(BaseModel):
    """An image of a JSON request: exactly one of `data` and `url`."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, description="Name in results and messages.")
    data: str | None = Field(None, description="The encoded image in base64 (line breaks are allowed), or a data: URI.")
    url: str | None = Field(None, description="Public http or https URL; only with --allow-urls.")


class Models(BaseModel):
    """The cards of all models."""

    models: list[dict[str, Any]]
    default: str = Field(description="Model of requests that name none.")
    columns: dict[str, list[str]] = Field(description="Model → columns of its CSV files, as those of `mien predict --csv`.")
    explain: bool = Field(description="Whether POST /v1/explain is available.")
    limits: dict[str, float] = Field(description="Limits of one request, as in mien.serving.settings.Limits.")


class Region(BaseModel):
    """A part of the face."""

    name: str
    importance: float = Field(description="Drop of the log-odds of the label, log p/(1 − p), when this part is blurred.")


class Heat(BaseModel):
    """A map of importance over the crop."""

    values: list[list[float]] = Field(description="Rows of importance, 0 … 1, where 1 is the most important cell.")
    strength: float = Field(description="Drop of the log-odds of the label when the most important cell is covered.")
    corners: list[list[float]] = Field(description="Upper left, upper right and lower left corner of the crop in the image.")


class Explained(BaseModel):
    """An occlusion explanation of one score of a face."""

    label: str
    probability: float
    regions: list[Region]
    map: Heat


def components() -> dict[str, Any]:
    """Return the named schemas."""
    result = json_schema()
    schemas = {name: _local(each) for name, each in result.pop("$defs").items()}
    schemas["Result"] = _local({name: each for name, each in result.items() if not name.startswith("$")})
    models = (Options, StreamOptions, VideoOptions, ExplainOptions, Entry, Models, Explained, JobState, ProblemDetails)
    _, found = models_json_schema([(model, "validation") for model in models], ref_template=REF + "{model}")
    schemas |= found["$defs"]
    results = {"type": "array", "items": _ref("Result")}
    schemas["Results"] = {
        "type": "object", "description": "One result per image, in order.", "properties": {"results": results},
        "required": ["results"],
    }  # fmt: skip
    return schemas


def document(base: dict[str, Any]) -> dict[str, Any]:
    """Complete FastAPI's document of the routes."""
    base["info"] = {"title": "mien", "version": VERSION, "description": DESCRIPTION, "license": {"name": "Apache-2.0"}}
    base["components"] = {"schemas": components(), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
    base["security"] = [{}, {"token": []}]
    return base


def responses(success: Mapping[int, Any], *problems: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route: its success and its possible problems."""
    found: dict[int | str, dict[str, Any]] = dict(success.items())
    for name in (*problems, "foreign-origin", "unauthorized", "foreign-host", "internal"):
        status, title = PROBLEMS[name]
        found.setdefault(status, {"description": title, "content": {MEDIA_TYPE: {"schema": _ref("ProblemDetails")}}})
    return found


def of_json(name: str, text: str) -> dict[str, Any]:
    """Return the description of a JSON response."""
    return {"description": text, "content": {"application/json": {"schema": _ref(name)}}}


def upload(options: type[Options], files: str, kind: str, success: Mapping[int, Any], *, many: bool = False) -> dict[str, Any]:
    """Return keywords of a route that takes files: as a form, as a raw body, and in JSON for many images."""
    file = {"type": "string", "format": "binary"}
    form = _form(options)
    content: dict[str, Any] = {
        "multipart/form-data": {
            "schema": {
                "type": "object", "required": [files], "additionalProperties": False,
                "properties": {files: {"type": "array", "items": file, "minItems": 1} if many else file, **form},
            },
        },
        kind: {"schema": file},
    }  # fmt: skip
    if many:
        content["application/json"] = {
            "schema": {
                "type": "object", "additionalProperties": False, "required": ["images"],
                "properties": {
                    "images": {"type": "array", "items": _ref("Entry"), "minItems": 1}, "options": _ref(options.__name__),
                },
            },
        }  # fmt: skip
    parameters = [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in form.items()]
    problems = ["malformed", "too-slow", "too-large", "media-type", "invalid", "busy", *(["time-out"] if many else [])]
    return {
        "openapi_extra": {"requestBody": {"required": True, "content": content}, "parameters": parameters},
        "responses": responses(success, *problems),
    }


def _form(options: type[Options]) -> dict[str, Any]:
    """Return the options as form fields, where an omitted field means null."""
    fields = {}
    for name, schema in options.model_json_schema()["properties"].items():
        value = {**schema, **schema.get("anyOf", [{}])[0]}
        if value.get("type") == "array":  # comma-separated
            item = "|".join(value.pop("items")["enum"])
            value |= {"type": "string", "default": ",".join(value["default"]), "pattern": f"^(({item})(,({item}))*)?$"}
        fields[name] = {key: item for key, item in value.items() if key != "anyOf" and (key != "default" or item is not None)}
    return fields


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REF + name}


def _local(table: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(table).replace("#/$defs/", REF))
