"""Flags that several commands share: the options of inference."""

# Annotations are not postponed here: `mien watch` extends `Flags` in another module, where their names are unknown.
import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from cyclopts import Parameter, Token

from ..errors import ConfigError, did_you_mean
from ..inference.options import DEFAULTS, Options, Smoothing
from ..types import GROUPS, LAYERS, Group, Layer
from .terminal import File

if TYPE_CHECKING:
    from ..visualization.annotated import AnnotatedCopies

MODEL = (
    "A bundled model or one of the zoo (see: mien models), a card (.toml), an .onnx file with its card inside, a .safetensors "
    "file with its card beside it, or the folder of a training run. On a cluster, the path must be the same on all machines."
)


def _time(kind: Any, tokens: Sequence[Token]) -> float:
    """Return the seconds of "83.5", "1:23.5" or "0:01:23.5"."""
    text = tokens[0].value
    if not re.fullmatch(r"((\d+:[0-5]?\d|\d+):[0-5]?\d|\d+)(\.\d*)?", text):
        raise ConfigError(f"invalid time {text!r}; expected seconds (83.5), 1:23.5 or 0:01:23.5", value=text)
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total


def smoothing(kind: Any, tokens: Sequence[Token]) -> Any:
    """Return a kind of smoothing; None for "none"."""
    value = tokens[0].value
    if value not in (*get_args(Smoothing), "none"):
        raise ValueError(f"expected one of {', '.join(get_args(Smoothing))}, none")
    return None if value == "none" else value


def _listed(what: str, known: Sequence[str]) -> Any:
    """Return a converter of comma-separated names."""

    def convert(kind: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
        names = [name.strip() for token in tokens for name in token.value.split(",") if name.strip()]
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known, ".")
                raise ConfigError(f"unknown {what} {name!r}{hint} Known: {', '.join(known)}", value=name, expected=known)
        return tuple(name for name in known if name in names)

    return convert


def check_distinct(**outputs: Path | None) -> None:
    """Refuse one file for two outputs with ConfigError."""
    seen: dict[Path, str] = {}
    for name, path in outputs.items():
        if path and (other := seen.setdefault(path.resolve(), name)) != name:
            raise ConfigError(f"--{other} and --{name} name the same file {path}; give two names", path=path)


def annotated_copies(folder: Path, draw: Sequence[Layer], options: Options, roots: Sequence[str] = ()) -> "AnnotatedCopies":
    """Open the folder of `--save`, for copies with the layers of `--draw`, and the mesh with `--points all`."""
    from ..visualization.annotated import AnnotatedCopies

    mesh: tuple[Layer, ...] = ("mesh",) if options.points == "all" and "mesh" not in draw else ()
    span: dict[str, Any] = {"start": options.start, "end": options.end}
    return AnnotatedCopies(folder, roots=roots, layers=(*draw, *mesh), threads=options.threads, **span)


Time = Annotated[float | None, Parameter(converter=_time)]
Smooth = Annotated[Smoothing | None, Parameter(converter=smoothing)]
Columns = Annotated[tuple[Group, ...], Parameter(converter=_listed("group of columns", GROUPS), n_tokens=1, negative=())]
Draw = Annotated[tuple[Layer, ...], Parameter(converter=_listed("layer", LAYERS), n_tokens=1, negative=())]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(Options):
    """The options of inference as flags: times as people write them, lists separated by commas."""

    model: Annotated[File, Parameter(help=MODEL)] = DEFAULTS.model
    blendshapes: Annotated[bool, Parameter(negative="--no-blendshapes")] = DEFAULTS.blendshapes
    """Compute the 52 blendshapes, and the action units estimated from them."""
    columns: Columns = DEFAULTS.columns
    """Groups of columns in CSV, parquet and JSON, separated by commas."""
    every: int | None = None  # pyrefly: ignore - None tells "not given" from 1, which selects frames of animations
    """Process every N-th frame of a video, animation or multi-page TIFF."""
    start: Time = DEFAULTS.start
    """Start time in each video: seconds, or 1:02:03.5."""
    end: Time = DEFAULTS.end
    """End time."""
    smooth: Smooth = DEFAULTS.smooth
    """Temporal smoothing: ema (past frames only), box or gaussian (centered), none."""

    def options(self) -> Options:
        """Return them as Python takes them."""
        values: dict[str, Any] = dataclasses.asdict(self)
        if self.every is None:
            values["every"] = 1
        else:
            values["frames"] = True
        return Options(**values)


NO_FLAGS = Flags()  # the defaults
