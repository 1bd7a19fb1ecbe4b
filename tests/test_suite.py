"""Rules of the suite itself."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAUSE = re.compile(r"\bsleep\s*\(|\b(setTimeout|wait_for_timeout)\b")


def test_nothing_pauses_but_the_one_helper() -> None:
    """Tests wait for events; only `waiting.py` polls, and the camera of `rtsp_server.py` sends frames at its rate."""
    others = [path for path in TESTS.rglob("*.py") if path != Path(__file__)]
    found = [path.relative_to(TESTS).as_posix() for path in others for _ in PAUSE.findall(path.read_text(encoding="utf-8"))]
    assert sorted(found) == ["rtsp_server.py", "waiting.py"]
