"""`mien serve`: a server of readings, with its web page."""

from __future__ import annotations

import inspect
import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import ConfigError, MissingExtra
from ..runtime.devices import cores
from .terminal import side_console


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    threads: int | None = None,
    model: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    detector: str = "blazeface",
    device: str = "cpu",
    token: Annotated[tuple[str, ...], Parameter(negative="", env_var="MIEN_TOKEN")] = (),
    token_file: Path | None = None,
    allow_urls: bool = False,
    allow_host: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    cors: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    queue: int = 128,
    max_pixels: int = 50_000_000,
    access_log: bool = False,
) -> None:
    """Serve readings over HTTP, and a web page to try them on.

    Images, videos and camera frames are read by this process and nowhere else. Ended by Ctrl-C or SIGTERM, which lets it
    answer what it has accepted.

    Examples:
        mien serve
        mien serve --port 9000 --model mien-base --model mine.onnx
        mien serve --host 0.0.0.0 --token-file tokens.txt --workers 2
        curl -F images=@photo.jpg http://127.0.0.1:8000/v1/predict

    Args:
        host: Address to listen at. The default is reached from this machine only.
        port: Port to listen at; 0 takes a free one.
        workers: Processes, each with models of its own.
        threads: Threads of a process that read images; by default the cores are shared among the processes.
        model: Offer this model first: a name, a card (.toml), or an .onnx file with its card. May be given several times.
        detector: What finds the faces, as for mien predict.
        device: Where networks run: cpu, cuda (cuda:1 is the second GPU), mps, or auto for the best that starts.
        token: Let in who sends this bearer token only. May be given several times; MIEN_TOKEN in the environment does the
            same and is not seen in lists of processes.
        token_file: Take tokens from this file, one a line.
        allow_urls: Read images from public URLs that a request names.
        allow_host: Also answer to this name, where a proxy stands in front. May be given several times.
        cors: Let pages of this origin ask, such as https://example.org. May be given several times.
        queue: Images that may wait before others are told to come back.
        max_pixels: Largest image, width × height.
        access_log: Write a line to stderr for every request.

    Raises:
        ConfigError: there is to be no worker.
        MissingExtra: uvicorn or something else of the extra serve is not installed.
    """
    try:
        import uvicorn
        from uvicorn.supervisors import Multiprocess

        from ..serving.app import SETTINGS, create
        from ..serving.settings import Limits, Settings, hosts_of
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "uvicorn", "serve") from None
    if workers < 1:
        raise ConfigError(f"workers is {workers}; give 1 or more")
    folder = tempfile.mkdtemp(prefix="mien-serving-")
    try:
        settings = Settings(
            models=model,
            detector=detector,
            device=device,
            tokens=(*token, *_tokens(token_file)),
            allow_urls=allow_urls,
            cors=cors,
            hosts=hosts_of(host, allow_host),
            threads=max(1, cores() // workers) if threads is None else threads,
            folder=folder,
            limits=Limits(queue=queue, pixels=max_pixels),
        )
        app = create(settings)  # whatever is wrong with the models is said here, once
        listening = _listen(host, port)
        address = listening.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        side_console().print(f"mien serves at http://{shown}:{address[1]}", style="bold")
        os.environ[SETTINGS] = settings.to_json()
        config = uvicorn.Config(
            app if workers == 1 else "mien.serving.app:from_environment", factory=workers > 1, workers=workers,
            log_level="info" if access_log else "warning", access_log=access_log, server_header=False, proxy_headers=False,
            ws_max_size=settings.limits.frame_bytes, ws_max_queue=4, limit_concurrency=1024, timeout_keep_alive=10,
            timeout_graceful_shutdown=int(2 * settings.limits.seconds),
        )  # fmt: skip
        server = uvicorn.Server(config)
        signal.signal(signal.SIGTERM, _end)  # uvicorn raises the signal once more when it has ended
        if workers == 1:
            server.run(sockets=[listening])
        else:
            older = {"target": server.run} if "target" in inspect.signature(Multiprocess).parameters else {}
            Multiprocess(config, sockets=[listening], **older).run()  # pyrefly: ignore
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _end(number: int, frame: object) -> None:
    raise SystemExit(0)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:  # getaddrinfo would take the remainder
        raise ConfigError(f"cannot listen at {host}:{port}: ports go from 0 to 65535; choose another --port")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)  # who asks before the models are open waits
        listening.set_inheritable(True)
        return listening
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen at {host}:{port}: {reason}; choose another --host or --port") from None


def _tokens(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token file {path} cannot be read: {error}; check its path and rights") from None
    tokens = [line for line in found if line and not line.startswith("#")]
    if not tokens:
        raise ConfigError(f"the token file {path} holds no token; write one a line")
    return tokens
