"""The page in a real browser: the system's Chromium, driven by Playwright, against a real server.

Skipped, visibly, where Chromium or Playwright is absent.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageFilter
from server import Server

import mien
from browsers import NEEDED, chromium, watched
from mien import cards
from mien.inference.recognizer import Recognizer
from mien.inference.results import Csv
from mien.serving.app import PAGE
from mien.visualization.faces import COLORS, NOSE

pytestmark = NEEDED


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fake camera shows: the bundled photo, as Motion JPEG of 640 × 480."""
    path = tmp_path_factory.mktemp("feed") / "camera.mjpeg"
    scene = Image.new("RGB", (640, 480), "gray")
    scene.paste(Image.open(mien.sample()).convert("RGB").resize((480, 480)), (80, 0))
    _write(path, [scene] * 5, "mjpeg", "mjpeg", "yuvj420p")
    return path


@pytest.fixture(scope="module")
def film(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen frames of the London clip, a neutral face that begins to smile, as VP8."""
    path = tmp_path_factory.mktemp("film") / "smile.webm"
    with av.open(str(shared / "data/video/london_crossfade_neutral_happy.mp4")) as clip:
        frames = [frame.to_image() for frame in clip.decode(video=0) if frame.pts is not None][:60:4]
    _write(path, frames, "webm", "libvpx", "yuv420p")
    return path


def _write(path: Path, images: list[Image.Image], container: str, codec: str, pixels: str) -> None:
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *images[0].size, pixels
        for image in images:
            out.mux(stream.encode(av.VideoFrame.from_image(image).reformat(format=pixels)))
        out.mux(stream.encode(None))


@pytest.fixture(scope="module")
def browser(feed: Path) -> Iterator[Any]:
    camera = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={feed}",
    )
    with chromium(*camera) as browser:
        yield browser


@pytest.fixture
def open_page(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Opens the page in a fresh context; at the end nothing may have gone wrong in it or been asked of another host."""
    contexts, wrong = [], []

    def opened(**options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = watched(context, server.url, wrong)
        page.goto(server.url)
        page.wait_for_selector("body[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


def done(page: Any) -> None:
    page.wait_for_selector("body:not(.working):has(#progress[hidden])")


NOW = "Number(document.getElementById('track').getAttribute('aria-valuenow'))"
"""Where the timeline stands, in seconds."""


def shown(page: Any) -> dict[str, str]:
    """The expression bars: name → percent."""
    names, values = (page.locator(f"#scores .{kind}").all_inner_texts() for kind in ("name", "value"))
    return dict(zip(names, values, strict=True))


def percents(result: mien.Result, face: int = 0) -> dict[str, str]:
    return {name: f"{int(share * 100 + 0.5)} %" for name, share in result.faces[face].scores.items()}


def saved(page: Any, kind: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.click(f"[data-save={kind}]")
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def equals_the_csv_of_the_command(data: bytes, wanted: list[mien.Result], read: Recognizer, **options: Any) -> None:
    """The same columns in the same order, and the same cells."""
    with tempfile.TemporaryDirectory() as folder:
        with Csv(Path(folder) / "wanted.csv", read.card.labels, **options) as sink:
            for result in wanted:
                sink.write(result)
        expected = list(csv.reader(io.StringIO(sink.path.read_text(encoding="utf-8"))))
    table = list(csv.reader(io.StringIO(data.decode())))
    assert table[0] == expected[0] and len(table) == len(expected)
    for cells, others in zip(table[1:], expected[1:], strict=True):
        for name, cell, other in zip(table[0], cells, others, strict=True):
            number = re.fullmatch(r"-?\d+\.\d+", other)
            assert float(cell) == pytest.approx(float(other), abs=2e-3) if number else cell == other, name


def test_upload_and_downloads(open_page: Any, read: Recognizer, sample: Path) -> None:
    page, wanted = open_page(accept_downloads=True), read(sample)
    page.set_input_files("#files", sample)
    done(page)
    assert page.inner_text("#label") == "happiness" and shown(page) == percents(wanted)
    assert page.locator("#overlay .face").count() == 1 and page.locator("#strong li").count() == 7
    assert "One face" in page.inner_text("#status") or "one face" in page.inner_text("#status")
    name, data = saved(page, "json")
    result = json.loads(data)
    assert name == "sample.json" and result["source"] == "sample.png"
    assert result["faces"][0]["scores"] == pytest.approx(dict(wanted.faces[0].scores), abs=1e-5)
    name, data = saved(page, "csv")
    assert name == "sample.csv"
    equals_the_csv_of_the_command(data, [dataclasses.replace(wanted, source="sample.png")], read)
    name, data = saved(page, "image")
    assert name == "sample-annotated.png" and Image.open(io.BytesIO(data)).size == (512, 512)
    page.click("#show-points")
    assert page.locator("#overlay circle").count() >= 68
    pose, scale = wanted.faces[0].pose, page.locator("#frame").bounding_box()["width"] / wanted.width
    page.click("#show-axes")
    lines = page.locator("#overlay .axis line")
    assert lines.count() == 5, "three axes, two rays"
    ends = [[float(line.get_attribute(name)) / scale for name in ("x1", "y1", "x2", "y2")] for line in lines.all()]
    forward = pose.project(NOSE + np.outer([0, 6], [0, 0, 1]), wanted.width, wanted.height)
    assert min(np.abs(forward.ravel() - end).max() for end in ends) < 0.5
    page.click("#show-heat")
    page.wait_for_selector("#heat:not([hidden])")
    assert page.locator("#importance li").count() == 4


DROP = """async ([name, data, kind]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: "image/png" }));
  const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: carried, bubbles: true })
    : new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true });
  document.getElementById("stage").dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_dropped_and_pasted(open_page: Any, sample: Path, kind: str) -> None:
    page, data = open_page(), base64.b64encode(sample.read_bytes()).decode()
    if kind == "drop":
        page.evaluate(DROP, ["a.png", data, "dragenter"])
        assert page.is_visible(".drop")
    page.evaluate(DROP, ["a.png", data, kind])
    done(page)
    assert not page.is_visible(".drop") and page.inner_text("#label") == "happiness"


def blurred(photo: Path, read: Recognizer, out: Path) -> None:
    """Write a copy of a photo whose first face is too blurred to be certain."""
    box = read(photo).faces[0].box
    image, width = Image.open(photo).convert("RGB"), box.right - box.left
    area = tuple(
        round(x) for x in (box.left - 0.2 * width, box.top - 0.2 * width, box.right + 0.2 * width, box.bottom + 0.2 * width)
    )
    image.paste(image.crop(area).filter(ImageFilter.GaussianBlur(width / 16)), area)
    image.save(out)


def test_several_files_and_many_faces(open_page: Any, read: Recognizer, sample: Path, shared: Path, tmp_path: Path) -> None:
    group, blank, broken = tmp_path / "group.png", tmp_path / "blank.png", tmp_path / "broken.jpg"
    blurred(shared / "data/photos/solvay_conference_1927.jpg", read, group)
    Image.new("RGB", (200, 150), "teal").save(blank)
    broken.write_bytes(b"\xff\xd8\xff\xe0 broken")
    page = open_page()
    page.set_input_files("#files", [sample, group, blank])
    done(page)
    assert page.locator("#strip .tile").count() == 3
    wanted = read(group)
    page.click("#strip > div:nth-child(2) .tile")
    faces = page.locator("#who button")
    assert faces.count() == len(wanted.faces) == page.locator("#overlay .face").count()
    doubtful = next(i for i, face in enumerate(wanted.faces) if not face.certain)
    faces.nth(doubtful).click()
    assert page.inner_text("#label") == "Uncertain" and shown(page) == percents(wanted, doubtful)
    assert "Nearest is " + wanted.faces[doubtful].label in page.inner_text("#sure")
    page.locator("#overlay .face").nth(3).click(force=True)
    assert faces.nth(3).get_attribute("aria-pressed") == "true" and "Face 4 of" in page.inner_text("#kind")
    dashed = page.locator("#overlay .face:has(rect[stroke-dasharray])").count()
    assert dashed == sum(not face.certain for face in wanted.faces)
    page.click("#strip > div:nth-child(3) .tile")
    assert "No face found" in page.inner_text("#notice") and page.inner_text("#blank-title") == "No face found"
    page.set_input_files("#files", broken)
    done(page)
    assert page.inner_text("#unreadable-name") == "broken.jpg" and page.inner_text("#unreadable-reason")
    assert not page.is_visible("#frame") and page.locator("#strip .bad").count() == 1


def test_the_overview_of_several_files(open_page: Any, read: Recognizer, sample: Path, shared: Path, tmp_path: Path) -> None:
    """A sortable table, the shares of the expressions, one download for all, removal."""
    portraits = [shared / "data/london/images" / name for name in ("013_08.jpg", "026_03.jpg")]
    page = open_page(accept_downloads=True)
    page.set_input_files("#files", sample)
    done(page)
    assert not page.is_visible("#overview")
    page.set_input_files("#files", portraits)
    done(page)
    wanted = {path.name: read(path).faces[0] for path in (sample, *portraits)}
    names = lambda: page.locator("#table tbody td:first-child").all_inner_texts()  # noqa: E731
    page.click("#table th:nth-child(5) button")
    assert names() == sorted(wanted, key=lambda name: wanted[name].confidence)
    page.click("#table th:nth-child(5) button")
    assert names() == sorted(wanted, key=lambda name: -wanted[name].confidence)
    assert page.get_attribute("#table th:nth-child(5)", "aria-sort") == "descending"
    assert page.locator("#shares i").count() == len({face.label if face.certain else "" for face in wanted.values()})
    with page.expect_download() as download:
        page.click("[data-do=all-csv]")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert {row["source"]: row["label"] for row in rows} == {name: face.label for name, face in wanted.items()}
    page.click("#table tbody tr:first-child td:first-child button")
    assert page.inner_text("#label") == wanted[names()[0]].label
    page.hover("#strip > div:nth-child(1)")
    page.click("#strip > div:nth-child(1) .remove")
    assert page.locator("#strip .tile").count() == 2 and "sample.png" not in names()
    page.click("[data-do=clear]")
    assert page.is_visible("#welcome") and not page.is_visible("#strip") and not page.is_visible("#overview")


INSIDE = """() => {
  const boxes = [...document.querySelectorAll("#overlay .face rect:first-of-type")].map((e) => e.getBoundingClientRect());
  return [...document.querySelectorAll("#overlay .tag:not(.dot)")].map((tag) => {
    const { left, right, top, bottom } = tag.getBoundingClientRect(), own = boxes[tag.dataset.face];
    return left >= own.left - 3 && right <= own.right + 3 && top >= own.top - 3 && bottom <= own.bottom + 3;
  });
}"""


def test_tags_cover_no_other_face(open_page: Any, shared: Path) -> None:
    """Words lie inside the box of their own face; small faces have numbered dots, and zooming in shows the words."""
    page = open_page()
    page.set_input_files("#files", shared / "data/photos/solvay_conference_1927.jpg")
    done(page)
    faces = page.locator("#overlay .face").count()
    assert page.locator("#overlay .dot").count() == faces and page.locator("#who b").all_inner_texts() == [
        str(i + 1) for i in range(faces)
    ]
    for _ in range(5):
        page.click("[data-do=zoom-in]")
    assert page.locator("#overlay .tag:not(.dot)").count() > faces / 2 and all(page.evaluate(INSIDE))
    page.click("[data-do=zoom-fit]")
    assert page.locator("#overlay .dot").count() == faces


def test_the_heat_map_follows_images_and_models(open_page: Any, sample: Path, shared: Path) -> None:
    page = open_page()
    page.set_input_files("#files", sample)
    done(page)
    page.click("#show-heat")
    page.wait_for_selector("#heat:not([hidden])")
    page.set_input_files("#files", shared / "data/london/images/026_03.jpg")
    page.wait_for_selector("#parts-hint:has-text('neutral')")
    assert page.is_visible("#heat")
    values = page.locator("#importance .value").all_inner_texts()
    page.select_option("#model", "mien-nano")
    page.wait_for_function(
        "(before) => document.getElementById('importance').innerText && "
        "[...document.querySelectorAll('#importance .value')].some((e, i) => e.textContent !== before[i])",
        arg=values,
    )


def test_uploads_that_are_too_large_are_not_sent(browser: Any, tmp_path: Path) -> None:
    from server import in_thread

    from mien.serving.settings import Limits, Settings

    (tmp_path / "large.png").write_bytes(bytes(3000))
    asked: list[str] = []
    with in_thread(Settings(threads=1, limits=Limits(image_bytes=2000))) as url:
        context = browser.new_context()
        page = watched(context, url, [])
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.wait_for_selector("body[data-ready]")
        page.set_input_files("#files", tmp_path / "large.png")
        page.wait_for_selector("#unreadable")
        assert page.inner_text("#unreadable-name") == "large.png"
        assert not any("/v1/predict" in each for each in asked)
        context.close()


def test_a_video(open_page: Any, read: Recognizer, film: Path) -> None:
    page = open_page(accept_downloads=True)
    page.set_input_files("#files", film)
    done(page)
    assert page.is_visible("#track") and page.get_attribute("#track", "role") == "slider"
    page.focus("#track")
    page.keyboard.press("End")
    page.wait_for_function(f"() => {NOW} > 1")
    page.wait_for_selector("#kind:text-is('Face 1')")
    page.keyboard.press("Home")
    page.wait_for_function(f"() => {NOW} === 0")
    tall = page.locator("#track").bounding_box()["height"]
    page.click("#show-measures")  # strips of head pose, gaze and action units
    assert page.locator("#track").bounding_box()["height"] < tall / 2
    wanted = [dataclasses.replace(result, source="smile.webm") for _, result in read.stream(film)]
    name, data = saved(page, "csv")
    assert name == "smile.csv"
    equals_the_csv_of_the_command(data, wanted, read, unsmoothed=True)
    name, data = saved(page, "json")
    lines = [json.loads(line) for line in data.decode().splitlines()]
    assert name == "smile.jsonl" and len(lines) == 15 and lines[3]["time"] == pytest.approx(0.3, abs=0.01)
    page.click("#play")
    page.wait_for_function(f"() => {NOW} > 0")


def test_a_broken_video(open_page: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nonsense" * 100)
    page = open_page()
    page.set_input_files("#files", tmp_path / "broken.mp4")
    done(page)
    assert page.inner_text("#unreadable-name") == "broken.mp4" and page.inner_text("#unreadable-reason")


def test_the_camera(open_page: Any, server: Server) -> None:
    page = open_page(permissions=["camera"], accept_downloads=True)
    page.click("#welcome [data-do=camera]")
    page.wait_for_selector("#label:text('happiness')")
    page.wait_for_selector("#live:not([hidden])")  # the first result may arrive before the camera is reported as on
    assert server.url.removeprefix("http://") in page.inner_text("#live")
    page.wait_for_selector("#kind:text('Face ')")
    middle = page.wait_for_function("""() => {
      const frame = document.getElementById("frame").getBoundingClientRect();
      const box = document.querySelector("#overlay .face rect")?.getBoundingClientRect();
      return box && (box.left + box.width / 2 - frame.left) / frame.width;
    }""")  # in one call: each result repaints the boxes
    assert middle.json_value() == pytest.approx(1 - 0.457, abs=0.03), "the image is mirrored, and so is the box"
    page.wait_for_function(f"() => {NOW} > 1.5")
    page.click("#camera")
    assert not page.is_visible("#live")
    assert page.locator("#strip .name").all_inner_texts() == ["Recording 1"] and page.is_visible("#image")
    name, data = saved(page, "json")
    times = [json.loads(line)["time"] for line in data.decode().splitlines()]
    assert name == "Recording 1.jsonl" and times == sorted(times) and times[-1] > 1.5
    page.focus("#track")
    page.keyboard.press("End")
    page.wait_for_function(f"() => {NOW} > 1.5")
    assert page.locator("#overlay .face").count() == 1


def test_themes(open_page: Any) -> None:
    page = open_page(color_scheme="dark")
    paper = lambda: page.evaluate("() => getComputedStyle(document.body).backgroundColor")  # noqa: E731
    dark = paper()
    page.click("#theme")
    assert paper() != dark and "light" in page.inner_text("#theme-name")
    page.click("#theme")
    assert paper() == dark and page.get_attribute("html", "data-theme") == "dark"
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.get_attribute("html", "data-theme") == "dark"


def test_a_phone(open_page: Any, sample: Path) -> None:
    page = open_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page.set_input_files("#files", sample)
    done(page)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    stage, reading = page.locator("#stage").bounding_box(), page.locator("#inspector").bounding_box()
    assert reading["y"] > stage["y"] + stage["height"] and reading["width"] > 320
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        kind = button.get_attribute("class") or ""
        assert box["height"] >= 36 or "link" in kind or "remove" in kind, button.inner_text()


def test_by_keyboard_alone(open_page: Any) -> None:
    """From the top: the sample, its landmarks, the card and back."""
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"

    def tab_to(what: str) -> None:
        for _ in range(40):
            if page.evaluate("(what) => document.activeElement.matches(what)", what):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not reach {what}")

    tab_to("[data-do=sample]")
    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    page.wait_for_selector("#label:text('happiness')")
    tab_to("#show-points")
    page.keyboard.press("Space")
    assert page.get_attribute("#show-points", "aria-pressed") == "true"
    tab_to(".fine .link")
    page.keyboard.press("Enter")
    assert page.is_visible("#card") and "Not for decisions about people" in page.inner_text("#card")
    measured = [each.value for each in cards.load("mien-base").measured if each.split == "test"]
    assert measured and all(f"{value:.3f}" in page.inner_text("#card") for value in measured)
    page.keyboard.press("Escape")
    page.wait_for_selector("#card", state="hidden")


def test_everything_has_a_name(open_page: Any, sample: Path) -> None:
    page = open_page()
    page.set_input_files("#files", sample)
    done(page)
    unnamed = page.evaluate("""() => [...document.querySelectorAll("button, select, input:not([hidden]), [role]")]
      .filter((e) => !e.hidden && !(e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.textContent.trim()
        || e.labels?.length || e.title || e.getAttribute("role") === "status" || e.getAttribute("role") === "alert"))
      .map((e) => e.outerHTML)""")
    assert unnamed == []
    assert page.locator("[aria-live=polite]").count() == 1 and page.get_attribute("html", "lang") == "en"


def test_a_token_is_required(browser: Any, sample: Path) -> None:
    from server import running

    with running(MIEN_TOKEN="open") as guarded:
        context = browser.new_context()
        page = watched(context, guarded.url, [])
        page.goto(guarded.url)
        assert not page.is_visible("#ask-wrong")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#ask-wrong:visible")
        page.fill("#token", "open")
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-ready]")
        page.set_input_files("#files", sample)
        page.wait_for_selector("#label:text('happiness')")
        context.close()


def test_colors_are_those_of_annotated_images() -> None:
    text = (PAGE / "overlay.js").read_text(encoding="utf-8")
    for name, (red, green, blue) in COLORS.items():
        assert f'{name}: "#{red:02x}{green:02x}{blue:02x}"' in text


def test_a_video_that_the_browser_cannot_play(open_page: Any, film: Path, tmp_path: Path) -> None:
    """MPEG-4 part 2: read all the same, and its timeline works."""
    with av.open(str(film)) as clip:
        _write(tmp_path / "old.mp4", [frame.to_image() for frame in clip.decode(video=0)], "mp4", "mpeg4", "yuv420p")
    page = open_page()
    page.set_input_files("#files", tmp_path / "old.mp4")
    done(page)
    page.wait_for_selector("#notice:has-text('cannot play this video')")
    page.focus("#track")
    page.keyboard.press("End")
    page.wait_for_function(f"() => {NOW} > 1")
    assert page.is_visible("#scores")
