"""Regenerate the images of the documentation.

    python tools/images.py [NAME …] [--data ../shared/data] [--mermaid mermaid.min.js]

Faces are those of the bundled sample (NASA, public domain) and of the Face Research Lab London Set (DeBruine & Jones 2017, CC
BY 4.0); of FER2013 only features are shown. `report` and `diagrams` need Chromium, `diagrams` also Mermaid from npm. The web
page of `mien serve` has a tool of its own, `tools/page_images.py`.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

import mien
from mien.data.preparation import contact_sheet
from mien.evaluation.embeddings import embed, plot, write_figure
from mien.explaining import explain
from mien.explaining.strips import strips_per_class
from mien.faces.pose import canonical_face
from mien.io.images import read_image
from mien.types import Pose, points68
from mien.visualization.faces import AXES, EYEBALLS, NOSE
from site_hooks import DIAGRAMS, MERMAID, digest, generated

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "images"
PEOPLE = ("010_08", "018_08", "024_08", "025_08", "006_03", "042_03", "008_03", "030_03")
"""Eight people of the London set, four smiling and four neutral."""
CROPS = ("arcface112", "ddamfn5", "dlib-chip", "fer2013-like")
MERMAID_OPTIONS = (
    "{startOnLoad: false, theme: 'neutral', deterministicIds: true, htmlLabels: false, flowchart: {htmlLabels: false}}"
)


def sample(data: Path, folder: Path) -> None:
    """Draw the prediction for the bundled photo."""
    drawn = mien.draw(mien.sample(), mien.load()(mien.sample()))
    save(drawn.resize((640, 640), Image.Resampling.LANCZOS).quantize(256), "sample.png")


def signs(data: Path, folder: Path) -> None:
    """Draw the canonical face with each angle of head pose and gaze at a positive value, and the axes of the position."""
    import matplotlib.pyplot as plt

    points = canonical_face()[0]
    panels = {
        "all angles 0": (Pose(0, 0, 0, 0, 0, -60), (0, 0)),
        "pitch +25°: down": (Pose(25, 0, 0, 0, 0, -60), (0, 0)),
        "yaw +30°: to the image's right": (Pose(0, 30, 0, 0, 0, -60), (0, 0)),
        "roll +25°: counterclockwise": (Pose(0, 0, 25, 0, 0, -60), (0, 0)),
        "gaze yaw +30°: to the image's right": (Pose(0, 0, 0, 0, 0, -60), (30, 0)),
        "gaze pitch +25°: down": (Pose(0, 0, 0, 0, 0, -60), (0, 25)),
    }
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 7.6), layout="constrained")
    for axis, (title, (pose, gaze)) in zip(axes.flat, panels.items(), strict=True):
        face = pose.project(np.concatenate([points68_of(points), points[[468, 473]]]), 640, 640)
        for part, closed in PARTS:
            path = face[[*part, *part[:1]] if closed else [*part]]
            axis.plot(*path.T, color="#39424e", linewidth=1.6)
        axis.plot(*face[68:].T, "o", color="#39424e", markersize=5)
        for name, direction, ink in AXES:
            start, end = pose.project(np.stack([NOSE, NOSE + direction]), 640, 640)
            axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": np.array(ink) / 300, "linewidth": 2})
            if title == "all angles 0" and name != "z":
                axis.text(*(end + (end - start) * 0.12), name, color=np.array(ink) / 300, ha="center", va="center")
        if title.startswith("gaze"):
            yaw, pitch = np.radians(gaze)
            ray = 9 * np.array([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
            for eye in EYEBALLS.values():
                start, end = pose.project(np.stack([eye, eye + ray]), 640, 640)
                axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "#b8860b", "linewidth": 2})
        axis.set_title(title, fontsize=11)
        axis.set(xlim=(195, 445), ylim=(455, 205), aspect="equal", xticks=[], yticks=[])
        for side in axis.spines.values():
            side.set_color("#c4c9d0")
    axes[0, 0].set_xlabel("x: the person's left · y: up · z: out of the image")
    figure.savefig(folder / "signs.png", dpi=110)
    save(Image.open(folder / "signs.png").convert("RGB").quantize(64), "signs.png")


def points68_of(points: np.ndarray) -> np.ndarray:
    """Return (68, 3) of a mesh (478, 3): the view gives x and y, and with them exchanged for z, depth."""
    return np.concatenate([points68(points), points68(points[:, [2, 1, 0]])[:, :1]], 1)


PARTS = (
    (range(17), False), (range(17, 22), False), (range(22, 27), False), (range(27, 31), False), (range(31, 36), False),
    (range(36, 42), True), (range(42, 48), True), (range(48, 60), True), (range(60, 68), True),
)  # fmt: skip
"""Lines through the 68 landmarks, and whether they are closed."""


def timeline(data: Path, folder: Path) -> None:
    """Draw the timeline of a video of four people, each turning from neutral to a smile."""
    clip, path = data / "video" / "london_crossfade_neutral_happy.mp4", folder / "timeline.png"
    run("predict", clip, "--jsonl", folder / "rows.jsonl", "--timeline", path)
    save(Image.open(path).convert("RGB").quantize(128), "timeline.png")


def prepared(data: Path, folder: Path) -> None:
    """Lay out the aligned faces of eight people and the facial regions of two."""
    for name in PEOPLE:
        target = folder / "photos" / "test" / ("happiness" if name.endswith("_08") else "neutral") / f"{name}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "london" / "images" / f"{name}.jpg", target)

    def image(where: str, name: str, part: str = "") -> np.ndarray:
        (path,) = (each for each in (folder / where).rglob(f"{name}.*") if part in str(each.relative_to(folder)))
        return read_image(path).pixels

    source = ("--dataset", "folder", "--root", folder / "photos", "--workers", 1)
    cells = []
    for crop in CROPS:
        run("prepare", "align", *source, "--crop", crop, "--out", folder / crop)
        cells += [(crop, image(crop, name)) for name in PEOPLE]
    run("prepare", "regions", *source, "--out", folder / "regions")
    for name in (PEOPLE[0], PEOPLE[-1]):
        cells += [(f"roi/{region}", image("regions", name, f"roi/{region}")) for region in ("eye", "nose", "mouth")]
    save(contact_sheet(cells, side=88, columns=len(PEOPLE)), "prepared.jpg", quality=88)


def report(data: Path, folder: Path) -> None:
    """Take screenshots of an evaluation report, wide and light beside narrow and dark."""
    run("evaluate", "mien-base", "--dataset", "london", "--root", data / "london", "--out", folder / "london")
    url = (folder / "london" / "report.html").as_uri()
    shots = [screenshot(url, folder / f"{width}.png", width, 3010, dark) for width, dark in ((1120, False), (400, True))]
    gap = np.full((3010, 24, 3), 255, np.uint8)
    both = Image.fromarray(np.concatenate([np.asarray(shots[0]), gap, np.asarray(shots[1])], 1))
    save(both.resize((both.width * 2 // 3, both.height * 2 // 3), Image.Resampling.LANCZOS).quantize(128), "report.png")


def explained(data: Path, folder: Path) -> None:
    """Explain the bundled photo and five people of each class, and average the importance of facial regions."""
    recognizer, london = mien.load("mien-base", blendshapes=False), mien.open_dataset("london", data / "london", "all")
    explain(recognizer, mien.sample()).save(FOLDER / "explained.jpg")
    save(strips_per_class(recognizer, london, 5, faces="detect", seed=1), "explained-classes.jpg", quality=88)
    rows = []
    for label in (name for name, count in london.counts.items() if count):
        chosen = [london[int(i)].image for i in np.flatnonzero(london.label == london.labels.index(label))]
        found = [explain(recognizer, image, label=label, method="occlusion").regions for image in chosen]
        names = list(found[0])
        means = [f"{-np.mean([regions[name] for regions in found]):+.3f}" for name in names]
        rows.append(
            {"photos": label, "model": recognizer.card.name, "faces": len(found), **dict(zip(names, means, strict=True))}
        )
    with (ROOT / "benchmarks" / "regions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def features(data: Path, folder: Path) -> None:
    """Plot the features of both bundled classifiers on FER2013's validation split."""
    validation, path = mien.open_dataset("fer2013", data / "fer2013", "validation"), folder / "features.png"
    names = ("mien-base", "mien-nano")
    write_figure(
        plot([embed(name, validation, limit=1500) for name in names], titles=[f"{name}, scores" for name in names]), path
    )
    image = Image.open(path).convert("RGB")
    save(image.resize((image.width * 2 // 3, image.height * 2 // 3)), "features.png")


def diagrams(script: Path) -> None:
    """Draw the Mermaid diagrams of all pages as SVG and delete the drawings that no page uses."""
    pages = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md"))]
    codes = {digest(found[1]): found[1] for page in pages for found in MERMAID.finditer(generated(page))}
    DIAGRAMS.mkdir(exist_ok=True)
    for old in DIAGRAMS.glob("*.svg"):
        if old.stem not in codes:
            old.unlink()

    def draw(page: Page) -> None:
        page.add_script_tag(path=script)
        page.evaluate(f"mermaid.initialize({MERMAID_OPTIONS})")
        for name, code in codes.items():
            svg = page.evaluate("([name, code]) => mermaid.render(name, code).then(made => made.svg)", [f"d{name}", code])
            # A blank line would end the HTML block in a Markdown page.
            (DIAGRAMS / f"{name}.svg").write_text(re.sub(r"\s*\n\s*", " ", svg) + "\n", encoding="utf-8")

    browse(draw)


def screenshot(url: str, path: Path, width: int, height: int, dark: bool) -> Image.Image:
    """Return what Chromium shows of a page."""

    def take(page: Page) -> None:
        page.goto(url)
        page.screenshot(path=path)

    browse(take, viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light")
    return Image.open(path).convert("RGB")


def browse(act: Callable[[Page], None], **options: object) -> None:
    """Call a function with a page of the system's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        act(browser.new_page(**options))  # pyrefly: ignore
        browser.close()


def save(image: Image.Image, name: str, **options: int) -> None:
    """Write an image of the documentation."""
    image.save(FOLDER / name, optimize=True, **options)
    print(f"{name}: {(FOLDER / name).stat().st_size / 1000:.0f} kB")


def run(*arguments: object) -> None:
    """Run `mien …`."""
    print("mien", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "mien", *map(str, arguments)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


IMAGES: dict[str, Callable[[Path, Path], None]] = {
    "sample": sample, "timeline": timeline, "prepared": prepared, "report": report, "explained": explained,
    "features": features, "signs": signs,
}  # fmt: skip


def main() -> None:
    """Make the images that the arguments name, by default all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*IMAGES, "diagrams", []])
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of london, video and fer2013"
    )
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
