"""Shell completion, after `mien --install-completion` in an empty home folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mien.cli import main

WANTED = [("mien ser", "serve"), ("mien serve --allowed", "--allowed-host"), ("mien predict ok.", "ok.jpg")]
"""Words on the command line → one of the completions, the last one a file."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZSH", "ZSH_CUSTOM"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "ok.jpg").touch()
    (tmp_path / "mien").write_text("#!/bin/sh\n")  # fish completes commands that exist
    (tmp_path / "mien").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def output(*command: str, folder: Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is absent")
def test_bash(home: Path) -> None:
    assert main(["--install-completion", "--shell", "bash"]) == 0
    (script,) = (home / ".local").rglob("mien")
    for words, wanted in WANTED:
        place = len(words.split()) - 1
        words = f"COMP_WORDS=({words}); COMP_CWORD={place}; COMP_LINE='{words}'"
        code = f'source {script}; {words}; _mien; echo "${{COMPREPLY[@]}}"'
        assert wanted in output("bash", "-c", code, folder=home).split()


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is absent")
def test_fish(home: Path) -> None:
    assert main(["--install-completion", "--shell", "fish"]) == 0
    for words, wanted in WANTED:
        assert wanted in output("fish", "-c", f"complete -C '{words}'", folder=home).split()


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is absent")
def test_zsh(home: Path) -> None:
    assert main(["--install-completion", "--shell", "zsh"]) == 0
    code = "source .zshrc; autoload -Uz compinit; compinit -u; print -- ${_comps[mien]}"
    name = output("zsh", "-f", "-c", code, folder=home).strip()
    assert "_files" in (home / ".zsh" / "completions" / name).read_text()
