"""Screenshots of the web page of `mien serve` for docs/serving.md, from a real server in the system's Chromium.

    python tools/make_page_images.py [--out docs/images] [--only NAME ...]

Photos: the bundled sample (NASA, public domain); the Solvay conference of 1927 (B. Couprie, public domain in the USA by age);
the clip is made of four persons of the Face Research Lab London Set (DeBruine & Jones 2017, CC BY 4.0), turned into a kind that
Chromium plays.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
from PIL import Image
from playwright.sync_api import Page

import mien

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "images"
SHARED = ROOT.parent / "shared" / "data"
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "serving")]

LARGEST = 150_000
"""Bytes of an image above which it is stored at less quality."""
PATIENCE = 600_000
"""Milliseconds until something on the page must have happened, on a machine that does much else."""
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
WIDE = {"width": 1920, "height": 1080}


def webm(source: Path, target: Path) -> Path:
    """Write a video as VP8, which every Chromium plays."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        made = written.add_stream("libvpx", rate=stream.average_rate)
        made.width, made.height, made.pix_fmt, made.bit_rate = stream.width, stream.height, "yuv420p", 1_500_000
        for frame in read.decode(stream):
            written.mux(made.encode(frame.reformat(format="yuv420p")))
        written.mux(made.encode(None))
    return target


def mjpeg(source: Path, target: Path, size: tuple[int, int] = (640, 480)) -> Path:
    """Write a video as Motion JPEG: what Chromium's fake camera is fed with."""
    with av.open(str(source)) as read, av.open(str(target), "w", format="mjpeg") as written:
        made = written.add_stream("mjpeg", rate=25)
        made.width, made.height, made.pix_fmt = *size, "yuvj420p"
        for frame in read.decode(video=0):
            image = Image.new("RGB", size, (92, 98, 104))
            inner = frame.to_image().resize((size[1], size[1]))
            image.paste(inner, ((size[0] - size[1]) // 2, 0))
            written.mux(made.encode(av.VideoFrame.from_image(image).reformat(format="yuvj420p")))
        written.mux(made.encode(None))
    return target


def upload(page: Page, *paths: Path) -> None:
    page.set_input_files("#files", [str(path) for path in paths])
    page.wait_for_selector("body:not(.working):has(#progress[hidden])")


def main() -> None:
    from server import running

    from browsers import camera, chromium

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp())
    clip = SHARED / "video" / "london_crossfade_neutral_happy.mp4"
    film, feed = webm(clip, folder / "london.webm"), mjpeg(clip, folder / "london.mjpeg")
    sample, solvay = mien.sample(), SHARED / "photos" / "solvay_conference_1927.jpg"
    portraits = [SHARED / "london" / "images" / name for name in ("013_08.jpg", "026_03.jpg")]
    broken, blank = folder / "broken.jpg", folder / "blank.png"
    broken.write_bytes(sample.read_bytes()[:2000])
    Image.new("RGB", (640, 480), (120, 130, 140)).save(blank)
    turns = {
        "page-empty": (DESKTOP, "light", lambda page: None),
        "page-photo": (DESKTOP, "light", lambda page: upload(page, sample)),
        "page-points": (DESKTOP, "dark", lambda page: (upload(page, sample), page.click("#show-points"))),
        "page-group": (DESKTOP, "light", lambda page: (upload(page, sample, *portraits, solvay), last(page))),
        "page-video": (DESKTOP, "light", lambda page: (upload(page, film), seek(page, 6.8))),
        "page-camera": (DESKTOP, "dark", lambda page: (page.click("#welcome [data-do=camera]"), filmed(page, 9))),
        "page-card": (DESKTOP, "light", lambda page: page.click("#about")),
        "page-phone": (PHONE, "light", lambda page: upload(page, sample)),
        "page-phone-group": (PHONE, "dark", lambda page: upload(page, solvay)),
        "page-zoom": (PHONE, "light", lambda page: (upload(page, solvay), zoom(page))),
        "page-batch": (DESKTOP, "light", lambda page: (upload(page, sample, *portraits, blank, broken, solvay), table(page))),
        "page-recording": (
            DESKTOP,
            "light",
            lambda page: (page.click("#welcome [data-do=camera]"), filmed(page, 9), stop(page)),
        ),
        "page-unreadable": (DESKTOP, "dark", lambda page: upload(page, broken)),
        "page-no-face": (DESKTOP, "dark", lambda page: upload(page, blank)),
        "page-wide": (WIDE, "light", lambda page: (upload(page, sample, *portraits, solvay), last(page))),
        "page-heat": (DESKTOP, "light", lambda page: (upload(page, sample), heat(page))),
    }
    with running() as server, chromium(*camera(feed)) as browser:
        for name, (size, scheme, act) in turns.items():
            if args.only and name not in args.only:
                continue
            take(browser, server.url, size, scheme, act, args.out / f"{name}.jpg")


def take(browser: Any, url: str, size: Any, scheme: Any, act: Callable[[Page], Any], path: Path) -> None:
    from browsers import watched

    wrong: list[str] = []
    context = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=2 if size is PHONE else 1)
    page = watched(context, url, wrong)
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    act(page)
    for quality in (86, 80, 74, 68):
        page.screenshot(path=path, full_page=size is PHONE, type="jpeg", quality=quality, animations="disabled")
        if path.stat().st_size < LARGEST:
            break
    context.close()
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB", *wrong, sep="\n  ")


def last(page: Page) -> None:
    page.click("#strip > div:last-child .tile")
    page.wait_for_function("() => [...document.images].every((each) => each.complete)")


def table(page: Page) -> None:
    """Show the overview instead of the stage."""
    page.evaluate("document.getElementById('overview').scrollIntoView()")


def zoom(page: Page) -> None:
    for _ in range(4):
        page.click("[data-do=zoom-in]")


def stop(page: Page) -> None:
    """Stop the camera and show the middle of its recording."""
    page.click("#camera")
    box = page.locator("#track").bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 30)


def seek(page: Page, second: float) -> None:
    page.evaluate("(to) => (document.getElementById('video').currentTime = to)", second)
    box = page.locator("#track").bounding_box()
    assert box
    page.mouse.click(box["x"] + 10 + (box["width"] - 20) * second / 9.6, box["y"] + 30)
    page.wait_for_function("() => !document.getElementById('video').seeking")


def filmed(page: Page, seconds: float) -> None:
    """Wait until the camera's timeline is so long."""
    page.wait_for_function(f"() => document.getElementById('track').getAttribute('aria-valuenow') >= {seconds}")


def heat(page: Page) -> None:
    if page.is_visible("#show-heat"):
        page.click("#show-heat")
        page.wait_for_selector("#regions:not([hidden])")


if __name__ == "__main__":
    main()
