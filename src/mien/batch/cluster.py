"""Distribution of shards over a cluster: Ray Data streams shard numbers through actors, each with its own worker process.

Only numbers and tallies pass through Ray: actors read the listing and write their parts to the folder of the run, which all
machines share. A file that crashes its worker does not crash the actor and is isolated as on one machine. When an actor or a
machine is lost, Ray reassigns its shards; parts that exist already are not processed again.
"""

import contextlib
import json
import logging
import math
import os
import socket
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MienError, needs, reason
from .job import tally
from .storage import Folder
from .supervising import Outcome, Supervisor

TOKEN = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) as on its head node"
LOCAL = "local"  # address that starts Ray on this machine for the run


class ShardActor:
    """Ray actor that processes shards."""

    def __init__(self, folder: str, threads: int, cwd: str, timeout: float) -> None:
        self.folder, self.keeper = Folder(folder), Supervisor(folder, threads, cwd=cwd, timeout=timeout)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return number, tally as JSON, number of crashed workers, and error message (or an empty string) of a shard."""
        number, items = int(row["shard"]), int(row["items"])
        found, lost, error = tally(self.folder, number), 0, ""
        try:
            if found is None:
                found, lost = self.keeper.read(number, items)
        except MienError as problem:
            error = str(problem)
        return {"shard": number, "tally": json.dumps(found), "lost": lost, "error": error}


def run(
    folder: str,
    shards: Mapping[int, int],
    workers: int | None,
    threads: int,
    address: str,
    timeout: float,
    *,
    gpu: bool = False,
) -> Generator[Outcome]:
    """Process shards (number → number of items) on a cluster, like `supervising.run` on one machine.

    `folder` is on storage that all machines share, `workers` the maximum number of actors, each of which reserves a core for
    each of its threads and, with `gpu`, a GPU or a share of one; None: as many as there is room for. `address` is that of the
    cluster for `ray.init`, or `LOCAL`. Raises MissingExtra: Ray is not installed; ConfigError: no cluster at the address, or it
    lacks cores or GPUs for an actor; MienError: an error that concerns all actors: the folder is missing, versions differ.
    """
    with _connected(address) as ray:
        room, needs = actors_for(ray.cluster_resources(), workers, threads, gpu=gpu)
        size = min(room, len(shards))
        data = ray.data.from_items(
            [{"shard": number, "items": items} for number, items in shards.items()], override_num_blocks=len(shards)
        ).map(
            ShardActor,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=size, initial_size=size, max_tasks_in_flight_per_actor=1),
            fn_constructor_args=(folder, threads, str(Path.cwd()), timeout),
            **needs,
        )
        for row in data.iter_rows():
            if row["error"]:
                raise MienError(row["error"])
            yield int(row["shard"]), json.loads(row["tally"]), int(row["lost"])


def actors_for(resources: Mapping[str, float], workers: int | None, threads: int, *, gpu: bool) -> tuple[int, dict[str, float]]:
    """Return the number of actors and the resources of each in Ray's units, for the resources of a cluster.

    With more workers than GPUs, each GPU is shared by the same number of workers: a single process also decodes images and
    rarely keeps a GPU busy. Too few cores, or no GPU, raise ConfigError.
    """
    cores = max(threads, 1)
    room = int(resources.get("CPU", 0) // cores)
    if room < 1:
        there = resources.get("CPU", 0)
        message = f"the cluster has {there:g} cores, too few for an actor of {cores} threads; lower --threads"
        raise ConfigError(message, value=cores, expected=there)
    if not gpu:
        return workers or room, {"num_cpus": cores}
    number = int(resources.get("GPU", 0))
    if number < 1:
        message = "Ray reports no GPU in the cluster; start its machines with `ray start --num-gpus 1`, or use --device cpu"
        raise ConfigError(message, value=number, expected="GPUs")
    sharing = math.ceil((workers or number) / number)
    share = math.floor(10_000 / sharing) / 10_000  # Ray counts four decimals
    return workers or min(room, number), {"num_cpus": cores, "num_gpus": share}


def _no_cluster(address: str, why: str, more: str = "") -> ConfigError:
    advice = f"start one with `ray start --head`, or use --ray {LOCAL}{more}"
    return ConfigError(f"no Ray cluster at {address!r}: {why}; {advice}", value=address)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # No usage statistics are sent.
    with needs("scale", "ray"):
        import ray
        import ray.data
    ours = not ray.is_initialized()
    if ours:
        host, colon, port = address.rpartition(":")
        if colon and port.isdigit() and "://" not in address:
            try:  # Ray would wait minutes for an address without a listener.
                socket.create_connection((host, int(port)), 10).close()
            except OSError as error:
                raise _no_cluster(address, reason(error)) from error
        place: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {"address": address}
        try:
            ray.init(**place, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            # A wrong token is a failed connection.
            denied = isinstance(error, ConnectionError) or "auth" in str(error).lower()
            raise _no_cluster(address, reason(error), f"; if it requires a token, {TOKEN}" if denied else "") from error
    context = ray.data.DataContext.get_current()
    before, context.enable_progress_bars = context.enable_progress_bars, False
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        context.enable_progress_bars = before
        log.setLevel(level)
        if ours:
            ray.shutdown()
