"""The page of a report as a browser shows it, on screens and on paper."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from browsers import NEEDED, chromium, watched
from evaluations import Knowing, drawings
from mien.evaluation import evaluate

pytestmark = NEEDED


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a report."""
    data, out = drawings(140), tmp_path_factory.mktemp("report")
    data = dataclasses.replace(data, groups={"tone": np.where(np.arange(140) % 3 == 0, "dark", "light")})
    evaluate(Knowing(data, 0.7, 0.7), data, out=out)
    return (out / "report.html").as_uri()


@pytest.mark.parametrize(
    ("width", "scheme", "media", "dark"),
    [
        (1200, "light", "screen", False),
        (1200, "dark", "screen", True),
        (390, "light", "screen", False),
        (390, "dark", "screen", True),
        (718, "dark", "print", False),  # A4 within margins: paper is white, whatever the screen
    ],
)
def test_it_looks_as_it_should(page: str, width: int, scheme: str, media: str, dark: bool) -> None:
    """It is as dark as asked for, never wider than the window, every image is drawn, and nothing is fetched."""
    wrong: list[str] = []
    with chromium() as browser:
        context = browser.new_context(viewport={"width": width, "height": 1400}, color_scheme=scheme)
        opened = watched(context, page, wrong)
        opened.goto(page)
        opened.emulate_media(media=media, color_scheme=scheme)
        wide, window = opened.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        undrawn = opened.evaluate("[...document.images].filter(image => !image.complete || !image.naturalWidth).length")
        pixels = np.asarray(Image.open(io.BytesIO(opened.screenshot(full_page=True))).convert("L"), float)
    assert wide <= window and undrawn == 0 and wrong == []
    assert pixels.shape[1] == width and pixels.std() > 15
    assert (np.median(pixels) < 60) if dark else (np.median(pixels) > 200)


def test_it_prints_onto_pages(page: str) -> None:
    with chromium() as browser:
        opened = browser.new_page()
        opened.goto(page)
        paper = opened.pdf(format="A4")
    assert paper.startswith(b"%PDF") and 2 <= paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page/") <= 20
