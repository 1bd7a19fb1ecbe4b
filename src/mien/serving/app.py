"""The routes, and nothing else: what each takes and gives, and what starts and ends with the server."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, Response, StreamingResponse

from ..io.images import sample
from ..io.provenance import VERSION
from ..types import json_schema
from . import explanations, metrics, openapi, problems, requests
from .admission import Admission
from .batcher import Batcher
from .bodies import Budget, Spool, blocks, charged, form, media_type
from .jobs import ACTIVE, Jobs, JobState, check
from .metrics import Metrics
from .openapi import answers, of_json
from .options import Options, VideoOptions
from .problems import Problem
from .readers import Readers
from .settings import Settings
from .streams import Streams

PAGE = Path(__file__).parent / "page"
FILES = tuple(sorted(path.name for path in PAGE.iterdir() if path.suffix in (".js", ".css", ".svg")))
"""What the page consists of, besides `index.html`."""

KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png"}
"""Media types of the page's files; those that the system names differ from machine to machine."""

SETTINGS = "MIEN_SERVING"
"""Environment variable by which a server tells its processes their `Settings`."""

TIDY = 5.0
"""Seconds between two looks for what is too old."""


def from_environment() -> FastAPI:
    """Make the application of one process of a server of several."""
    return create(Settings.from_json(os.environ[SETTINGS]))


def create(settings: Settings | None = None) -> FastAPI:
    """Make the application.

    Args:
        settings: by default those of a server for this machine alone.

    Raises:
        UnknownName: no such model or detector.
        WeightsError: a model has no card, or one that does not fit.
        ConfigError: models that cannot be offered.

    Example:
        >>> from fastapi.testclient import TestClient
        >>> with TestClient(create()) as client:
        ...     client.get("/healthz").json()
        {'status': 'ok'}
    """
    settings = settings or Settings()
    readers, numbers = Readers(settings), Metrics()
    app = FastAPI(title="mien", version=VERSION, docs_url=None, redoc_url=None, lifespan=_life, default_response_class=Response)
    app.state.settings, app.state.readers, app.state.metrics = settings, readers, numbers
    app.state.budget, app.state.ready = Budget(settings.limits.body_bytes), False
    problems.install(app)
    _pages(app)
    _operations(app)
    _images(app)
    _videos(app)
    app.add_api_websocket_route("/v1/stream", _stream)
    base = app.openapi
    app.openapi = functools.cache(lambda: openapi.document(base(), Explanation=explanations.schema()))  # pyrefly: ignore
    if settings.cors:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors, allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"], expose_headers=["Retry-After", "Location"],
        )  # fmt: skip
    app.add_middleware(Admission, settings=settings, metrics=numbers)
    return app


@contextlib.asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    """Begin: open the default model and read once. End: finish what was accepted, remove all files."""
    state, settings = app.state, app.state.settings
    folder = Path(settings.folder or tempfile.mkdtemp(prefix="mien-serving-"))
    state.batcher = Batcher(state.readers, settings, state.metrics)
    state.jobs = Jobs(state.readers, settings, state.metrics, folder)
    state.streams = Streams(state.readers, settings, state.metrics)
    state.shared = metrics.Shared(folder, state.metrics)
    await run_in_threadpool(lambda: state.readers(state.readers.key(Options()))(sample()))
    state.ready = True
    tidying = asyncio.create_task(_tidy(state))
    try:
        yield
    finally:
        state.ready = False
        tidying.cancel()
        await run_in_threadpool(state.jobs.close)
        await run_in_threadpool(state.batcher.close)
        await run_in_threadpool(state.streams.close)
        if settings.folder is None:  # else the server removes it, when its last process has ended
            shutil.rmtree(folder, ignore_errors=True)


async def _tidy(state: Any) -> None:
    while True:
        await asyncio.sleep(TIDY)
        with contextlib.suppress(OSError):
            await run_in_threadpool(state.jobs.tidy)
            await run_in_threadpool(state.shared.write)


async def _stream(socket: WebSocket) -> None:
    await socket.app.state.streams.serve(socket)


def _pages(app: FastAPI) -> None:
    """The web page."""

    def serves(path: Path) -> Callable[[], Any]:
        kind = KINDS[path.suffix]

        async def page() -> Response:
            return FileResponse(path, media_type=kind, headers={"Cache-Control": "no-cache"})

        return page

    app.add_api_route("/", serves(PAGE / "index.html"), include_in_schema=False)
    app.add_api_route("/sample.png", serves(sample()), include_in_schema=False)
    for name in FILES:
        app.add_api_route(f"/{name}", serves(PAGE / name), include_in_schema=False)


def _operations(app: FastAPI) -> None:
    """Models, schema, health and metrics."""
    status = {200: {"description": "Yes.", "content": {"application/json": {}}}}
    text = {200: {"description": "Numbers.", "content": {metrics.MEDIA_TYPE: {}}}}
    about = {200: {"description": "JSON Schema 2020-12 of a result.", "content": {"application/schema+json": {}}}}

    @app.get("/healthz", tags=["operations"], responses=answers(status, "method"), summary="Whether the process lives")
    async def healthz() -> Response:
        return _json({"status": "ok"})

    @app.get("/readyz", tags=["operations"], responses=answers(status, "time-out"), summary="Whether it can read")
    async def readyz() -> Response:
        if not app.state.ready:
            return Problem("time-out", "the server is starting or ending", {"Retry-After": "1"}).response()
        return _json({"status": "ready"})

    @app.get("/metrics", tags=["operations"], responses=answers(text), summary="Numbers for Prometheus")
    async def prometheus() -> Response:
        return Response(await run_in_threadpool(app.state.shared.render), media_type=metrics.MEDIA_TYPE)

    @app.get("/v1/schema", tags=["reading"], responses=answers(about), summary="What a result looks like")
    async def result_schema() -> Response:
        return _json(json_schema(), "application/schema+json")

    @app.get("/v1/models", tags=["reading"], responses=answers({200: of_json("Models", "The cards.")}), summary="All models")
    async def models() -> Response:
        readers: Readers = app.state.readers
        cards = [card.to_dict() for card in readers.cards.values()]
        return _json({"models": cards, "default": readers.default, "explain": True})


def _images(app: FastAPI) -> None:
    """Images in one request."""
    told = ("malformed", "too-slow", "too-large", "media-type", "invalid", "busy", "time-out")

    @app.post(
        "/v1/predict", tags=["reading"], summary="Read images", openapi_extra=openapi.images_body(),
        responses=answers({200: of_json("Results", "One result for each image, also for one that cannot be read.")}, *told),
    )  # fmt: skip
    async def predict(request: Request) -> Response:
        state = app.state
        with charged(state.budget) as budget:
            with state.batcher.arriving():
                files, options = await requests.images(request, state.settings, budget)
            lines = await state.batcher.read(files, options, budget)
        return Response('{"results": [' + ",\n".join(lines) + "]}", media_type="application/json")

    explanations.install(app)


def _videos(app: FastAPI) -> None:
    """Videos as jobs."""
    told = ("malformed", "too-slow", "too-large", "media-type", "invalid", "busy", "unavailable")

    @app.post(
        "/v1/predict/video", tags=["videos"], summary="Read a video", status_code=202,
        openapi_extra=openapi.images_body(VideoOptions, json_too=False, files="video"),
        responses=answers({202: of_json("Job", "The job; the header Location says where it is asked for.")}, *told),
    )  # fmt: skip
    async def predict_video(request: Request) -> Response:
        state, limits = app.state, app.state.settings.limits
        if media_type(request) != "multipart/form-data":
            raise Problem("media-type", "send multipart/form-data with one file")
        with state.jobs.upload() as place, (place / "video").open("wb") as file:
            arriving = blocks(request, limits.video_bytes + 1_000_000, limits.upload_seconds)
            spool = functools.partial(Spool, file)
            files, fields = await form(request, arriving, files=1, file_bytes=limits.video_bytes, sink=spool)
            options = VideoOptions.parse(fields, text=True)
            check(state.readers, options)
            if not files:
                raise Problem("invalid", "the request holds no video: add a file to the form")
            file.close()
            job = await run_in_threadpool(state.jobs.submit, place, files[0][0], options)
        return _job(job, 202)

    @app.get(
        "/v1/jobs/{number}", tags=["videos"], summary="Where a video stands",
        responses=answers({200: of_json("Job", "The job.")}, "not-found", "invalid"),
    )  # fmt: skip
    def job(number: str) -> Response:
        return _job(app.state.jobs.state(number), 200)

    @app.delete(
        "/v1/jobs/{number}", tags=["videos"], summary="End a job, or remove a finished one with its results",
        responses=answers({202: of_json("Job", "It will end."), 204: {"description": "It is gone."}}, "not-found", "invalid"),
        status_code=204,
    )  # fmt: skip
    def end(number: str) -> Response:
        job = app.state.jobs.end(number)
        return Response(status_code=204) if job is None else _job(job, 202)

    @app.get(
        "/v1/jobs/{number}/results", tags=["videos"], summary="The results so far, one line of JSON for each frame",
        responses=answers({200: {"description": "Results.", "content": {"application/jsonl": {}}}}, "not-found", "invalid"),
    )  # fmt: skip
    def results(number: str, after: Annotated[int, Query(ge=0, le=10**9)] = 0) -> Response:
        return StreamingResponse(app.state.jobs.results(number, after), media_type="application/jsonl")


def _job(job: JobState, status: int) -> Response:
    headers = {"Location": f"/v1/jobs/{job.id}"} | ({"Retry-After": "1"} if job.status in ACTIVE else {})
    return _json(vars(job), status=status, headers=headers)


def _json(value: Any, kind: str = "application/json", status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    return Response(body, status, headers, kind)
