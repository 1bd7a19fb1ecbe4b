"""Make the images of the documentation that show what mien does with photographs, a video, a folder and a dataset.

    python tools/make_images.py [--data ../shared/data] [--only sample timeline prepared report]

Photos: the bundled sample (NASA, public domain); people of the Face Research Lab London Set (DeBruine & Jones 2017, CC BY
4.0). The report needs Chromium.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import mien
from images import FOLDER, READER, ROOT, record, save
from mien.data.preparation import contact_sheet
from mien.io.images import read_image

PEOPLE = ("010_08", "018_08", "024_08", "025_08", "006_03", "042_03", "008_03", "030_03")
"""Eight people of the London set, four who smile and four who do not."""
CROPS = ("arcface112", "ddamfn5", "dlib-chip", "fer2013-like")
REGIONS = ("eye", "nose", "mouth")


def sample(data: Path, folder: Path) -> None:
    """Draw what the bundled model reads in the bundled photograph."""
    drawn = mien.draw(mien.sample(), mien.load()(mien.sample()))
    save(drawn.resize((640, 640), Image.Resampling.LANCZOS).quantize(256), "sample.png", READER)


def timeline(data: Path, folder: Path) -> None:
    """Draw the timeline of four people who smile one after the other."""
    clip, path = data / "video" / "london_crossfade_neutral_happy.mp4", folder / "timeline.png"
    call("predict", clip, "--jsonl", folder / "rows.jsonl", "--timeline", path)
    with Image.open(path) as image:
        save(image.convert("RGB").quantize(128), "timeline.png", READER)


def prepared(data: Path, folder: Path) -> None:
    """Lay out the aligned faces of eight people, and the regions of two."""
    for name in PEOPLE:
        target = folder / "photos" / "test" / ("happiness" if name.endswith("_08") else "neutral") / f"{name}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((data / "london" / "images" / f"{name}.jpg").read_bytes())
    where = ("--dataset", "folder", "--root", folder / "photos", "--workers", 1)
    cells = []
    for crop in CROPS:
        call("prepare", "align", *where, "--crop", crop, "--out", folder / crop)
        cells += [(crop, image(folder / crop, name)) for name in PEOPLE]
    call("prepare", "regions", *where, "--out", folder / "regions")
    for name in (PEOPLE[0], PEOPLE[-1]):
        cells += [(f"roi/{region}", image(folder / "regions", name, f"roi/{region}")) for region in REGIONS]
    save(contact_sheet(cells, side=88, columns=len(PEOPLE)), "prepared.jpg", ("blazeface", "mesh478", "retinaface"), quality=88)


def report(data: Path, folder: Path) -> None:
    """Photograph the report of an evaluation on the London set, down to where its images of people begin."""
    call("evaluate", "mien-base", "--dataset", "london", "--root", data / "london", "--out", folder / "london")
    page, script = folder / "london" / "report.html", ROOT / "tools" / "screenshot_report.py"
    subprocess.run([sys.executable, script, page, FOLDER / "report.png", "--height", "3010"], check=True)
    record("report.png", READER)


def image(folder: Path, name: str, part: str = "") -> np.ndarray:
    """Return the image of that name and part in a folder that `mien prepare` made."""
    (path,) = (each for each in folder.rglob(f"{name}.*") if part in str(each.relative_to(folder)))
    return read_image(path).pixels


def call(*arguments: object) -> None:
    """Run `mien …`."""
    print("mien", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "mien", *map(str, arguments)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


MAKERS: dict[str, Callable[[Path, Path], None]] = {
    "sample": sample, "timeline": timeline, "prepared": prepared, "report": report,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of london/ and video/")
    parser.add_argument("--only", nargs="*", choices=MAKERS, default=list(MAKERS))
    args = parser.parse_args()
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            MAKERS[name](args.data.resolve(), Path(folder))


if __name__ == "__main__":
    main()
