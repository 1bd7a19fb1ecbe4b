"""`mien watch`: inference on a camera, with a live table."""

import contextlib
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..errors import SourceError
from ..inference.options import DEFAULTS
from ..inference.recognizer import load
from ..inference.results import JsonLines, check_rows, json_line
from ..io.live import is_live
from ..io.sources import Clip, iter_images
from ..io.urls import is_url
from ..io.video import camera_number, is_video
from ..types import Result
from .flags import Draw, Flags, annotated_copies, check_distinct
from .predict import Sink, csv_table
from .readings import measures, style_of
from .terminal import File, Json, block_bar, counted, for_programs, note, plain_table, table_console, write_line

Hidden = Annotated[Any, Parameter(parse=False)]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFlags(Flags):
    """The options of inference that apply to a camera."""

    allow_private: Hidden = True  # the user of this machine typed the address, and most cameras are on a private network
    max_bytes: Hidden = DEFAULTS.max_bytes
    timeout: Hidden = DEFAULTS.timeout
    truncated: Hidden = DEFAULTS.truncated
    frames: Hidden = DEFAULTS.frames
    baseline: Hidden = DEFAULTS.baseline


def watch(
    *,
    camera: File = "0",
    json: Json = False,
    csv: Path | None = None,
    jsonl: Path | None = None,
    save: Path | None = None,
    overwrite: bool = False,
    draw: Draw = (),
    flags: LiveFlags = LiveFlags(),
) -> int:
    """Recognize the facial expressions of the people in front of a camera.

    A live table has one row per face; piped, or with --json, each frame is one line of JSON. No window is opened and no image
    leaves this machine. Ctrl-C ends it and completes the files of --csv, --jsonl and --save.

    A network camera is reconnected after an interruption, for up to a minute. Frames that arrive faster than they are processed
    are dropped, so the delay stays small.

    Examples:
        mien watch
        mien watch --camera 1 --jsonl faces.jsonl
        mien watch --camera rtsp://user:password@192.168.1.20/stream1
        mien watch --camera clip.mp4

    Args:
        camera: Number or name of the camera; RTSP, RTMP or HTTP (MJPEG) address of a network camera; or a video file.
        csv: Also write a table to this file, one row per face.
        jsonl: Also write JSON Lines to this file.
        save: Also write the annotated video to this folder.
        overwrite: Replace existing files that mien did not write.
        draw: As for mien predict.
    """
    options = flags.options()
    groups, points = options.groups, options.landmarks
    if is_url(camera) and (is_live(camera) or not is_video(camera)):
        frames: Any = Clip(camera, options.sampling, {"allow_private": True}, live=True)
    else:
        frames = iter_images(camera if is_url(camera) else camera_number(camera), sampling=options.sampling)
    check_distinct(csv=csv, jsonl=jsonl)
    for path, kind in ((csv, "csv"), (jsonl, "jsonl")):
        check_rows(path, kind, inputs=[camera], overwrite=overwrite)
    recognizer = load(**options.loading)
    count, failed, ticks = 0, None, deque([time.perf_counter()], 30)
    with contextlib.ExitStack() as stack:
        sinks: list[Sink] = [stack.enter_context(csv_table(csv, recognizer, options))] if csv else []
        sinks += [stack.enter_context(JsonLines(jsonl, points=points, groups=groups))] if jsonl else []
        copies = stack.enter_context(annotated_copies(save, draw, options)) if save else None
        table = Live(console=table_console(), auto_refresh=False, transient=True)
        live = None if for_programs(json) else stack.enter_context(table)
        plain = live is not None and not live.console.encoding.lower().startswith("utf")
        with contextlib.suppress(KeyboardInterrupt):  # the normal end; the files are completed
            for frame, result in recognizer.stream(frames, **options.streaming):
                if result.status == "unreadable":
                    failed = result.message
                    continue
                for sink in sinks:
                    sink.write(result)
                if copies:
                    copies.write(frame.image, result)
                count += 1
                ticks.append(time.perf_counter())
                if live is None:
                    write_line(json_line(result, points, groups))
                else:
                    rate = (len(ticks) - 1) / max(ticks[-1] - ticks[0], 1e-9)
                    live.update(view(result, rate, plain=plain), refresh=True)
    if failed and not count:
        raise SourceError(failed)
    if failed:
        note(f"stopped: {failed}", "red")
    note(counted(count, "frame"), "dim")
    return 1 if failed else 0


def view(result: Result, rate: float, *, plain: bool) -> Table:
    """Return a table of the faces in one frame."""
    title = f"{result.source} · {result.time or 0:.1f} s · {rate:.0f} frames/s · {len(result.faces)} in view"
    names = ("face", "expression", "", "confidence", "certain", "pitch yaw roll", "gaze")
    table = plain_table(*names, text={*names} - {"face", "confidence"})
    table.title, table.title_justify, table.title_style, table.columns[2].min_width = title, "left", "dim", 24
    for face in sorted(result.faces, key=lambda face: face.track or 0):
        style = style_of(face.label) if face.certain else "dim"
        bar = Text(block_bar(face.confidence, 24, plain=plain), style)
        table.add_row(str(face.track or ""), Text(face.label, style), bar, f"{face.confidence:.0%}", *measures(face))
    return table
