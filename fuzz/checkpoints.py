"""Checkpoints: any file, and hand-made pickles in the two containers of torch.

The first byte says what the rest is: a whole file, the pickle of a zip, or the pickle of a legacy file.
"""

from __future__ import annotations

import atexit
import io
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/importing"))

from checkpoint_samples import SAMPLES, legacy_stream, zipped

from mien.models.checkpoints import read_checkpoint

_folder = tempfile.TemporaryDirectory()
atexit.register(_folder.cleanup)
PATH = Path(_folder.name) / "weights"
DEEDS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect", "pickle.find_class", "os.remove")
"""Audit events that reading weights never raises."""

BLOCKS = {str(key): bytes(4 * 256) for key in range(20)}
HEAD = legacy_stream(b"", b"")
TAIL = b"\x80\x02]."

_reading = False


def _watch(event: str, arguments: object) -> None:
    if _reading and event in DEEDS:
        raise AssertionError(f"reading a checkpoint did {event}: {arguments}")


sys.addaudithook(_watch)


def target(data: bytes) -> None:
    """Read a checkpoint."""
    global _reading
    if not data:
        return
    match data[0] % 3:
        case 0:
            PATH.write_bytes(data[1:])
        case 1:
            zipped(data[1:], PATH, BLOCKS)
        case 2:
            PATH.write_bytes(HEAD + data[1:] + TAIL)
    _reading = True
    try:
        found = read_checkpoint(PATH)
    finally:
        _reading = False
    assert found.state and all(isinstance(name, str) for name in found.state)


def seeds() -> Iterator[bytes]:
    """Yield small checkpoints of every kind, and their pickles."""
    for make, _ in SAMPLES.values():
        with tempfile.TemporaryDirectory() as folder:
            data = make(Path(folder, "weights.npz")).read_bytes()
        yield b"\0" + data
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for name in archive.namelist():
                    if name.endswith("data.pkl"):
                        yield b"\1" + archive.read(name)
                        yield b"\2" + archive.read(name)
