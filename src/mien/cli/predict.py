"""`mien predict`: run inference on images and videos, and write the results."""

import contextlib
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..errors import ConfigError, SourceError, reason
from ..inference.baseline import Baseline
from ..inference.elan import Elan
from ..inference.openface import OpenFaceFiles
from ..inference.options import DEFAULTS, Options
from ..inference.recognizer import Recognizer, load
from ..inference.results import Csv, JsonLines, check_rows, json_line
from ..inference.summary import Summary
from ..io.files import check_output
from ..io.sources import Clip, Frame, Images, Item, from_bytes, iter_images, list_lines
from ..runtime.onnx import give_back
from ..types import Result
from .flags import NO_FLAGS, Draw, Flags, annotated_copies, check_distinct
from .terminal import STDIN, File, Json, counted, counting, for_programs, in_flags, note, table_console, write_line

if TYPE_CHECKING:
    from ..visualization.timeline import Timeline

Sink = Csv | JsonLines | OpenFaceFiles


def predict(
    *paths: Annotated[File, Parameter(required=True)],
    json: Json = False,
    csv: Path | None = None,
    jsonl: Path | None = None,
    layout: Annotated[Literal["mien", "openface"], Parameter(name="--format")] = "mien",
    bom: bool = False,
    elan: Path | None = None,
    save: Path | None = None,
    draw: Draw = (),
    timeline: Path | None = None,
    overwrite: bool = False,
    flags: Flags = NO_FLAGS,
) -> int:
    """Recognize facial expressions, head pose, gaze and action units in images and videos.

    On a terminal the faces are listed in a table; piped, or with --json, each image is one line of JSON, as
    schemas/result.json in the package describes it. Images that cannot be read are listed at the end with the reason; the
    others are processed all the same, and the exit status is then 1.

    Each frame of a video gives a result, and faces keep a number from frame to frame. Rows are written as they come; a run that
    is interrupted leaves them in NAME.part. The annotated copy keeps the sound. A truncated video is processed up to its end,
    and listed.

    Examples:
        mien predict photo.jpg
        mien predict holiday --csv faces.csv --save annotated
        mien predict https://example.org/team.jpg --detector retinaface
        mien predict crops --detector whole
        mien predict *.jpg | jq .faces[].label
        mien predict clip.mp4 --csv rows.csv --save annotated --draw pose,gaze --timeline clip.html
        mien predict interview.mp4 --csv interview.csv --format openface --baseline median
        mien predict --fps 25 numbered-frames --timeline clip.html
        find . -name '*.jpg' | mien predict @-
        curl -s https://example.org/team.jpg | mien predict -

    Args:
        paths: Images, videos, folders with their sub-folders, patterns, http or https URLs; @FILE for a list of these, one per
            line; - for an image or video on standard input, @- for a list there.
        csv: Also write a table to this file, one row per face. With --format openface and several inputs: a folder.
        layout: Columns of the table: mien, or openface: those of OpenFace 2, with its units and signs.
        jsonl: Also write JSON Lines to this file.
        bom: Begin the CSV file with a byte order mark, by which Excel recognizes UTF-8.
        elan: Also write an annotation file for ELAN (.eaf): a tier per face and quantity. For one video.
        save: Also write annotated images and videos to this folder.
        draw: Layers of annotated images, separated by commas: pose, gaze, mesh.
        timeline: Also plot each face of the videos over time: .png, .svg, .pdf or .html.
        overwrite: Replace existing files that mien did not write; inputs are never replaced.
    """
    options = flags.options()
    points, groups = options.landmarks, options.groups
    frames = _frames(paths, options, animations=options.animations or timeline is not None or elan is not None)
    items = list(frames.items)
    inputs = [str(item.source if isinstance(item, (Clip, Frame)) else item) for item in items]
    check_distinct(csv=csv, jsonl=jsonl, elan=elan, timeline=timeline)
    check_rows(jsonl, "jsonl", inputs=inputs, overwrite=overwrite)
    if layout == "mien":
        check_rows(csv, "csv", inputs=inputs, overwrite=overwrite)
    elif csv and csv.suffix:
        check_output(csv, "--csv", (".csv",), b"confidence", inputs=inputs, overwrite=overwrite)
    if elan:
        check_output(elan, "--elan", (".eaf",), b"ANNOTATION_DOCUMENT", inputs=inputs, overwrite=overwrite)
    plot = _timeline(timeline, inputs, overwrite=overwrite) if timeline else None
    recognizer = load(**options.loading)
    give_back()
    programs, began = for_programs(json), time.perf_counter()
    roots = [path for path in paths if os.path.isdir(path)]  # noqa: PTH112 - Path.is_dir raises on a name too long
    videos = any(isinstance(item, Clip) for item in items)
    listed: list[Result] = []  # for the table on a terminal only
    failed: list[Result] = []
    annotations = _elan(items) if elan else None
    summary = Summary()
    collectors = [each for each in (summary, annotations, plot) if each]
    tally: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        sinks: list[Sink] = [stack.enter_context(JsonLines(jsonl, points=points, groups=groups))] if jsonl else []
        if csv:
            sinks.append(stack.enter_context(csv_table(csv, recognizer, options, layout, bom=bom, several=len(items) > 1)))
        stack.enter_context(_partial(sinks))
        copies = stack.enter_context(annotated_copies(save, draw, options, roots)) if save else None
        hidden = len(frames) < 2 or (json and sys.stdout.isatty())  # a progress bar would break up the lines
        advance = stack.enter_context(counting("inference", len(frames), "frames" if videos else "", hidden=hidden))
        baseline = Baseline(options.baseline, recognizer)

        def give(results: Iterable[Result]) -> None:
            for result in results:
                for sink in sinks:
                    sink.write(result)
                if programs:
                    write_line(json_line(result, points, groups))

        for frame, result in recognizer.stream(_not_below(frames, save, roots), **options.streaming):
            give(baseline.push(result))
            for each in collectors:
                each.add(result)
            if copies:
                copies.write(frame.image, result)
            if result.status == "unreadable":
                failed.append(result)
            elif not programs and result.time is None:
                listed.append(result)
            elif frame.index == 0 and frame.image:
                for remark in frame.image.notes:
                    note(f"{result.source}: {in_flags(remark)}", "dim")
            tally[result.status] += 1
            tally["image" if frame.time is None else "frame"] += 1
            tally["face"] += len(result.faces)
            advance(1)
        give(baseline.close())
    if annotations and elan:
        annotations.save(elan)
    if plot and timeline:
        plot.save(timeline)
    if not programs:
        from .readings import show, show_videos

        show(listed, table_console())
        show_videos(summary.faces, table_console())
    for result in failed:
        note(f"failed: {in_flags(result.message or '')}", "red")
    counts = [counted(tally[what], what) for what in ("image", "frame") if tally[what]]
    counts += [counted(tally["face"], "face")]
    counts += [f"{tally['no face']} without a face"] if tally["no face"] else []
    counts += [f"{len(failed)} failed"] if failed else []
    took = time.perf_counter() - began
    speed = f", {tally['frame'] / took:.0f} frames/s" if tally["frame"] else ""
    note(f"{', '.join(counts)} in {took:.1f} s{speed}", "dim")
    if written := [str(each) for each in (csv, jsonl, elan, save, timeline) if each]:
        note(f"wrote {', '.join(written)}", "dim")
    elif tally["frame"] and not programs:
        note("for the results of each frame, give --csv, --jsonl, --save or --timeline", "dim")
    return 1 if failed else 0


def _frames(paths: Iterable[str], options: Options, *, animations: bool) -> Images:
    """Return the images of the command line: paths, lists (`@FILE`, `@-`) and standard input (`-`)."""
    sources: list[Any] = []
    for path in paths:
        if not path:
            raise SourceError("a path is empty; is a variable of the shell unset?", value=path)
        if path == STDIN:
            data = sys.stdin.buffer.read()
            sources.append(from_bytes(data, STDIN, options.sampling, animations=animations, **options.reading))
        elif path.startswith("@") and not os.path.exists(path):  # noqa: PTH110 - Path.exists raises on a name too long
            sources += _listed(path[1:])
        else:
            sources.append(path)
    return iter_images(sources, sampling=options.sampling, animations=animations, **options.reading)


def _listed(name: str) -> list[str]:
    """Return the paths and URLs of a list."""
    if name == "-":
        return list(list_lines(io.BytesIO(sys.stdin.buffer.read()), "on standard input"))
    try:
        with Path(name).open("rb") as file:
            return list(list_lines(file, name, os.path.dirname(name)))  # noqa: PTH120 - a str
    except (OSError, ValueError) as error:
        raise SourceError(f"the list {name} cannot be read: {reason(error)}", path=name) from error


def csv_table(
    path: Path, recognizer: Recognizer, options: Options, layout: str = "mien", *, bom: bool = False, several: bool = False
) -> Csv | OpenFaceFiles:
    """Open the table of `--csv`; ConfigError for one file in OpenFace's format and several inputs."""
    units = "action_units" in recognizer.card.outputs
    if layout == "openface":
        if several and path.suffix.lower() == ".csv":
            raise ConfigError(f"OpenFace's format has one file per image or video; name a folder instead of {path}", path=path)
        # The format has four groups: all of them, unless some were chosen.
        groups = ("pose", "gaze", "landmarks68", "units") if options.columns == DEFAULTS.columns else options.groups
        return OpenFaceFiles(path, groups, units=units)
    return Csv(path, recognizer.card.labels, options.groups, unsmoothed=options.smooth is not None, units=units, bom=bom)


def _elan(items: Sequence[Item]) -> Elan:
    """Begin the annotations of the only video; ConfigError for several inputs, or none that is a video."""
    if len(items) != 1 or not isinstance(items[0], Clip):
        raise ConfigError(f"--elan annotates one video, got {len(items)} inputs", value=len(items))
    return Elan()


@contextlib.contextmanager
def _partial(sinks: list[Sink]) -> Iterator[None]:
    """Report where the rows are if the run is interrupted."""
    try:
        yield
    except BaseException:
        for sink in sinks:
            if sink.count:
                note(f"partial file: {counted(sink.count, 'result')} in {sink.part}", "red")
        raise


def _timeline(path: Path, inputs: Sequence[str], *, overwrite: bool) -> "Timeline":
    from ..visualization.timeline import Timeline, check_timeline

    check_timeline(path, inputs=inputs, overwrite=overwrite)
    return Timeline()


def _not_below(frames: Images, folder: Path | None, roots: list[str]) -> Iterable[Frame]:
    """Skip the output of an earlier run, if annotated images go into a sub-folder of the input."""
    if folder is None or not any(_inside(folder, root) for root in roots):
        return frames
    return (frame for frame in frames if not _inside(frame.source, folder))


def _inside(path: str | Path, folder: str | Path) -> bool:
    here, there = os.path.abspath(path), os.path.abspath(folder)  # noqa: PTH100 - links are not resolved
    return Path(there) in Path(here).parents
