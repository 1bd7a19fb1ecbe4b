"""Regenerate the images of the documentation.

    python tools/images.py [NAME …] [--data ../shared/data] [--mermaid mermaid.min.js]

Faces are those of the bundled sample (NASA, public domain), of the Face Research Lab London Set (DeBruine & Jones 2017, CC BY
4.0) and of the Solvay conference of 1927 (B. Couprie). All but `sample` and `timeline` need Chromium, `diagrams` also Mermaid
from npm. The other images come from `mien prepare`, `mien explain` and `mien embed`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

import mien
from site_hooks import DIAGRAMS, MERMAID, ROOT, digest, generated

FOLDER = ROOT / "docs" / "images"
OPTIONS = "{startOnLoad: false, theme: 'neutral', deterministicIds: true, htmlLabels: false, flowchart: {htmlLabels: false}}"
FLAGS = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
DESKTOP, PHONE = {"width": 1360, "height": 860}, {"width": 390, "height": 844}
WIDE = {"width": 1920, "height": 1080}


def sample(data: Path, folder: Path) -> None:
    """Draw the prediction for the bundled photo."""
    drawn = mien.draw(mien.sample(), mien.load()(mien.sample()))
    save(drawn.resize((640, 640), Image.Resampling.LANCZOS).quantize(256), "sample.png")


def timeline(data: Path, folder: Path) -> None:
    """Draw the timeline of a person who turns from neutral to a smile."""
    clip, path = data / "video" / "london_crossfade_neutral_happy.mp4", folder / "timeline.png"
    run("predict", clip, "--start", "2.4", "--end", "4.75", "--jsonl", folder / "rows.jsonl", "--timeline", path)
    # The default method merges the colors of thin lines.
    save(Image.open(path).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE), "timeline.png")


def report(data: Path, folder: Path) -> None:
    """Take screenshots of an evaluation report, wide and light beside narrow and dark."""
    run("evaluate", "mien-base", "--dataset", "london", "--root", data / "london", "--out", folder / "london")
    url, shots = (folder / "london" / "report.html").as_uri(), []
    for width, scheme in ((1120, "light"), (400, "dark")):
        path = folder / f"{width}.png"
        browse(url, lambda page, path=path: page.screenshot(path=path), {"width": width, "height": 3010}, scheme)
        shots.append(np.asarray(Image.open(path).convert("RGB")))
    both = Image.fromarray(np.concatenate([shots[0], np.full((3010, 24, 3), 255, np.uint8), shots[1]], 1))
    save(both.resize((both.width * 2 // 3, both.height * 2 // 3), Image.Resampling.LANCZOS).quantize(128), "report.png")


def page(data: Path, folder: Path) -> None:
    """Take screenshots of the web page of `mien serve`."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "serving")]
    from server import running

    clip = data / "video" / "london_crossfade_neutral_happy.mp4"
    film, feed = folder / "london.webm", folder / "london.mjpeg"
    transcode(clip, film, "libvpx", "yuv420p")
    transcode(clip, feed, "mjpeg", "yuvj420p")
    portraits = [data / "london" / "images" / name for name in ("013_08.jpg", "026_03.jpg")]
    group = (mien.sample(), *portraits, data / "photos" / "solvay_conference_1927.jpg")
    ready = "() => [...document.images].every((each) => each.complete)"
    solvay, broken, blank = group[-1], folder / "broken.jpg", folder / "blank.png"
    broken.write_bytes(mien.sample().read_bytes()[:2000])
    Image.new("RGB", (640, 480), (120, 130, 140)).save(blank)
    last, middle = "#strip > div:last-child .tile", {"position": {"x": 300, "y": 30}}
    table = "document.getElementById('overview').scrollIntoView()"
    turns: dict[str, tuple[Any, str, Callable[[Page], Any]]] = {
        "empty": (DESKTOP, "light", lambda page: None),
        "photo": (DESKTOP, "light", lambda page: upload(page, mien.sample())),
        "points": (DESKTOP, "dark", lambda page: (upload(page, mien.sample()), page.click("#show-points"))),
        "group": (DESKTOP, "light", lambda page: (upload(page, *group), page.click(last), page.wait_for_function(ready))),
        "batch": (DESKTOP, "light", lambda page: (upload(page, *group, blank, broken), page.evaluate(table))),
        "wide": (WIDE, "light", lambda page: (upload(page, *group), page.click(last), page.wait_for_function(ready))),
        "video": (DESKTOP, "light", lambda page: (upload(page, film), seek(page, 6.8), page.click("#show-axes"))),
        "camera": (DESKTOP, "dark", lambda page: (page.click("#welcome [data-do=camera]"), page.wait_for_timeout(30_000))),
        "recording": (
            DESKTOP,
            "light",
            lambda page: (
                page.click("#welcome [data-do=camera]"),
                page.wait_for_timeout(30_000),
                page.click("#camera"),
                page.click("#track", **middle),
            ),
        ),
        "unreadable": (DESKTOP, "dark", lambda page: upload(page, broken)),
        "phone-group": (PHONE, "dark", lambda page: upload(page, solvay)),
        "phone-zoom": (
            PHONE,
            "light",
            lambda page: (upload(page, solvay), [page.click("[data-do=zoom-in]") for _ in range(4)]),
        ),
        "card": (DESKTOP, "light", lambda page: page.click("#about")),
        "phone": (PHONE, "light", lambda page: upload(page, mien.sample())),
        "heat": (
            DESKTOP,
            "light",
            lambda page: (upload(page, mien.sample()), page.click("#show-heat"), page.wait_for_timeout(9_000)),
        ),
    }
    with running() as server:
        for name, (size, scheme, act) in turns.items():

            def take(page: Page, name: str = name, act: Callable[[Page], Any] = act, phone: bool = size is PHONE) -> None:
                page.wait_for_selector("body[data-ready]")
                act(page)
                page.screenshot(
                    path=FOLDER / f"page-{name}.jpg", full_page=phone, type="jpeg", quality=80, animations="disabled"
                )

            browse(server.url, take, size, scheme, f"--use-file-for-fake-video-capture={feed}")


def diagrams(script: Path) -> None:
    """Draw the Mermaid diagrams of all pages as SVG and delete the drawings that no page uses."""
    pages = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md"))]
    codes = {digest(found[1]): found[1] for page in pages for found in MERMAID.finditer(generated(page))}
    for old in DIAGRAMS.glob("*.svg"):
        if old.stem not in codes:
            old.unlink()

    def draw(page: Page) -> None:
        page.add_script_tag(path=script)
        page.evaluate(f"mermaid.initialize({OPTIONS})")
        for name, code in codes.items():
            svg = page.evaluate("([name, code]) => mermaid.render(name, code).then(made => made.svg)", [f"d{name}", code])
            # A blank line would end the HTML block in a Markdown page.
            (DIAGRAMS / f"{name}.svg").write_text(re.sub(r"\s*\n\s*", " ", svg) + "\n", encoding="utf-8")

    browse("about:blank", draw)


def transcode(source: Path, target: Path, codec: str, pixels: str) -> None:
    """Write a video in a codec that every Chromium plays, or accepts as the stream of a fake camera."""
    with av.open(str(source)) as read, av.open(str(target), "w", format="mjpeg" if codec == "mjpeg" else None) as written:
        stream = read.streams.video[0]
        made = written.add_stream(codec, rate=stream.average_rate)
        made.width, made.height, made.pix_fmt = stream.width, stream.height, pixels
        for frame in read.decode(stream):
            written.mux(made.encode(frame.reformat(format=pixels)))
        written.mux(made.encode(None))


def upload(page: Page, *paths: Path) -> None:
    """Give files to the page and wait for their results."""
    page.set_input_files("#files", [str(path) for path in paths])
    page.wait_for_selector("body:not(.working):has(#progress[hidden])")


def seek(page: Page, second: float) -> None:
    """Show the video at a time."""
    page.evaluate("(to) => (document.getElementById('video').currentTime = to)", second)
    page.wait_for_function("() => !document.getElementById('video').seeking")


def browse(url: str, act: Callable[[Page], Any], size: Any = None, scheme: Any = "light", *flags: str) -> None:
    """Call a function with a page of the system's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*FLAGS, *flags])
        page = browser.new_page(viewport=size or DESKTOP, color_scheme=scheme, permissions=["camera"])
        page.set_default_timeout(600_000)
        page.goto(url)
        act(page)
        browser.close()


def save(image: Image.Image, name: str) -> None:
    """Write an image of the documentation."""
    image.save(FOLDER / name, optimize=True)
    print(f"{name}: {(FOLDER / name).stat().st_size / 1000:.0f} kB")


def run(*arguments: object) -> None:
    """Run `mien …`."""
    print("mien", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "mien", *map(str, arguments)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


IMAGES: dict[str, Callable[[Path, Path], None]] = {"sample": sample, "timeline": timeline, "report": report, "page": page}


def main() -> None:
    """Make the images that the arguments name, by default all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join([*IMAGES, "diagrams"]))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of london, video and photos")
    parser.add_argument("--mermaid", type=Path, help="mermaid.min.js of the npm package; needed by diagrams")
    args = parser.parse_args()
    for name in args.names or [*IMAGES, *(["diagrams"] if args.mermaid else [])]:
        if name == "diagrams":
            diagrams(args.mermaid)
            continue
        with tempfile.TemporaryDirectory() as folder:
            IMAGES[name](args.data.resolve(), Path(folder))


if __name__ == "__main__":
    main()
