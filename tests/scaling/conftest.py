"""Images for runs, and what a run makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from batch_runs import bomb
from PIL import Image, ImageEnhance

pytest.importorskip("pyarrow", reason="mien batch needs mien[scale]")


@pytest.fixture(scope="session")
def album(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """44 images in two folders: 36 of one face in different light, and 8 that are empty, corrupt or malicious."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "deep").mkdir()
    with Image.open(sample) as image:
        face = image.convert("RGB").crop((90, 10, 430, 350)).resize((160, 160))
    for number in range(36):
        lit = ImageEnhance.Brightness(face.rotate(number - 18, fillcolor=(90, 90, 90))).enhance(0.6 + number / 40)
        lit.save(folder / ("deep" if number % 3 == 2 else ".") / f"face {number}.jpg", quality=90)
    for number in range(3):
        Image.new("RGB", (120, 90), (40 * number, 120, 90)).save(folder / f"lawn{number}.png")
    whole = (folder / "face 1.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "corrupt.jpg").write_bytes(whole[:200] + np.random.default_rng(0).bytes(2000))
    (folder / "note.jpg").write_text("buy milk")
    (folder / "empty.png").write_bytes(b"")
    (folder / "deep" / "bomb.png").write_bytes(bomb())
    return folder


@pytest.fixture(scope="session")
def whole(album: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed run makes of the album, eight images in a part, without points and blendshapes."""
    from mien.batch import Options, batch

    out = tmp_path_factory.mktemp("whole") / "out"
    batch([str(album)], out, Options(points="none", blendshapes=False), workers=1, shard_size=8)
    return out
