"""Shell completion."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mien.cli import main


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is absent")
def test_bash_completes_commands_and_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert main(["--install-completion", "--shell", "bash"]) == 0
    [script] = [path for path in tmp_path.rglob("mien") if path.is_file()]
    for words, wanted in [("mien ser", "serve"), ("mien serve --allowed", "--allowed-host")]:
        place = len(words.split()) - 1
        code = (
            f'source {script}; COMP_WORDS=({words}); COMP_CWORD={place}; COMP_LINE="{words}"; _mien; echo "${{COMPREPLY[@]}}"'
        )
        assert wanted in subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split()
