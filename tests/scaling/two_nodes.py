"""A run on a Ray cluster of two nodes on this machine; an actor and then a whole node are killed with signal 9 on the way.

    python two_nodes.py IMAGES OUT

Prints what was killed and what came out as JSON. A process of its own: Ray keeps threads and sockets of its own open.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from mien.batch import Options, batch
from waiting import until


def main(images: str, out: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    report: dict[str, object] = {"nodes": len(ray_nodes(cluster.address))}
    answer: list[object] = []

    def work() -> None:
        try:
            summary = batch([images], out, Options(points="none", blendshapes=False), shard_size=8, ray=cluster.address)
            answer.append([summary.items, summary.failures, summary.new])
        except BaseException as error:
            answer.append(repr(error))

    thread = threading.Thread(target=work)
    thread.start()
    report["actors"] = len(wait_for(actors, thread, 2))
    wait_for(lambda: parts(out), thread, 1)
    with contextlib.suppress(ProcessLookupError):
        victim = actors()[0]
        os.kill(victim, signal.SIGKILL)
        report["actor killed"] = True
    wait_for(lambda: parts(out), thread, 2)
    report["parts when the node is killed"] = len(parts(out))
    raylet = second.all_processes["raylet"][0].process
    os.kill(raylet.pid, signal.SIGKILL)
    report["node killed"] = raylet.wait() == -signal.SIGKILL
    thread.join()
    report["answer"] = answer[0]
    ray.shutdown()
    cluster.shutdown()
    print(json.dumps(report))


def ray_nodes(address: str) -> list[object]:
    ray.init(address, log_to_driver=False, logging_level="ERROR")
    return [node for node in ray.nodes() if node["Alive"]]


def parts(out: str) -> list[Path]:
    return list(Path(out, "rows").glob("part-*.parquet"))


def actors() -> list[int]:
    """The actors of this cluster: processes whose title Ray has set, below this one's raylets."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    raylets = {row[0] for row in rows if row[1] == str(os.getpid())}
    return [int(row[0]) for row in rows if len(row) == 3 and row[1] in raylets and "ray::Map" in row[2]]


def wait_for(look, thread: threading.Thread, count: int) -> list:
    """Look for processes and files: Ray tells of neither until later."""
    until(lambda: not thread.is_alive() or len(look()) >= count)
    return look()


if __name__ == "__main__":
    main(*sys.argv[1:])
