"""Make a pseudo-labeled multi-task set of real FER2013 faces: expression, valence and arousal, twelve action units.

    python tools/make_multitask_fer2013.py --root ../shared/data/fer2013 --out /data/fer2013-multitask

s-Aff-Wild2, on which multi-task networks were published, is not to be had by everybody. This set has the same kinds of labels
on images that are. **Only the expressions are people's judgment.** Valence, arousal and action units are computed; a figure
on them says how well a network learns the rules below, not how well it reads affect. Nothing is random: the same images give
the same files. About six minutes of one core; the blendshapes are kept in the cache, so that a second time is quick.

* Expression: the winner of the ten votes of FERPlus by Microsoft's majority rule, in eight classes (`mien.labels.FERPLUS`,
  which has contempt where Aff-Wild2 has "other"); no label where the rule gives none.
* Valence and arousal: the mean of `CENTERS` over the votes that fell on one of the eight classes; no label where these are
  fewer than half.
* Action units: a unit is present where the blendshapes of `UNITS` (from the 478-point mesh) are strong, absent where they
  are weak, and not labeled between. Both limits are quantiles over the Training faces, so that a stated share has the unit.
* Where the mesh sees no face, there are neither action units nor valence and arousal: frames are partly labeled, as those of
  Aff-Wild2 are.

Splits are FER2013's own. Training images that also occur in another split are left out.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fer2013_arrays import open_arrays
from mien.data.datasets import ferplus, open_dataset
from mien.data.datasets.cache import file_digest, mapped
from mien.data.datasets.fer2013 import SPLITS
from mien.errors import ConfigError
from mien.faces.landmarks import Blendshapes, Landmarker
from mien.labels import BLENDSHAPES, FERPLUS

CENTERS = {
    "neutral": (0.0, 0.0),
    "happiness": (0.81, 0.51),
    "surprise": (0.40, 0.67),
    "sadness": (-0.63, -0.27),
    "anger": (-0.51, 0.59),
    "disgust": (-0.60, 0.35),
    "fear": (-0.64, 0.60),
    "contempt": (-0.40, 0.20),
}
"""Class → valence (pleasure), arousal. The values of happy, surprised, sad, angry, disgusted and fearful are those quoted
everywhere from Russell and Mehrabian, "Evidence for a three-factor theory of emotions", Journal of Research in Personality 11
(1977); compared with several quotations, not with the paper. Neutral and contempt are ours: the origin, and a mild disgust."""

UNITS: dict[str, tuple[tuple[tuple[str, ...], ...], float]] = {
    "AU1": ((("browInnerUp",),), 0.20),
    "AU2": ((("browOuterUpLeft", "browOuterUpRight"),), 0.15),
    "AU4": ((("browDownLeft", "browDownRight"),), 0.25),
    "AU6": ((("mouthSmileLeft", "mouthSmileRight"), ("eyeSquintLeft", "eyeSquintRight")), 0.20),
    "AU7": ((("eyeSquintLeft", "eyeSquintRight"),), 0.25),
    "AU10": ((("mouthUpperUpLeft", "mouthUpperUpRight"),), 0.15),
    "AU12": ((("mouthSmileLeft", "mouthSmileRight"),), 0.27),
    "AU15": ((("mouthFrownLeft", "mouthFrownRight"),), 0.08),
    "AU23": ((("mouthRollLower", "mouthRollUpper"),), 0.08),
    "AU24": ((("mouthPressLeft", "mouthPressRight"),), 0.08),
    "AU25": ((("mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "jawOpen"),), 0.40),
    "AU26": ((("jawOpen",),), 0.12),
}
"""Action unit → groups of blendshapes, and the share of the labeled Training faces that have it. Its strength is the mean
over a group, the least of several groups. The choice of blendshapes follows the units' descriptions, the shares are ours. For
AU6 the network's own cheekSquint is of no use (98 % of faces lie below 0.00001): a smile with narrowed eyes stands for it."""

UNCERTAIN = 0.10
"""Share of the faces around a unit's limit that are not labeled."""
PRESENCE = 0.5
"""Presence below which the mesh says that there is no face."""
ENOUGH = 0.5
"""Share of the votes that must fall on the eight classes for valence and arousal."""


@dataclass(frozen=True)
class Table:
    """The rows of one split."""

    images: np.ndarray
    """(N, 48, 48) uint8."""
    row: np.ndarray
    """(N,) number in the split of the original."""
    expression: np.ndarray
    """(N,) index into `mien.labels.FERPLUS`, or −1."""
    affect: np.ndarray
    """(N, 2) valence and arousal, or NaN."""
    strength: np.ndarray
    """(N, 12) strength of each unit, 0 … 1, NaN without a mesh."""


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data/fer2013"), help="folder with fer2013.npz")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    options = parser.parse_args()
    if options.out.exists() and any(options.out.iterdir()):
        raise ConfigError(f"{options.out} is not empty; give a new folder")
    found = mapped("fer2013-blendshapes", file_digest(options.root / "fer2013.npz"), lambda: _blendshapes(options.root))
    tables = {split: _read(options.root, split, found) for split in SPLITS}
    limits = _limits(tables["train"].strength)
    part = options.out.with_name(f".{options.out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    _write(part, tables, limits)
    facts = _facts(tables, limits, part)
    (part / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.out.exists():
        options.out.rmdir()
    part.rename(options.out)
    _print(facts)


def affect_of(votes: np.ndarray) -> np.ndarray:
    """Return (N, 2) valence and arousal of (N, 10) votes, NaN where too few fell on one of the eight classes."""
    classes = votes[:, :8].astype(np.float64)
    total = classes.sum(1, keepdims=True)
    mean = classes @ np.array([CENTERS[name] for name in FERPLUS]) / np.maximum(total, 1)
    return np.where(total >= ENOUGH * np.maximum(votes.sum(1, keepdims=True), 1), mean, np.nan)


def units_of(strength: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return (N, 12) int8 labels, −1 where not labeled, of strengths and their (12, 2) limits."""
    present, absent = strength > limits[:, 1], strength <= limits[:, 0]
    return np.where(present, 1, np.where(absent, 0, -1)).astype(np.int8)


def strength_of(blendshapes: np.ndarray) -> np.ndarray:
    """Return (N, 12) how strongly each unit shows in (N, 52) blendshapes."""
    columns = {name: index for index, name in enumerate(BLENDSHAPES)}
    return np.stack(
        [
            np.min([blendshapes[:, [columns[name] for name in group]].mean(1) for group in groups], axis=0)
            for groups, _ in UNITS.values()
        ],
        1,
    ).astype(np.float64)


def _read(root: Path, split: str, found: dict[str, np.ndarray]) -> Table:
    arrays, place = open_arrays(root, split), found["part"] == split
    kept = np.flatnonzero(arrays.unique) if split == "train" else np.arange(len(arrays.label))
    distribution, valid = ferplus.targets(arrays.votes[kept], "majority")
    faceless = found["presence"][place][kept] < PRESENCE
    strength = strength_of(found["blendshapes"][place][kept])
    affect = affect_of(arrays.votes[kept])
    strength[faceless], affect[faceless] = np.nan, np.nan
    return Table(arrays.images[kept], kept, np.where(valid, distribution.argmax(1), -1), affect, strength)


def _blendshapes(root: Path) -> dict[str, np.ndarray]:
    """Return the blendshapes of every image, split after split."""
    landmarker, blendshapes = Landmarker("mesh478"), Blendshapes()
    images = {split: open_arrays(root, split).images for split in SPLITS}
    part = np.concatenate([np.full(len(images), split, "U10") for split, images in images.items()])
    images = np.concatenate(list(images.values()))
    active, presence = np.zeros((len(part), len(BLENDSHAPES)), np.float32), np.zeros(len(part), np.float32)
    for start in range(0, len(part), 64):
        mesh = landmarker.crops(list(images[start : start + 64]))
        active[start : start + 64], presence[start : start + 64] = blendshapes(mesh.points), mesh.presence
        print(f"\r{min(start + 64, len(part)):,} of {len(part):,} faces", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {"blendshapes": active, "presence": presence, "part": part}


def _limits(strength: np.ndarray) -> np.ndarray:
    """Return (12, 2): up to the first a unit is absent, above the second present; the shares hold for what is labeled."""
    seen = strength[~np.isnan(strength[:, 0])]
    shares = np.array([share for _, share in UNITS.values()])
    absent = (1 - UNCERTAIN) * (1 - shares)
    return np.stack(
        [np.quantile(seen[:, unit], [absent[unit], absent[unit] + UNCERTAIN]) for unit in range(len(shares))]
    ).astype(np.float64)


def _write(out: Path, tables: dict[str, Table], limits: np.ndarray) -> None:
    out.mkdir(parents=True)
    with (out / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "split", "expression", "valence", "arousal", *UNITS])
        for split, table in tables.items():
            (out / split).mkdir()
            units = units_of(table.strength, limits)
            for index, row in enumerate(table.row):
                name = f"{split}/{row:05d}.png"
                Image.fromarray(table.images[index]).save(out / name)
                expression = FERPLUS[table.expression[index]] if table.expression[index] >= 0 else ""
                affect = ["" if np.isnan(value) else f"{value:.4f}" for value in table.affect[index]]
                writer.writerow([name, split, expression, *affect, *("" if unit < 0 else unit for unit in units[index])])


def _facts(tables: dict[str, Table], limits: np.ndarray, out: Path) -> dict[str, object]:
    counts = {}
    for split, table in tables.items():
        units = units_of(table.strength, limits)
        labeled = {name: float((units[:, i] >= 0).mean()) for i, name in enumerate(UNITS)}
        present = {name: float((units[:, i] == 1).sum() / max((units[:, i] >= 0).sum(), 1)) for i, name in enumerate(UNITS)}
        data = open_dataset("csv", out, split, labels="ferplus")
        counts[split] = {
            "images": len(table.row),
            "expression": int((table.expression >= 0).sum()),
            "valence and arousal": int((~np.isnan(table.affect[:, 0])).sum()),
            "action units": int((units >= 0).any(1).sum()),
            "everything": int(((table.expression >= 0) & ~np.isnan(table.affect[:, 0]) & (units >= 0).all(1)).sum()),
            "classes": data.counts,
            "labeled": labeled,
            "present": present,
            "digest of images and expressions": data.digest,
        }
    return {
        "what": "FER2013 faces with votes of FERPlus; valence, arousal and action units are computed, not annotated",
        "sha256 of labels.csv": hashlib.sha256((out / "labels.csv").read_bytes()).hexdigest(),
        "limits": {name: limits[i].tolist() for i, name in enumerate(UNITS)},
        "splits": counts,
    }


def _print(facts: dict) -> None:
    kinds = ("images", "expression", "valence and arousal", "action units", "everything")
    print("| split |", " | ".join(kinds), "|\n|---|", "|".join("---" for _ in kinds), "|", sep="")
    for split, found in facts["splits"].items():
        print(f"| {split} |", " | ".join(f"{found[kind]:,}" for kind in kinds), "|")
    print(
        "\n| unit | from | absent up to | present above | present: train | validation | test |\n|---|---|---|---|---|---|---|"
    )
    for unit, (groups, _) in UNITS.items():
        shares = " | ".join(f"{found['present'][unit]:.1%}" for found in facts["splits"].values())
        low, high = facts["limits"][unit]
        print(f"| {unit} | {' and '.join(', '.join(group) for group in groups)} | {low:.3g} | {high:.3g} | {shares} |")
    print(f"\nlabels.csv: sha256 {facts['sha256 of labels.csv']}")
    for split, found in facts["splits"].items():
        print(f"{split}: {found['digest of images and expressions']}")


if __name__ == "__main__":
    main()
