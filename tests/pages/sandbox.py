"""A folder in which the examples of the pages run: a photograph, a video, small datasets, trained networks and checkpoints.

Changed for the tests, and nothing else: recipes train one epoch, those that come with mien on eight images, from random
weights where theirs would be fetched, most systems on SFace's trunk; evaluations write no page and take two views,
preparations start no processes, batches two, servers get a free port, and `pip` and `make` are checked, not run.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from blocks import ROOT, Block, commands
from miniatures import MINIATURES, RAFDB, _rafdb, deal
from PIL import Image
from server import Server

from clips import moving, write_clip
from mien import models
from mien.cli import main
from small_networks import BASE, SMALL, save

MINIATURE = {
    "fer2013": "fer2013: fer2013.npz",
    "london": "london: labels.csv and images",
    "affwild2": "affwild2: cropped_aligned and annotations filter=strict",
}
SMALLER = ("--epochs=1", "--batch=4", "--data.limit=8", "--data.validation_limit=4")
ON_SFACE = {"dan", "dda-resnet34", "global-roi", "global-cbam", "mfer"}
"""Architectures that are trained on a small trunk instead of their own."""
ADDRESS = "127.0.0.1:8000"


def furnish(folder: Path, sample: Path) -> Path:
    """Put into a folder what the pages speak of."""
    photo = Image.open(sample).convert("RGB")
    for name in (
        "photo.jpg",
        "a.jpg",
        "b.jpg",
        "mine.jpg",
        "holiday/one.jpg",
        "holiday/two.png",
        "photos/test/happiness/a.png",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.save(path)
    for part in ("train", "val", "test"):
        for number, kind in enumerate(("happiness", "neutral") * 2):
            path = folder / "photos" / part / kind / f"{part}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            side = 200 + 8 * number + 32 * len(part)
            photo.crop((130, 20, 330, 220)).resize((side, side)).save(path)
    write_clip(folder / "clip.mp4", moving(sample, 8))
    for place in ("holiday", "clips"):
        (folder / place).mkdir(exist_ok=True)
        shutil.copy(folder / "clip.mp4", folder / place)
    (folder / "names.txt").write_text("a.jpg\nholiday/two.png\n")
    with tarfile.open(folder / "train-000.tar", "w") as tar:
        tar.add(folder / "b.jpg", "b.jpg")
    for name, miniature in MINIATURE.items():
        MINIATURES[miniature].build(folder / "data" / name)
    _rafdb(folder / "data" / "rafdb", RAFDB, deal(RAFDB, {"train": 10, "test": 1}))  # so that a tenth can be held out
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (folder / "faces").symlink_to("photos")
    (folder / "tokens.txt").write_text("secret\n")
    shutil.copy(ROOT / "src" / "mien" / "assets" / "weights" / "mien-base.onnx", folder / "other.onnx")
    return folder


class Sandbox:
    """Runs the blocks of one page, one after the other, in a furnished folder that is the working folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.server: Server | None = None

    def run(self, block: Block) -> None:
        """Run a block of Python or shell, or write the file that it is the content of."""
        if block.file:
            (self.folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            code = "\n" * (block.line - 1) + block.text
            exec(compile(code, "the page", "exec"), self.names)
        elif block.language == "sh":
            for words in commands(block.text):
                self.command(words)

    def command(self, words: Sequence[str]) -> None:
        """Run one command of a shell block."""
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            self.set(words[0])
            words = words[1:]
        match list(words):
            case []:
                pass
            case ["export", *settings]:
                for each in settings:
                    self.set(each)
            case ["cd", target]:
                assert (ROOT.parent / target).exists() or target == "mien"
            case ["mien", "serve", *rest]:
                self.serve(rest)
            case ["mien", *rest]:
                self.mien(rest)
            case ["pip", "install", *what]:
                installable(what)
            case ["make", *targets]:
                makeable(targets)
            case ["curl", *rest]:
                self.curl(rest)
            case ["python", script]:
                runpy.run_path(script, run_name="__main__")
            case _:
                raise AssertionError(f"the sandbox does not know how to run {words[0]!r}; mark the block with a reason")

    def set(self, setting: str) -> None:
        """Set a variable of the environment until the page ends."""
        name, _, value = setting.partition("=")
        os.environ[name] = value

    def mien(self, words: Sequence[str]) -> None:
        """Run a verb in this process."""
        self.supply(words)
        words = [entry for word in words for entry in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
        if words[0] == "train":
            recipe = Path(words[1]) if words[1].startswith("recipes/") else Path("recipes", f"{words[1]}.toml")
            words += smaller(recipe) if recipe.is_file() else ["--epochs=1"]
        if words[0] == "explain" and "--dataset" in words:
            words = ["mien-nano" if word == "mien-base" else word for word in (*words, "--per-class=1")]  # much faster
        if words[0] == "prepare" and "annotations" not in words:
            words += ["--workers=1"]
        if words[0] == "batch":
            if "--workers" in words:
                del words[(at := words.index("--workers")) : at + 2]
            words += ["--workers=2"]
        if "--tta" in words:
            words[words.index("--tta") + 1] = "2"
        if words[0] == "verify" and "fer2013" in words and not any(word.startswith("--claim") for word in words):
            words += ["--claim=accuracy=60"]  # the card's claims are about all images of the split
        if words[0] == "evaluate" and "--no-page" not in words:
            words += ["--no-page"]
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            try:
                status = main(words)
            except SystemExit as ended:
                status = ended.code
        # A miniature is full of images that look alike, and has other figures than the card claims.
        found = words[0] in ("audit", "verify") and status == 1 and not re.search(r"^mien: ", said.getvalue(), re.MULTILINE)
        assert status in (0, None) or found, f"mien {' '.join(words)} ended with {status}: {said.getvalue()}"

    def supply(self, words: Sequence[str]) -> None:
        """Put a small network where a command expects that a run was finished, and a checkpoint where authors gave one."""
        if words[0] in ("train", "--help"):
            return
        if words[0] == "import":
            if not Path(words[2]).exists():
                network = models.build(words[1], num_classes=8 if "affecnet8" in words[2] else 7)
                torch.save({"model_state_dict": network.state_dict()}, words[2])
            return
        for word in (each.replace("*", "1") for each in words):
            weights = word.endswith(".safetensors")
            if (weights or re.fullmatch(r"runs/[\w./-]+", word)) and not Path(word).exists():
                trained(Path(word).with_suffix("") if weights else Path(word))
                if weights:
                    card = (Path(word).with_suffix("") / "best.toml").read_text()
                    Path(word).with_suffix(".toml").write_text(card.replace("best.safetensors", Path(word).name))
                    shutil.copy(Path(word).with_suffix("") / "best.safetensors", word)

    def serve(self, words: Sequence[str]) -> None:
        """Start a real server, in place of one before."""
        self.close()
        with contextlib.suppress(ValueError):
            at = list(words).index("--host")
            words = [*words[:at], *words[at + 2 :]]
        self.server = Server(*words)

    def curl(self, words: Sequence[str]) -> None:
        """Ask the server with the real curl."""
        if self.server is None:
            self.server = Server()
        place = self.server.url.removeprefix("http://")
        words = [word.replace(ADDRESS, place).replace("JOB", self.names.get("job", "JOB")) for word in words]
        done = subprocess.run(["curl", "--silent", "--show-error", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "urn:mien:problem" not in done.stdout, done.stdout
        if found := re.search(r"/v1/jobs/([\w-]+)", done.stdout):
            self.names["job"] = found[1]

    def close(self) -> None:
        """End the server, if there is one."""
        if self.server is not None:
            self.server.stop()
            self.server = None


@contextlib.contextmanager
def at_work(folder: Path) -> Iterator[Sandbox]:
    """A sandbox whose folder is the working folder; afterwards nothing of the page is left in this process."""
    before, path, environment, modules = Path.cwd(), list(sys.path), dict(os.environ), set(sys.modules)
    sandbox = Sandbox(folder)
    os.chdir(folder)
    try:
        yield sandbox
    finally:
        sandbox.close()
        os.chdir(before)
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(environment)
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", None)).startswith(str(folder)):
                del sys.modules[name]


def trained(folder: Path) -> None:
    """Write what a finished run leaves, with a small network."""
    card = save(folder, "mien-base", SMALL, **BASE).with_suffix(".toml")
    card.write_text(card.read_text().replace('name = "mien-base"', f'name = "{str(folder).replace("/", "-")}"', 1))


def smaller(recipe: Path) -> list[str]:
    """Return the fields that make a recipe end within seconds, without network."""
    whole = tomllib.loads(recipe.read_text(encoding="utf-8"))
    model = whole["model"]
    options = model.get("options", {})
    fetched = [f"--model.options.{name}=false" for name in options if name.endswith("pretrained")]
    files = [f"--model.options.{name}=" for name, value in options.items() if str(value).startswith("weights/")]
    fields = [*SMALLER, *fetched, *files]
    if model.get("init", {}).get("file", "").startswith("weights/"):
        fields.append("--model.init.file=")
    if whole.get("sampler", {}).get("samples"):
        fields.append("--sampler.samples=8")
    if model["name"] in ON_SFACE:  # the recipe's own networks take their steps in tests/training/test_recipes.py
        fields += ["--model.options.backbone=sface", "--input.size=48", "--input.color=gray", "--input.normalize=half"]
        fields += [f"--input.regions.{region}=24" for region in whole.get("input", {}).get("regions", {})]
    if model["name"] == "poster":
        fields += ["--model.options.size=96", "--input.size=96"]
    return fields


def installable(words: Sequence[str]) -> None:
    """Assert that what is to be installed is this package, with extras that it has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        found = re.fullmatch(r"(?:mien|\.)(?:\[(.+)\])?", word)
        assert found or word == "-e", f"pip install {word}: what is that?"
        for extra in filter(None, ((found and found[1]) or "").split(",")):
            assert extra in project["optional-dependencies"], f"there is no extra {extra}"


def makeable(words: Sequence[str]) -> None:
    """Assert that the Makefile has these targets and variables."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, _, value = word.partition("=")
        assert re.search(rf"^{name} \?=" if value else rf"^{name}:", text, re.MULTILINE), f"make knows no {word}"
