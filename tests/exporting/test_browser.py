"""`examples/browser` in a real browser: the same probabilities as mien gives, from files with and without preparation inside.

Served as its README says. onnxruntime-web comes from npm, once a run, into a temporary folder; without npm, Chromium or
Playwright the tests are skipped visibly.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import gzip
import importlib.resources
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import mien
from browsers import NEEDED, camera, chromium, watched
from mien.cards import Input
from mien.exporting import export
from mien.faces.alignment import warp
from mien.faces.preprocessing import Preprocess
from mien.io.files import locked
from mien.io.images import read_image
from mien.runtime.onnx import OnnxRuntime

pytestmark = NEEDED
EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"
ASSETS = Path(str(importlib.resources.files("mien") / "assets"))
FORMS = ("as it is", "raw input")
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""What a page needs of onnxruntime-web: 14 MB of the 33 that npm fetches."""


@pytest.fixture(scope="session")
def onnxruntime_web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version in package.json."""
    if (npm := shutil.which("npm")) is None:
        pytest.skip("npm is absent: apt-get install npm")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "onnxruntime-web"
    folder.mkdir(exist_ok=True)
    with locked(folder, wait=True):  # by one process of the suite
        if not all((folder / "dist" / name).is_file() for name in FILES):
            _fetch(npm, folder)
    return folder


def _fetch(npm: str, folder: Path) -> None:
    version = json.loads((EXAMPLE / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    line = [npm, "pack", f"onnxruntime-web@{version}", "--prefer-offline", "--silent", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=300)
        told = (done.stderr or done.stdout).strip()
    except subprocess.TimeoutExpired:
        told = "npm took more than five minutes"
    archives = list(folder.glob("*.tgz"))
    if not archives:
        pytest.skip(f"npm has no onnxruntime-web {version} here: {told[:200]}")
    with tarfile.open(archives[0]) as archive:
        for name in FILES:
            member = archive.getmember(f"package/dist/{name}")
            member.name = f"dist/{name}"
            archive.extract(member, folder, filter="data")
    archives[0].unlink()


@pytest.fixture(scope="module")
def site(onnxruntime_web: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder as a user has it after the README's commands, and where it is served."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "*.onnx"))
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "onnxruntime-web").symlink_to(onnxruntime_web)
    export("mien-nano", folder / "face.onnx")
    for name in ("blazeface.onnx", "mesh468.onnx"):
        shutil.copy(ASSETS / "weights" / name, folder)
    line = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        port = re.search(r"port (\d+)", process.stdout.readline())
        assert port is not None
        yield folder, f"http://127.0.0.1:{port[1]}/"
        process.terminate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """With a fake camera that shows the bundled photo."""
    feed = tmp_path_factory.mktemp("feed") / "camera.mjpeg"
    scene = Image.new("RGB", (640, 480), "gray")
    scene.paste(Image.open(mien.sample()).convert("RGB").resize((480, 480)), (80, 0))
    with av.open(str(feed), "w", format="mjpeg") as film:
        stream = film.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        for _ in range(5):
            film.mux(stream.encode(av.VideoFrame.from_image(scene).reformat(format="yuvj420p")))
        film.mux(stream.encode(None))
    with chromium(*camera(feed)) as browser:
        yield browser


@pytest.fixture
def open_page(browser: Any, site: tuple[Path, str]) -> Iterator[Callable[..., Any]]:
    """Opens the page in a fresh context and waits for its network; nothing may have gone wrong in it."""
    contexts, wrong = [], []

    def opened(status: str = "Choose an image", *, allow: str = "", **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        page = watched(contexts[-1], site[1], wrong)
        if allow:
            page.route(allow, lambda route: route.fulfill(status=404))
        page.goto(site[1])
        says(page, status)
        return page

    opened.wrong = wrong  # type: ignore[attr-defined]
    yield opened
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture(scope="module")
def images(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bundled photograph's face: cut as the card says, and as a square window of other size."""
    folder, photo = tmp_path_factory.mktemp("images"), read_image(sample).pixels
    recognizer = mien.load("mien-nano")
    (face,) = recognizer(sample).faces
    aligned = warp(photo, Preprocess.of(recognizer.card).matrix(np.asarray(face.points)), 48)
    for name, pixels in {"aligned": aligned, "window": photo[60:210, 180:330]}.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def networks(site: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    raw = tmp_path_factory.mktemp("networks") / "raw.onnx"
    export("mien-nano", raw, raw_input=True)
    return {"as it is": site[0] / "face.onnx", "raw input": raw}


def says(page: Any, text: str) -> None:
    page.wait_for_selector(f"#status:has-text({json.dumps(text, ensure_ascii=False)})")


def shown(page: Any) -> dict[str, float]:
    return page.evaluate("() => Object.fromEntries([...document.querySelectorAll('meter')].map((e) => [e.ariaLabel, e.value]))")


@functools.cache
def reader() -> Callable[..., Any]:
    return mien.load("mien-nano", detector="whole", points=False, blendshapes=False)


def wanted(image: Path | np.ndarray) -> dict[str, float]:
    (face,) = reader()(image).faces
    return dict(face.scores)


@pytest.mark.parametrize("form", FORMS)
def test_the_page_gives_the_probabilities_of_mien(
    form: str, open_page: Any, networks: dict[str, Path], images: dict[str, Path], sample: Path
) -> None:
    page = open_page()
    says(page, "mien-nano is open")
    page.set_input_files("#image", images["aligned"])
    says(page, "48 × 48 pixels")  # with the network that lay beside the page
    page.set_input_files("#network", networks[form])
    says(page, "48 × 48 pixels")
    found = shown(page)
    assert found == pytest.approx(wanted(images["aligned"]), abs=1e-4)
    (face,) = mien.load("mien-nano")(sample).faces
    assert found == pytest.approx(dict(face.scores), abs=1e-4), "and of the whole photograph"
    assert (
        list(found.values()) == sorted(found.values(), reverse=True) and page.inner_text("#label") == face.label == "happiness"
    )
    assert "Not for decisions about people" in page.inner_text("#fine")
    page.set_input_files("#image", images["window"])
    says(page, "150 × 150 pixels")
    assert shown(page) == pytest.approx(wanted(images["window"]), abs=1e-4)


def test_a_square_is_marked_and_left_again(open_page: Any, sample: Path) -> None:
    page = open_page()
    page.set_input_files("#image", sample)
    says(page, "512 × 512 pixels")
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    at = lambda x, y: (box["x"] + box["width"] * x / 512, box["y"] + box["height"] * y / 512)  # noqa: E731
    page.mouse.move(*at(330, 210))
    page.mouse.down()
    page.mouse.move(*at(200, 100))
    page.mouse.move(*at(180, 70))
    page.mouse.up()
    says(page, "× 150 pixels")
    assert "150 × 150 pixels at 180, 60 are the input" in page.get_attribute("#canvas", "aria-label")
    photo = np.ascontiguousarray(read_image(sample).pixels[60:210, 180:330])
    assert shown(page) == pytest.approx(wanted(photo), abs=1e-4)
    page.click("#whole")
    says(page, "512 × 512 pixels")
    assert shown(page) == pytest.approx(wanted(sample), abs=1e-4)


def test_uncertain_faces_are_called_so_and_transparent_parts_are_white(open_page: Any, tmp_path: Path) -> None:
    image = Image.new("RGBA", (60, 60), "teal")
    image.paste((200, 0, 0, 0), (0, 0, 60, 30))
    image.save(tmp_path / "plain.png")
    page = open_page()
    page.set_input_files("#image", tmp_path / "plain.png")
    says(page, "60 × 60 pixels")
    (face,) = reader()(tmp_path / "plain.png").faces
    assert not face.certain and page.inner_text("#label") == f"Uncertain; nearest is {face.label}"
    assert shown(page) == pytest.approx(dict(face.scores), abs=1e-4)


def test_what_cannot_be_read_is_said(
    open_page: Any, images: dict[str, Path], networks: dict[str, Path], tmp_path: Path
) -> None:
    page = open_page()
    for name, content, status in (
        ("cut.onnx", networks["raw input"].read_bytes()[:-100], "not an ONNX file, or it is cut short"),
        ("text.onnx", b"", "no card"),
        ("mesh.onnx", (ASSETS / "weights" / "mesh468.onnx").read_bytes(), "no"),
    ):
        (tmp_path / name).write_bytes(content)
        page.set_input_files("#network", tmp_path / name)
        says(page, status)
        assert page.get_attribute("#status", "data-wrong") is not None
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    page.set_input_files("#image", tmp_path / "broken.png")
    says(page, "broken.png is not an image")
    page.set_input_files("#image", images["aligned"])  # with the network from before
    says(page, "48 × 48 pixels")
    assert page.get_attribute("#status", "data-wrong") is None


@pytest.mark.parametrize(("absent", "status"), [("**/face.onnx", "face.onnx is missing"), ("**/*.mjs", "npm install")])
def test_what_is_absent_is_said(absent: str, status: str, open_page: Any) -> None:
    page = open_page(status, allow=absent)
    assert page.is_disabled("#image")
    (error,) = open_page.wrong
    assert "404" in error
    open_page.wrong.clear()


def test_a_phone_and_the_policy(open_page: Any, sample: Path) -> None:
    page = open_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page.set_input_files("#image", sample)
    says(page, "512 × 512 pixels")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("""() => {
      addEventListener("securitypolicyviolation", (event) => (document.body.dataset.refused = event.effectiveDirective));
      fetch("https://elsewhere.invalid/").catch(() => {});
    }""")
    page.wait_for_selector("body[data-refused='connect-src']")
    assert open_page.wrong and all("elsewhere.invalid" in each for each in open_page.wrong)
    open_page.wrong.clear()


INPUTS = [
    Input(size=(48, 48), color="gray"),
    Input(size=(64, 64), scale=1 / 255, offset=(-0.485, -0.456, -0.406), std=(0.229, 0.224, 0.225)),
    Input(size=(30, 30), color="bgr", layout="NHWC", scale=1.0, offset=(-104.0, -117.0, -123.0)),
]


def test_preparation_is_that_of_the_card(open_page: Any) -> None:
    page = open_page()
    for contract, size in itertools.product(INPUTS, (20, 48, 151)):
        noise = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
        preprocess = Preprocess(contract)
        expected = preprocess.batch([preprocess.take(noise)])
        assert isinstance(expected, np.ndarray)
        kind, values, shape = page.evaluate(
            """async ([text, size, contract]) => {
              const { prepared } = await import("./reader.js"), data = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
              const [kind, values, shape] = prepared({ width: size, height: size, data }, contract);
              return [kind, [...values], shape];
            }""",
            [
                base64.b64encode(noise.tobytes()).decode(),
                size,
                {k: v for k, v in dataclasses.asdict(contract).items() if v != ()},
            ],
        )
        assert (kind, tuple(shape)) == ("float32", expected.shape)
        assert values == expected.ravel().tolist(), (contract, size)  # bit for bit: 8-bit networks round what they are fed


AWKWARD = r'''
# a comment
"quoted key" = 'C:\path' # another
text = "tab\t, quote \", snow \u2603, é"
long = """
first \
  second "third"
fourth"""
numbers = [ 1, -2.5e-3, 1_000, +7, # inside
]
empty = []
truth = true
inline = { a = 1, b.c = ["x", { d = false }] }
[table.inner]
__proto__ = 1
[table]
after = "x # y"
[[rows]]
n = 1
[rows.more]
m = 2
[[rows]]
n = 3
'''


def test_cards_are_read_as_tomllib_reads_them(open_page: Any, networks: dict[str, Path]) -> None:
    page = open_page()
    texts = [AWKWARD, *(path.read_text() for path in sorted((ASSETS / "cards").glob("*.toml")))]
    wrong = ["a = ", "a = 2026-11-24", "a = 0x1F", "= 1", "[a", 'a = "\n"', "a = [1 2]"]
    inside, found, told = page.evaluate(
        """async ([texts, wrong]) => {
          const { metadata, toml } = await import("./reader.js"), answer = await fetch("face.onnx");
          const error = (text) => { try { toml(text); return ""; } catch (error) { return error.message; } };
          const read = (text) => JSON.stringify(toml(text)), bytes = new Uint8Array(await answer.arrayBuffer());
          return [metadata(bytes), texts.map(read), wrong.map(error)];
        }""",
        [texts, wrong],
    )
    assert inside == OnnxRuntime(networks["as it is"]).metadata
    assert [json.loads(each) for each in found] == [tomllib.loads(each) for each in texts]
    assert all("cannot be read" in each for each in told), told


# ── faces.html ──

RECOGNIZE = """async (address) => {
  const { load, recognize } = await import("./faces.js");
  const networks = window.networks ??= await load(), blob = await (await fetch(address)).blob();
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const faces = await recognize(networks, bitmap, bitmap.width, bitmap.height);
  return faces.map(({ box, scores }) => [box, Object.fromEntries(scores)]);
}"""


def overlap(one: Any, other: Any) -> float:
    """IoU of two boxes (left, top, right, bottom)."""
    width, height = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    inside = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return inside / (sum(areas) - inside)


def test_faces_are_those_of_python(browser: Any, site: tuple[Path, str], sample: Path, shared: Path) -> None:
    """The same labels and nearly the same probabilities on photos with one face; the canvas resamples otherwise."""
    photos = [sample, *(shared / "data/london/images" / name for name in ("013_08.jpg", "026_03.jpg"))]
    read, wrong = mien.load("mien-nano", points=True, blendshapes=False), []
    context = browser.new_context()
    page = watched(context, site[1], wrong)
    page.goto(f"{site[1]}faces.html")
    says(page, "Ready")
    for photo in photos:
        Image.open(photo).convert("RGB").save(site[0] / f"{photo.stem}.png")
        [wanted] = read(site[0] / f"{photo.stem}.png").faces
        [(box, scores)] = page.evaluate(RECOGNIZE, f"{photo.stem}.png")
        assert wanted.points is not None
        mesh = [*wanted.points[:468, :2].min(0), *wanted.points[:468, :2].max(0)]
        assert overlap(box, mesh) > 0.9
        assert max(scores, key=scores.__getitem__) == wanted.label and scores == pytest.approx(dict(wanted.scores), abs=0.12)
    Image.new("RGB", (300, 200), "teal").save(site[0] / "blank.png")
    assert page.evaluate(RECOGNIZE, "blank.png") == []
    page.set_input_files("#image", sample)
    says(page, "One face in")
    assert "happiness" in page.inner_text("#faces")
    context.close()
    assert not wrong


def test_a_camera(browser: Any, site: tuple[Path, str]) -> None:
    wrong: list[str] = []
    context = browser.new_context(permissions=["camera"])
    page = watched(context, site[1], wrong)
    page.goto(f"{site[1]}faces.html")
    says(page, "Ready")
    page.click("#camera")
    says(page, "frames per second")
    page.wait_for_selector("#faces li:has-text('happiness')")
    page.click("#camera")
    page.wait_for_selector("#camera:has-text('Start')")
    context.close()
    assert not wrong


def test_the_pages_and_networks_are_small(site: tuple[Path, str]) -> None:
    """At most 10 MB as a web server sends them, compressed."""
    folder = site[0]
    files = [path for path in folder.iterdir() if path.suffix in (".html", ".js", ".css", ".onnx")]
    files += [folder / "node_modules/onnxruntime-web/dist" / name for name in FILES]
    assert sum(len(gzip.compress(path.read_bytes(), 6)) for path in files) < 10_000_000
