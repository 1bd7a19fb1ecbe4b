"""No telemetry: inference writes nothing to the user's folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_inference_leaves_no_files_in_the_home_folder(tmp_path: Path) -> None:
    code = "import mien; mien.load()(mien.sample())"
    env = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    subprocess.run([sys.executable, "-c", code], check=True, env={**env, "HOME": str(tmp_path), "PYTHONPATH": path})
    assert list(tmp_path.rglob("*")) == []
