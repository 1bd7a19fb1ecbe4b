"""Photograph a report for the documentation: wide and light beside narrow and dark.

python tools/screenshot_report.py out/london/report.html docs/images/report.png
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")


def shoot(page: Path, width: int, height: int, *, dark: bool) -> Image.Image:
    """Return the page as the system's Chromium shows it."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no Chromium in this system")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shot.png"
        scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
        line = [chromium, *FLAGS, *scheme, f"--window-size={width},{height}", f"--screenshot={path}", page.resolve().as_uri()]
        subprocess.run(line, check=True, capture_output=True)
        return Image.open(path).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--height", type=int, default=3900)
    args = parser.parse_args()
    wide, narrow = shoot(args.page, 1120, args.height, dark=False), shoot(args.page, 400, args.height, dark=True)
    both = np.concatenate([np.asarray(wide), np.full((args.height, 24, 3), 255, np.uint8), np.asarray(narrow)], 1)
    image = Image.fromarray(both)
    image = image.resize((image.width * 5 // 8, image.height * 5 // 8), Image.Resampling.LANCZOS)
    image.quantize(128).save(args.out, optimize=True)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
