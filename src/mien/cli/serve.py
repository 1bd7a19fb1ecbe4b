"""`mien serve`: an inference server with a web page."""

import inspect
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import ConfigError, needs, reason
from ..runtime.devices import cores
from .terminal import note

Names = Annotated[tuple[str, ...], Parameter(negative="")]


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    threads: int | None = None,
    model: Names = (),
    detector: str = "blazeface",
    device: str = "cpu",
    token: Annotated[tuple[str, ...], Parameter(negative="", env_var="MIEN_TOKEN")] = (),
    token_file: Path | None = None,
    allow_urls: bool = False,
    allowed_host: Names = (),
    cors: Names = (),
    queue: int = 128,
    max_pixels: int = 50_000_000,
    access_log: bool = False,
) -> None:
    """Serve inference over HTTP, with a web page.

    Images, videos and camera frames stay in this process. Ctrl-C or SIGTERM ends the server after the accepted requests are
    answered. /docs describes the REST API.

    Examples:
        mien serve
        mien serve --port 9000 --model mien-base --model mine.onnx
        mien serve --host 0.0.0.0 --token-file tokens.txt --workers 2
        curl -F images=@photo.jpg http://127.0.0.1:8000/v1/predict

    Args:
        host: Address to listen at. The default is reached from this machine only.
        port: Port to listen at; 0 takes a free one.
        workers: Worker processes, each with its own models.
        threads: Inference threads of a process; by default the cores are shared among the processes.
        model: Offer this model first: a name, a card (.toml), or an .onnx file with its card. Repeatable.
        detector: Face detector, as for mien predict.
        device: Device of the networks: cpu, cuda (cuda:1 is the second GPU), mps, or auto.
        token: Require this bearer token. Repeatable; MIEN_TOKEN in the environment does the same and is not shown in process
            lists.
        token_file: File with tokens, one per line.
        allow_urls: Allow requests to name images by public URLs.
        allowed_host: Accept this name in the Host header too, for a proxy or a DNS name; * accepts any. Repeatable.
        cors: Allow pages of this origin, such as https://example.org. Repeatable.
        queue: Maximum number of waiting images; further requests get status 429.
        max_pixels: Maximum image size, width × height.
        access_log: Log every request to stderr.
    """
    if workers < 1:
        raise ConfigError(f"--workers must be 1 or more, got {workers}", value=workers, expected="1 or more")
    folder = tempfile.mkdtemp(prefix="mien-serving-")
    try:
        # prometheus-client reads this variable when it is imported: workers share their metrics through files.
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        if workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        with needs("serve"):
            import uvicorn
            from uvicorn.supervisors import Multiprocess

            from ..serving.app import SETTINGS, create
            from ..serving.connections import HeadTimeout
            from ..serving.settings import Limits, Settings, hosts_of, is_loopback
        settings = Settings(
            models=model,
            detector=detector,
            device=device,
            tokens=(*token, *_tokens(token_file)),
            allow_urls=allow_urls,
            cors=cors,
            hosts=hosts_of(host, allowed_host),
            threads=max(1, cores() // workers) if threads is None else threads,
            folder=folder,
            limits=Limits(queue=queue, pixels=max_pixels),
        )
        app = create(settings)  # errors of the models are raised here, once
        listening = _listen(host, port)
        address = listening.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        if not settings.tokens and not is_loopback(host):
            note(f"mien: warning: anybody who reaches {shown} may use this server; set --token-file or MIEN_TOKEN")
        note(f"mien serves at http://{shown}:{address[1]}", "bold")
        os.environ[SETTINGS] = settings.to_json()
        config = uvicorn.Config(
            app if workers == 1 else "mien.serving.app:from_environment", factory=workers > 1, workers=workers,
            http=HeadTimeout, log_level="info" if access_log else "warning", access_log=access_log, server_header=False,
            proxy_headers=False,
            ws_max_size=settings.limits.frame_bytes, ws_max_queue=4, limit_concurrency=1024, timeout_keep_alive=10,
            timeout_graceful_shutdown=int(2 * settings.limits.seconds), timeout_worker_healthcheck=60,
        )  # fmt: skip
        server = uvicorn.Server(config)
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # uvicorn raises the signal again after its shutdown
        if workers == 1:
            server.run(sockets=[listening])
        else:
            older = {"target": server.run} if "target" in inspect.signature(Multiprocess).parameters else {}
            Multiprocess(config, sockets=[listening], **older).run()  # pyrefly: ignore
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:  # getaddrinfo would reduce it modulo 65536
        raise ConfigError(f"cannot listen at {host}:{port}: --port must be 0 to 65535", value=port, expected="0 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # With protocol 0 asyncio would not set TCP_NODELAY, and every keep-alive response would wait for a delayed ACK (40 ms).
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)  # requests wait here until the models are open
        listening.set_inheritable(True)
        return listening
    except (OSError, OverflowError) as error:
        message = f"cannot listen at {host}:{port}: {reason(error)}; choose another --host or --port"
        raise ConfigError(message, value=port) from None


def _tokens(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the token file {path}: {error}", path=path) from None
    tokens = [line for line in found if line and not line.startswith("#")]
    if not tokens:
        raise ConfigError(f"the token file {path} has no token; write one per line", path=path)
    return tokens
