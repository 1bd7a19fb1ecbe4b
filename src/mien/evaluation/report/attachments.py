"""Images added to a report: PNG files in `figures/extra`, each with a JSON file of the same name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ...io.files import atomic_write

FOLDER = "figures/extra"
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Extra:
    """One image."""

    section: str
    """Heading."""
    title: str
    """Its title."""
    note: str
    """Caption."""
    png: bytes
    """The image."""


def add_extra(report: Path, section: str, title: str, png: bytes, note: str) -> None:
    """Put an image into the folder of a report.

    Raises:
        ConfigError: the disk is full, or the folder is not writable.
        ValueError: the bytes are not a PNG file.
    """
    if not png.startswith(PNG):
        raise ValueError(f"the image {title!r} is not a PNG file: it begins with {png[:8]!r}")
    folder = report / FOLDER
    stem = hashlib.blake2b(f"{section}\0{title}".encode(), digest_size=8).hexdigest()
    order = _order(folder, stem)
    about = {"section": section, "title": title, "note": note, "order": order}
    for name, content in ((f"{stem}.png", png), (f"{stem}.json", json.dumps(about, ensure_ascii=False).encode())):
        with atomic_write(folder / name) as part:
            part.write_bytes(content)


def read_extra(report: Path) -> list[Extra]:
    """Return the images in the order in which they were added."""
    found = []
    for path in sorted((report / FOLDER).glob("*.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        png = path.with_suffix(".png")
        if png.is_file():
            extra = Extra(str(about["section"]), str(about["title"]), str(about.get("note", "")), png.read_bytes())
            found.append((about.get("order", 0), path.name, extra))
    return [extra for _, _, extra in sorted(found, key=lambda entry: entry[:2])]


def _order(folder: Path, stem: str) -> int:
    known = {path.stem: json.loads(path.read_text(encoding="utf-8")).get("order", 0) for path in folder.glob("*.json")}
    return known[stem] if stem in known else max(known.values(), default=0) + 1
