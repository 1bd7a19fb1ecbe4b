"""The application: routes, startup and shutdown."""

import asyncio
import contextlib
import dataclasses
import functools
import importlib.resources
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response, StreamingResponse

from ..errors import ConfigError, SourceError
from ..explaining import explain
from ..faces.alignment import apply, invert
from ..inference.results import columns
from ..io.decoding import decode
from ..io.images import DecodedImage, sample
from ..io.provenance import VERSION
from ..types import json_schema
from . import metrics, problems, requests
from .admission import POLICY, Admission
from .batcher import Batcher
from .jobs import Jobs
from .metrics import Metrics
from .problems import Problem, busy
from .readers import Readers
from .requests import Budget, File, blocks, form, media_type
from .schemas import (
    ACTIVE,
    Explained,
    ExplainOptions,
    Heat,
    JobState,
    Options,
    Region,
    VideoOptions,
    document,
    of_json,
    responses,
    uploads,
)
from .settings import Settings
from .streams import Streams

PAGE = Path(__file__).parent / "page"
FILES = tuple(sorted(path.name for path in PAGE.iterdir() if path.suffix in (".js", ".css", ".svg")))
"""Files of the web page besides `index.html`."""

KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png"}
"""Media types of the page's files; those of the operating system differ between machines."""

SETTINGS = "MIEN_SERVING"  # environment variable that passes the `Settings` to worker processes
CELLS = 24  # maximum number of cells along each side of the map of an explanation
WAITING = 8  # maximum number of explanations, including the one under way
TIDY = 5.0  # seconds between two removals of expired jobs

DOCS_POLICY = POLICY.replace("img-src 'self' blob:", "img-src 'self' blob: data:").replace(
    "style-src 'self'", "style-src 'self' 'unsafe-inline'"
)
"""Swagger UI has inline styles and icons as data: URIs; scripts stay limited to this server."""


def from_environment() -> FastAPI:
    """Create the application of one worker process."""
    return create(Settings.from_json(os.environ[SETTINGS]))


def create(settings: Settings | None = None) -> FastAPI:
    """Create the application, by default that of a server for this machine alone.

    Raises UnknownName: unknown model or detector; WeightsError: a model has no card, or one that does not match; ConfigError:
    models that cannot be offered.

    Example:
        >>> from fastapi.testclient import TestClient
        >>> with TestClient(create()) as client:
        ...     client.get("/healthz").json()
        {'status': 'ok'}
    """
    settings = settings or Settings()
    app = FastAPI(title="mien", version=VERSION, docs_url=None, redoc_url=None, lifespan=_life, default_response_class=Response)
    state = app.state
    state.settings, state.readers, state.metrics = settings, Readers(settings), Metrics()
    state.streams = Streams(state.readers, settings, state.metrics)
    state.budget, state.ready = Budget(settings.limits.body_bytes), False
    problems.install(app)
    _pages(app)
    _operations(app)
    _images(app)
    _explanations(app)
    _videos(app)
    app.add_api_websocket_route("/v1/stream", state.streams.serve)
    base = app.openapi
    app.openapi = functools.cache(lambda: document(base()))  # pyrefly: ignore
    if settings.cors:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors, allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"], expose_headers=["Retry-After", "Location"],
        )  # fmt: skip
    app.add_middleware(Admission, settings=settings, metrics=state.metrics)
    return app


@contextlib.asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    """Startup: open the default model and run it once. Shutdown: finish accepted requests, remove all files."""
    state, settings = app.state, app.state.settings
    folder = Path(settings.folder or tempfile.mkdtemp(prefix="mien-serving-"))
    state.batcher = Batcher(state.readers, settings, state.metrics)
    state.jobs = Jobs(state.readers, settings, state.metrics, folder)
    state.explaining = ThreadPoolExecutor(1, "mien explanation")
    await run_in_threadpool(lambda: state.readers(state.readers.key(Options()))(sample()))
    state.ready = True

    async def tidy() -> None:
        while True:
            await asyncio.sleep(TIDY)
            with contextlib.suppress(OSError):
                await run_in_threadpool(state.jobs.tidy)

    tidying = asyncio.create_task(tidy())
    try:
        yield
    finally:
        state.ready = False
        tidying.cancel()
        for part in (state.jobs, state.batcher, state.streams):
            await run_in_threadpool(part.close)
        state.explaining.shutdown(wait=False, cancel_futures=True)
        if settings.folder is None:  # a shared folder is removed by the parent process, after the last worker
            shutil.rmtree(folder, ignore_errors=True)


def _pages(app: FastAPI) -> None:
    """Add the web page, and Swagger UI from the assets of fastapi-swagger, so that nothing is loaded from a CDN."""

    def add(path: str, file: Path, headers: dict[str, str]) -> None:
        def page() -> Response:
            return Response(file.read_bytes(), media_type=KINDS[file.suffix], headers=headers)

        app.add_api_route(path, page, include_in_schema=False)

    files = {"/": PAGE / "index.html", "/sample.png": sample(), **{f"/{name}": PAGE / name for name in FILES}}
    for path, file in files.items():
        add(path, file, {"Cache-Control": "no-cache"})
    assets = Path(str(importlib.resources.files("fastapi_swagger"))) / "resources"
    documentation = {"": PAGE / "docs/index.html", "/start.js": PAGE / "docs/start.js"}
    documentation |= {f"/{name}": assets / name for name in ("swagger-ui.css", "swagger-ui-bundle.js")}
    for path, file in documentation.items():
        add(f"/docs{path}", file, {"Content-Security-Policy": DOCS_POLICY, "Cache-Control": "max-age=3600"})


def _operations(app: FastAPI) -> None:
    """Add models, schema, health and metrics."""
    status = {200: {"description": "Yes.", "content": {"application/json": {}}}}
    text = {200: {"description": "Metrics.", "content": {metrics.MEDIA_TYPE: {}}}}
    schema = {200: {"description": "JSON Schema 2020-12 of a result.", "content": {"application/schema+json": {}}}}
    cards = {200: of_json("Models", "The cards.")}

    @app.get("/healthz", tags=["operations"], responses=responses(status, "method"), summary="Liveness")
    async def healthz() -> Response:
        return _json({"status": "ok"})

    @app.get("/readyz", tags=["operations"], responses=responses(status, "time-out"), summary="Readiness")
    async def readyz() -> Response:
        if not app.state.ready:
            return Problem("time-out", "the server is starting or shutting down", {"Retry-After": "1"}).response()
        return _json({"status": "ready"})

    @app.get("/metrics", tags=["operations"], responses=responses(text), summary="Prometheus metrics")
    async def prometheus() -> Response:
        return Response(await run_in_threadpool(app.state.metrics.render), media_type=metrics.MEDIA_TYPE)

    @app.get("/v1/schema", tags=["images"], responses=responses(schema), summary="JSON Schema of a result")
    async def result_schema() -> Response:
        return _json(json_schema(), "application/schema+json")

    @app.get("/v1/models", tags=["images"], responses=responses(cards), summary="Models and limits")
    async def models() -> Response:
        readers: Readers = app.state.readers
        limits = dataclasses.asdict(app.state.settings.limits)
        models = [card.to_dict() for card in readers.cards.values()]
        tables = {
            name: list(columns(card.labels, unsmoothed=True, units="action_units" in card.outputs))
            for name, card in readers.cards.items()
        }
        return _json({"models": models, "default": readers.default, "columns": tables, "explain": True, "limits": limits})


def _images(app: FastAPI) -> None:
    """Add inference on images."""
    found = {200: of_json("Results", "One result per image, also for images that cannot be read.")}
    upload = uploads(Options, "images", "image/*", found, many=True)

    @app.post("/v1/predict", tags=["images"], summary="Run inference on images", **upload)
    async def predict(request: Request) -> Response:
        state = app.state
        with state.budget.charged() as budget:
            with state.batcher.arriving():
                files, options = await requests.images(request, state.settings, budget)
            lines = await state.batcher.read(files, options, budget)
        return Response('{"results": [' + ",\n".join(lines) + "]}", media_type="application/json")


def _explanations(app: FastAPI) -> None:
    """Add explanations. One face is explained at a time, and a few requests may wait."""
    state, here = app.state, 0
    found = {200: of_json("Explained", "Importance of the parts of the face.")}
    upload = uploads(ExplainOptions, "images", "image/*", found, many=True)

    @app.post("/v1/explain", tags=["images"], summary="Explain the prediction of a face by occlusion", **upload)
    async def explanation(request: Request) -> Response:
        nonlocal here
        limits = state.settings.limits
        if here >= WAITING:
            raise busy("too many explanations are waiting; retry later", 5)
        here += 1
        try:
            with state.budget.charged() as budget:
                [file], options = await requests.images(request, state.settings, budget, ExplainOptions, most=1)
                try:
                    async with asyncio.timeout(limits.seconds):  # after which the thread, and only it, continues
                        answer = functools.partial(_explained, state.readers, file, options, limits.pixels)
                        return await asyncio.get_running_loop().run_in_executor(state.explaining, answer)
                except TimeoutError:
                    detail = f"the explanation took longer than {limits.seconds:g} seconds; retry later"
                    raise Problem("time-out", detail, {"Retry-After": "5"}) from None
        finally:
            here -= 1


def _explained(readers: Readers, file: File, options: ExplainOptions, pixels: int) -> Response:
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
    side = found.heat.shape[0]
    cells = min(side, CELLS)
    small = np.asarray(Image.fromarray(found.heat.astype(np.float32)).resize((cells, cells), Image.Resampling.BOX))
    corners = apply(invert(found.matrix), np.array([[0, 0], [side, 0], [0, side]]) - 0.5).round(2).tolist()
    strength = round(max(found.strength or 0.0, 0.0), 4)
    heat = Heat(values=small.astype(float).round(4).tolist(), strength=strength, corners=corners)
    regions = [Region(name=name, importance=round(value, 4)) for name, value in found.regions.items()]
    explained = Explained(label=found.label, probability=found.probability, regions=regions, map=heat)
    return Response(explained.model_dump_json(), media_type="application/json")


def _videos(app: FastAPI) -> None:
    """Add video jobs."""
    started = {202: of_json("JobState", "The job; the Location header has its address.")}
    upload = uploads(VideoOptions, "video", "video/*", started)

    @app.post("/v1/predict/video", tags=["videos"], summary="Start a video job", status_code=202, **upload)
    async def predict_video(request: Request) -> Response:
        state = app.state
        with state.jobs.upload() as place:
            name, options = await _upload(request, place / "video", state.settings.limits)
            job = await run_in_threadpool(state.jobs.submit, place, name, options)
        return _job(job, 202)

    @app.get(
        "/v1/jobs/{job}", tags=["videos"], summary="State of a job",
        responses=responses({200: of_json("JobState", "The job.")}, "not-found", "invalid"),
    )  # fmt: skip
    def state(job: str) -> Response:
        return _job(app.state.jobs.state(job), 200)

    @app.delete(
        "/v1/jobs/{job}", tags=["videos"], summary="Cancel a job, or remove a finished one with its results",
        responses=responses(
            {202: of_json("JobState", "It is being canceled."), 204: {"description": "Removed."}}, "not-found", "invalid"
        ),
        status_code=204,
    )  # fmt: skip
    def end(job: str) -> Response:
        canceled = app.state.jobs.end(job)
        return Response(status_code=204) if canceled is None else _job(canceled, 202)

    @app.get(
        "/v1/jobs/{job}/results", tags=["videos"], summary="The results so far, one JSON line per frame",
        responses=responses({200: {"description": "Results.", "content": {"application/jsonl": {}}}}, "not-found", "invalid"),
    )  # fmt: skip
    def results(job: str, after: Annotated[int, Query(ge=0, le=10**9)] = 0) -> Response:
        return StreamingResponse(app.state.jobs.results(job, after), media_type="application/jsonl")


async def _upload(request: Request, path: Path, limits: Any) -> tuple[str, VideoOptions]:
    """Write the video of a request to a file, and return its name and options."""
    kind, query = media_type(request), dict(request.query_params)
    arriving = blocks(request, limits.video_bytes + 1_000_000, limits.upload_seconds)
    with path.open("wb") as file:
        if kind == "multipart/form-data":
            files, fields = await form(request, arriving, files=1, file_bytes=limits.video_bytes, sink=lambda: file)
            if not files:
                raise Problem("invalid", "the request has no video: add a file to the form")
            return files[0][0], VideoOptions.parse(query | fields, text=True)
        if not kind.startswith("video/"):
            raise Problem("media-type", "send multipart/form-data with one file, or the video as video/*")
        options = VideoOptions.parse(query, text=True)
        async for block in arriving:
            file.write(block)
        return "video", options


def _job(job: JobState, status: int) -> Response:
    headers = {"Location": f"/v1/jobs/{job.id}"} | ({"Retry-After": "1"} if job.status in ACTIVE else {})
    return _json(job.model_dump(), status=status, headers=headers)


def _json(value: Any, kind: str = "application/json", status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    return Response(body, status, headers, kind)
