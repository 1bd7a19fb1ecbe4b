"""Where weight files lie, and the check that they are what they claim to be. Bundled weights need no network."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

from .errors import WeightsError

ASSETS = Path(__file__).parent / "assets"
WEIGHTS = ASSETS / "weights"
CARDS = ASSETS / "cards"
ARCHITECTURES = ASSETS / "architectures.json"


def bundled(name: str) -> Path:
    """Return the path of a weight file that ships with the package: `bundled("blazeface.onnx")`.

    Raises:
        WeightsError: the installation lacks the file, or has another than its card describes.
    """
    path = WEIGHTS / name
    try:
        digest = tomllib.loads((CARDS / f"{path.stem}.toml").read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"the card of the bundled weight {name} is missing or damaged; reinstall the package") from error
    if not path.is_file():
        raise WeightsError(f"the bundled weight {name} is missing from {WEIGHTS}; reinstall the package")
    return verify(path, digest)


def sha256(path: str | Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def no_weights(path: str | Path) -> WeightsError:
    """Return the error of a weight file that is not there."""
    return WeightsError(f"weight file {path} does not exist; check the path, and where it was trained or exported to")


def verify(path: str | Path, digest: str) -> Path:
    """Return `path` if the file has this sha256.

    Raises:
        WeightsError: the file is missing or has another digest.
    """
    path = Path(path)
    if not path.is_file():
        raise no_weights(path)
    if (found := sha256(path)) != digest:
        raise WeightsError(
            f"weight file {path} has sha256 {found}, its card says {digest[:12]}…; get the file anew, or, if it is your own, "
            "write its digest into the card"
        )
    return path
