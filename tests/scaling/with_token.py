"""`mien batch` on a Ray cluster of two nodes that requires a token: with it, with another, and without.

    RAY_AUTH_MODE=token RAY_AUTH_TOKEN=… python with_token.py IMAGES OUT

Prints status and last line of stderr of each run as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from ray.cluster_utils import Cluster


def main(images: str, out: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    token = os.environ["RAY_AUTH_TOKEN"]
    home = Path(out) / "home"  # where Ray would look for a token
    home.mkdir(parents=True)
    found = {}
    for name, mode, given in [("right", "token", token), ("wrong", "token", "0" * len(token)), ("missing", "token", ""),
                              ("disabled", "disabled", "")]:  # fmt: skip
        env = {**os.environ, "HOME": str(home), "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": given}
        if not given:
            del env["RAY_AUTH_TOKEN"]
        line = [sys.executable, "-m", "mien", "batch", images, "--out", str(Path(out) / name), "--ray", cluster.address,
                "--points", "none", "--no-blendshapes", "--shard-size", "8"]  # fmt: skip
        done = subprocess.run(line, capture_output=True, text=True, env=env, timeout=300)
        found[name] = [done.returncode, (done.stderr.strip().splitlines() or [""])[-1]]
    cluster.shutdown()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
