"""Requests and responses: pydantic models that give validation and defaults, and the OpenAPI document made of their schemas."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.json_schema import models_json_schema

from ..errors import did_you_mean
from ..inference.options import DEFAULTS
from ..inference.options import Options as InferenceOptions
from ..io.provenance import VERSION
from ..types import Group, Points, json_schema
from .problems import MEDIA_TYPE, PROBLEMS, Problem, ProblemDetails, first_error

FILES = ("images", "image", "pictures", "video")  # names of the file fields in a form
# JSON Schema calls 3.0 an integer too.
Whole = Annotated[int, BeforeValidator(lambda value: int(value) if type(value) is float and value.is_integer() else value)]
Listed = BeforeValidator(
    lambda value: [*filter(None, re.split(r"\s*,\s*", value.strip()))] if isinstance(value, str) else value
)
Null = BeforeValidator(lambda value: None if value in ("", "null") else value)  # texts that mean null in a form


class Options(BaseModel):
    """Inference options of an image, with the meanings of `mien.load`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    model: Annotated[str | None, Null] = Field(None, max_length=200, description="Name from GET /v1/models; null: the default.")
    max_faces: Annotated[Whole | None, Null] = Field(
        None, ge=1, le=1000, description="Maximum number of faces per image, the largest and most certain first."
    )
    min_size: Whole = Field(0, ge=0, le=10_000, description="Skip faces whose longer side has fewer pixels.")
    small_faces: bool = Field(False, description="Search small faces at a higher resolution; slower.")
    points: Points = Field("5", description="Face mesh points in the result.")
    blendshapes: bool = Field(True, description="Include the 52 blendshapes.")
    columns: Annotated[list[Group], Listed] = Field(
        list(DEFAULTS.columns),
        description="Groups of measures in the result; the others are null. Comma-separated in forms and queries.",
    )

    @property
    def shown(self) -> tuple[Points, tuple[Group, ...]]:
        """Landmarks and groups of a result: the arguments of `Result.to_dict`."""
        chosen = InferenceOptions(points=self.points, blendshapes=self.blendshapes, columns=tuple(self.columns))
        return chosen.landmarks, chosen.groups

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, text: bool = False) -> Self:
        """Validate the options of a request, with `text` strings of a form or query, as `true` and `3`; Problem if invalid."""
        for name in map(str, values):
            if text and name in FILES:
                raise Problem("invalid", f"{name!r} was sent as text, not as a file; with curl: -F {name}=@FILE, with the @")
            if name not in cls.model_fields:
                hint = did_you_mean(name[:60], cls.model_fields, f"; known: {', '.join(cls.model_fields)}")
                raise Problem("invalid", f"unknown option {name[:60]!r}{hint}")
        try:
            return cls.model_validate(dict(values), strict=not text)
        except ValidationError as error:
            raise first_error(error.errors()) from None


class StreamOptions(Options):
    """Inference options of a stream: those of images, and how faces are tracked."""

    detect_every: Whole = Field(
        DEFAULTS.detect_every, ge=1, le=1000, description="Run face detection every N frames, track in between; 1: no tracking."
    )
    smooth: Literal["none", "ema"] = Field("ema", description="Smoothing over time.")


class VideoOptions(StreamOptions):
    """Inference options of a video: those of streams, and the frames to read."""

    smooth: Literal["none", "ema", "box", "gaussian"] = Field("ema", description="Smoothing over time.")  # pyrefly: ignore
    every: Whole = Field(1, ge=1, le=10_000, description="Read every Nth frame only.")
    fps: Annotated[float | None, Null] = Field(
        None, ge=0.01, le=240, description="Maximum number of frames read per second of video; null: all."
    )
    start: float = Field(0.0, ge=0, le=1e6, description="Start time in seconds.")
    end: Annotated[float | None, Null] = Field(None, ge=0, le=1e6, description="End time in seconds; null: the end.")
    baseline: Annotated[str | None, Null] = Field(
        None, pattern=r"^(median|first \d{1,6}(\.\d{1,3})? s)$",
        description="Subtract each person's neutral from blendshapes and action units: `median`, or `first 5 s` of each face.",
    )  # fmt: skip


class ExplainOptions(Options):
    """Options of an explanation: those that found the face, and which of its scores is explained."""

    face: Whole = Field(0, ge=0, le=1000, description="Index of the face in the result, from 0.")
    label: Annotated[str | None, Null] = Field(None, max_length=200, description="Label to explain; null: the predicted one.")


Status = Literal["waiting", "running", "done", "failed", "canceled"]
ACTIVE = ("waiting", "running")


class JobState(BaseModel):
    """The state of a video job."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_serialization_defaults_required=True)

    id: str = Field(description="Random id; it grants access to the results.")
    name: str = Field(description="File name of the upload.")
    status: Status = Field(
        description="`done`, `failed` (see `message`) and `canceled` are final; all three keep their results."
    )
    progress: float | None = Field(ge=0, le=1, description="Share processed; null if the length of the video is unknown.")
    frames: int = Field(0, ge=0, description="Frames processed.")
    faces: int = Field(0, ge=0, description="Faces in these frames.")
    time: float = Field(0.0, description="Position in the video in seconds.")
    created: float = Field(0.0, description="Unix time of creation.")
    message: str | None = Field(None, description="Why the job failed, or a remark on its results.")

    def but(self, **values: object) -> "JobState":
        """Return a copy with other values."""
        return self.model_copy(update=values)


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


def uploads(options: type[Options], files: str, kind: str, success: Mapping[int, Any], *, many: bool = False) -> dict[str, Any]:
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
