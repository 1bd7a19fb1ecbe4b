"""Request options: pydantic models that give validation, defaults and the OpenAPI schemas."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..errors import did_you_mean
from ..inference.options import DEFAULTS
from ..inference.options import Options as InferenceOptions
from ..types import Group, Points
from .problems import Problem, first_error

FILES = ("images", "image", "pictures", "video")  # names of the file fields in a form


def _listed(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


# JSON Schema calls 3.0 an integer too.
Whole = Annotated[int, BeforeValidator(lambda value: int(value) if type(value) is float and value.is_integer() else value)]
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
    columns: Annotated[list[Group], BeforeValidator(_listed)] = Field(
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
