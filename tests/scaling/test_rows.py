"""`mien batch` and `mien predict` give the same rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from batch_runs import failures, rows
from command import mien
from PIL import Image, ImageOps

from clips import write_clip


@pytest.fixture(scope="module")
def clip(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with Image.open(sample) as image:
        small = image.convert("RGB").resize((192, 192))
    import numpy as np

    frames = [np.asarray(small if number < 8 else ImageOps.mirror(small)) for number in range(12)]
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames)


@pytest.fixture(scope="module")
def both(album: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what both commands made of the same images and the same video."""
    folder = tmp_path_factory.mktemp("both")
    inputs = [album, clip, "missing.jpg", "--baseline", "median"]
    predicted = mien("predict", *inputs, "--csv", folder / "rows.csv", "--jsonl", folder / "rows.jsonl")
    assert predicted.returncode == 1
    done = mien("batch", *inputs, "--out", folder / "read", "--shard-size", 16, "--workers", 2)
    assert done.returncode == 0, done.stderr  # failures are listed
    assert json.loads(done.stdout)["images"] == 45
    return folder


def cell(value: Any) -> str:
    """A value as the CSV has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:.6f}" if isinstance(value, float) else str(value)


def test_the_csv_has_the_same_columns_and_values(both: Path) -> None:
    with (both / "rows.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        wanted, names = list(reader), list(reader.fieldnames or [])
    found = rows(both / "read")
    assert [*found[0]] == names
    assert len(found) == len(wanted) == 45 + 12
    for row, other in zip(found, wanted, strict=True):
        box = {side: f"{row[side]:.2f}" for side in ("left", "top", "right", "bottom") if row[side] is not None}
        assert {**{name: cell(row[name]) for name in names}, **box} == other


def test_the_json_has_the_same_values_to_the_last_bit(both: Path) -> None:
    wanted = [json.loads(line) for line in (both / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum(len(result["faces"]) for result in wanted) > 40
    for result, found in zip(wanted, results(rows(both / "read")), strict=True):
        assert len(found) == max(len(result["faces"]), 1)
        for name in ("source", "status", "width", "height", "frame", "time", "model", "message"):
            assert {json.dumps(row[name]) for row in found} == {json.dumps(result[name])}
        for face, row in zip(result["faces"], found, strict=bool(result["faces"])):
            label = {name.removeprefix("score_"): row[name] for name in row if name.startswith("score_")}
            assert face["scores"] == label and face["box"] == {side: row[side] for side in face["box"]}
            for name in ("detection", "label", "confidence", "certain", "valence", "arousal", "track"):
                assert face[name] == row[name], name
            for name, prefix in (("blendshapes", "blendshape"), ("action_units_estimated", "estimated"), ("pose", "pose")):
                values = {key: value for key, value in face[name].items() if key != "fov"}
                assert values == {key: row[f"{prefix}_{key}"] for key in values}
            alone = {name.removeprefix("unsmoothed_"): row[name] for name in row if name.startswith("unsmoothed_")}
            assert alone == (face["unsmoothed"] or face)["scores"]


def results(found: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Group rows by image and frame."""
    for _, group in groupby(found, lambda row: (row["source"], row["time"])):
        yield list(group)


def test_the_summary_adds_up_what_is_there(both: Path, album: Path) -> None:
    report, found = json.loads((both / "read" / "summary.json").read_text()), rows(both / "read")
    status = {name: sum(row["status"] == name and row["face"] in (None, 1) for row in found) for name in report["status"]}
    assert report["status"] == status and report["status"]["unreadable"] == report["failures"] == 6
    assert report["images"] == 45 and report["frames"] == 12 and report["items"] == 46
    assert sum(report["labels"].values()) == report["faces"] == sum(row["face"] is not None for row in found)
    bad = failures(both / "read")
    names = ["corrupt.jpg", "empty.png", "note.jpg", "truncated.jpg", "bomb.png", "missing.jpg"]
    assert [Path(name).name for name in bad] == names
    assert "bomb.png" in bad[str(album / "deep" / "bomb.png")] and "missing.jpg" in bad["missing.jpg"]


def test_a_folder_of_parts_is_a_table_for_others(both: Path) -> None:
    table = pq.read_table(both / "read" / "rows")
    assert table.num_rows == len(rows(both / "read"))
    parts = sorted((both / "read" / "rows").iterdir())
    assert [path.name for path in parts] == [f"part-{number:05d}.parquet" for number in range(5)]
    assert pq.read_table(parts[3])["time"].null_count == 0  # a video is a part of its own
