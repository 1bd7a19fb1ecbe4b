"""Results as pandas frames and in notebooks."""

from __future__ import annotations

from pathlib import Path

import pytest

import mien
from clips import moving, write_clip
from mien.errors import SourceError
from mien.inference.results import GROUP_COLUMNS, columns
from mien.types import GROUPS
from readings import face, reading

pandas = pytest.importorskip("pandas", reason="needs mien[tables]")


def test_a_frame_has_one_row_per_face_and_the_columns_of_the_csv(sample: Path) -> None:
    read = mien.load()
    result = read(sample)
    frame = result.to_frame()
    assert list(frame.columns) == list(columns(read.card.labels, GROUPS))
    assert frame.loc[0, "label"] == "happiness" and frame.loc[0, "pose_yaw"] == pytest.approx(result.faces[0].pose.yaw)
    assert frame.loc[0, "x_30"] == pytest.approx(result.faces[0].points68[30, 0], abs=0.01)


def test_groups_choose_columns(sample: Path) -> None:
    result = mien.load()(sample)
    frame = mien.to_frame([result, reading((30, 20))], ["pose"])
    assert len(frame) == 2 and frame["face"].isna().tolist() == [False, True]
    assert set(GROUP_COLUMNS["pose"]) <= set(frame.columns) and "label" not in frame.columns


def test_a_stream_is_a_frame(sample: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving(sample, 3))
    frame = mien.to_frame(mien.load().stream(path), ["expression"])
    assert frame["frame"].tolist() == [0, 1, 2] and frame["time"].tolist() == pytest.approx([0, 0.04, 0.08])
    assert frame["track"].tolist() == [1, 1, 1] and "unsmoothed_happiness" in frame.columns


def test_results_show_themselves_in_notebooks(sample: Path) -> None:
    result = mien.load()(sample)
    assert result.plot().size == (1024, 1024)
    assert "<img" in result._repr_html_() and "happiness" in result._repr_html_()
    hostile = reading((100, 100), face((10, 10, 50, 50), "<script>"), source="<b>.jpg")
    assert "<script>" not in hostile._repr_html_() and "<b>" not in hostile._repr_html_()


def test_an_image_in_memory_must_be_given(sample: Path) -> None:
    import numpy as np
    from PIL import Image

    with Image.open(sample) as image:
        pixels = np.asarray(image.convert("RGB"))
    result = mien.load()(pixels)
    with pytest.raises(SourceError) as refused:
        result.plot()
    assert refused.value.value == "<array>" and result.plot(pixels).size == (1024, 1024)
    assert "<img" not in result._repr_html_() and "<table" in result._repr_html_()
