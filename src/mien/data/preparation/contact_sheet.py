"""A contact sheet of prepared images."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 4
LINE = 14  # height of a caption in pixels


def contact_sheet(images: Iterable[tuple[str, np.ndarray]], side: int = 112, columns: int = 10) -> Image.Image:
    """Lay out captions and images, (H, W) or (H, W, 3) uint8, in rows of squares of `side` pixels, as one RGB image."""
    cells = list(images)
    rows = max(-(-len(cells) // columns), 1)
    width, height = side + GAP, side + LINE + GAP
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=10)
    for index, (caption, pixels) in enumerate(cells):
        x, y = GAP + index % columns * width, GAP + index // columns * height
        image = Image.fromarray(pixels).convert("RGB")
        scale = side / max(image.size)
        size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
        image = image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
        sheet.paste(image, (x + (side - size[0]) // 2, y + (side - size[1]) // 2))
        text = caption
        while text and pen.textlength(text, font) > side:
            text = text[1:]
        pen.text((x, y + side + 1), text, "black", font)
    return sheet
