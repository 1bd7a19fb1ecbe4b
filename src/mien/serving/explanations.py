"""POST /v1/explain: which parts of a face its prediction depends on."""

import asyncio
import functools

import numpy as np
from fastapi import FastAPI, Request
from PIL import Image
from starlette.responses import Response

from ..errors import ConfigError, SourceError
from ..explaining import Explanation, explain
from ..faces.alignment import apply, invert
from ..io.decoding import decode
from ..io.images import DecodedImage
from . import openapi, requests
from .bodies import File
from .openapi import Explained, Heat, Region
from .options import ExplainOptions
from .problems import Problem, busy
from .readers import Readers

CELLS = 24  # maximum number of cells along each side of the map


def install(app: FastAPI, waiting: int = 8) -> None:
    """Add the route. One face is explained at a time, and `waiting` requests may wait."""
    state, here = app.state, 0

    found = {200: openapi.of_json("Explained", "Importance of the parts of the face.")}
    upload = openapi.upload(ExplainOptions, "images", "image/*", found, many=True)

    @app.post("/v1/explain", tags=["images"], summary="Explain the prediction of a face by occlusion", **upload)
    async def explanation(request: Request) -> Response:
        nonlocal here
        limits = state.settings.limits
        if here >= waiting:
            raise busy("too many explanations are waiting; retry later", 5)
        here += 1
        try:
            with state.budget.charged() as budget:
                [file], options = await requests.images(request, state.settings, budget, ExplainOptions, most=1)
                try:
                    async with asyncio.timeout(limits.seconds):  # after which the thread, and only it, continues
                        answer = functools.partial(_answer, state.readers, file, options, limits.pixels)
                        return await asyncio.get_running_loop().run_in_executor(state.explaining, answer)
                except TimeoutError:
                    detail = f"the explanation took longer than {limits.seconds:g} seconds; retry later"
                    raise Problem("time-out", detail, {"Retry-After": "5"}) from None
        finally:
            here -= 1


def _answer(readers: Readers, file: File, options: ExplainOptions, pixels: int) -> Response:
    key = readers.key(options)
    if options.label is not None and options.label not in readers.cards[key.model].labels:
        raise Problem("invalid", f"{key.model} has no label {options.label[:60]!r}")
    if file.url is not None:
        raise Problem("invalid", "explanations do not fetch URLs; send the image itself")
    try:
        image = DecodedImage(decode(file.data, file.name, pixels)[0], file.name)
        found = explain(readers(key), image, method="occlusion", target=options.label, face=options.face)
    except (SourceError, ConfigError) as error:
        raise Problem("invalid", str(error).replace(" or raise max_pixels", "")) from None
    return Response(_explained(found).model_dump_json(), media_type="application/json")


def _explained(found: Explanation) -> Explained:
    side = found.heat.shape[0]
    cells = min(side, CELLS)
    small = np.asarray(Image.fromarray(found.heat.astype(np.float32)).resize((cells, cells), Image.Resampling.BOX))
    corners = apply(invert(found.matrix), np.array([[0, 0], [side, 0], [0, side]]) - 0.5).round(2).tolist()
    strength = round(max(found.strength or 0.0, 0.0), 4)
    heat = Heat(values=small.astype(float).round(4).tolist(), strength=strength, corners=corners)
    regions = [Region(name=name, importance=round(value, 4)) for name, value in found.regions.items()]
    return Explained(label=found.label, probability=found.probability, regions=regions, map=heat)
