"""POST /v1/explain: which parts of a face its reading rests on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from PIL import Image
from starlette.responses import Response

from ..errors import ConfigError, SourceError
from ..explaining import Explanation, explain
from ..faces.alignment import apply, invert
from ..io.decoding import decode
from ..io.images import DecodedImage
from . import openapi
from .bodies import blocks, charged, form, media_type
from .options import Options, about, bounds
from .problems import Problem, busy
from .readers import Readers

CELLS = 24
"""Cells of the map along each side, at most."""

MAP = "0 … 1 over the crop, 1 for the place that matters most, and the crop's upper left, upper right and lower left corner."
PARTS = "How far the probability falls when a part of the face is blurred, and where it falls when a patch is covered."

TOLD = ("malformed", "too-slow", "too-large", "media-type", "invalid", "busy", "time-out")


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(Options):
    """Which reading is explained: faces are found as for /v1/predict with the same options."""

    face: int = field(default=0, metadata=bounds(0, 1000, "Place of the face in the result, from 0."))
    label: str | None = field(default=None, metadata=about("Expression to explain; null: the most probable one."))


def install(app: FastAPI, waiting: int = 8) -> None:
    """Add the route. One face is explained at a time, and `waiting` requests may wait for that."""
    turn = asyncio.Semaphore(1)
    state, here = app.state, 0

    @app.post(
        "/v1/explain", tags=["reading"], summary="Tell which parts of a face its reading rests on",
        openapi_extra=openapi.images_body(ExplainOptions, json_too=False, files="images"),
        responses=openapi.answers({200: openapi.of_json("Explanation", "Importances.")}, *TOLD),
    )  # fmt: skip
    async def explanation(request: Request) -> Response:
        nonlocal here
        limits = state.settings.limits
        if media_type(request) != "multipart/form-data":
            raise Problem("media-type", "send multipart/form-data with one file")
        if here >= waiting:
            raise busy("too many explanations are waiting; ask again later", 5)
        here += 1
        try:
            with charged(state.budget) as budget:
                arriving = blocks(request, limits.request_bytes, limits.seconds, budget)
                files, fields = await form(request, arriving, files=1, file_bytes=limits.image_bytes)
                options = ExplainOptions.parse(fields, text=True)
                if not files:
                    raise Problem("invalid", "the request holds no image: add a file to the form")
                try:
                    async with asyncio.timeout(limits.seconds):
                        return await _in_turn(turn, _answer, state.readers, files[0], options, limits.pixels)
                except TimeoutError:
                    detail = f"explaining took longer than {limits.seconds:g} seconds; try later"
                    raise Problem("time-out", detail, {"Retry-After": "5"}) from None
        finally:
            here -= 1


async def _in_turn(turn: asyncio.Semaphore, work: Callable[..., Response], *arguments: Any) -> Response:
    """Do work in a thread. Who gives it up does not end it, and so the next one's turn comes when the thread is done."""

    def done(task: asyncio.Future[Response]) -> None:
        turn.release()
        if not task.canceled():
            task.exception()  # nobody may be left to take it

    await turn.acquire()
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    task.add_done_callback(done)
    return await asyncio.shield(task)


def _answer(readers: Readers, file: tuple, options: ExplainOptions, pixels: int) -> Response:
    name, data = file
    key = readers.key(options)
    if options.label is not None and options.label not in readers.cards[key.model].labels:
        raise Problem("invalid", f"{key.model} has no class {options.label[:60]!r}")
    try:
        image = DecodedImage(decode(bytes(data), name, pixels)[0], name)
        found = explain(readers(key), image, method="occlusion", target=options.label, face=options.face)
    except (SourceError, ConfigError) as error:
        raise Problem("invalid", str(error).replace(" or raise max_pixels", "")) from None
    return Response(json.dumps(_table(found)), media_type="application/json")


def _table(found: Explanation) -> dict:
    side = found.heat.shape[0]
    cells = min(side, CELLS)
    small = np.asarray(Image.fromarray(found.heat.astype(np.float32)).resize((cells, cells), Image.Resampling.BOX))
    corners = apply(invert(found.matrix), np.array([[0, 0], [side, 0], [0, side]]) - 0.5)
    return {
        "label": found.label,
        "probability": found.probability,
        "regions": [{"name": name, "importance": round(value, 4)} for name, value in found.regions.items()],
        "map": {"values": small.round(4).tolist(), "corners": corners.round(2).tolist()},
    }


def schema() -> dict:
    """Return the JSON Schema of an answer."""
    number = {"type": "number"}
    row = {"type": "array", "items": number}
    region = openapi.object_of({"name": {"type": "string"}, "importance": number}, "One part of the face.")
    place = {"values": {"type": "array", "items": row}, "corners": {"type": "array", "items": row}}
    parts = {
        "label": {"type": "string"}, "probability": number, "regions": {"type": "array", "items": region},
        "map": openapi.object_of(place, MAP),
    }  # fmt: skip
    return openapi.object_of(parts, PARTS)
