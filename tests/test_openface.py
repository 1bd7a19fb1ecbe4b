"""Tables in OpenFace's format, by the rules of public readers, and annotations for ELAN."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

import mien
from clips import moving, write_clip
from mien.cli import main
from mien.errors import ConfigError
from mien.inference.openface import FLIP, OpenFaceFiles, euler_xyz
from mien.types import EyeGaze, Gaze, Pose, Result
from readings import face, mesh, reading

BOX = (10, 10, 90, 90)
EYE = EyeGaze(20.0, 10.0, 0.0, 0.0)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, skipinitialspace=True, strict=True))


@pytest.fixture(scope="module")
def written(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openface")
    clip = write_clip(folder / "clip.mp4", moving(sample, 6, empty=[3]))
    assert main(["predict", str(clip), "--csv", str(folder / "clip.csv"), "--format", "openface"]) == 0
    return folder / "clip.csv"


def test_order_units_and_numbers_of_a_video(written: Path) -> None:
    rows = table(written)
    names = list(rows[0])
    assert names[:13] == [
        "frame", "face_id", "timestamp", "confidence", "success",
        "gaze_0_x", "gaze_0_y", "gaze_0_z", "gaze_1_x", "gaze_1_y", "gaze_1_z", "gaze_angle_x", "gaze_angle_y",
    ]  # fmt: skip
    assert names[13:19] == ["pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz"]
    assert names[19:155] == [f"{axis}_{i}" for axis in "xy" for i in range(68)]
    units = names[155:]
    assert units[:3] == ["AU01_r", "AU02_r", "AU04_r"] and units[-2:] == ["AU28_c", "AU45_c"]
    assert not [name for name in units if name[:4] in ("AU05", "AU06", "AU09", "AU14", "AU23")]  # left out, not zero
    assert [row["frame"] for row in rows] == [str(number) for number in range(1, 7)]
    assert [row["success"] for row in rows] == ["1", "1", "1", "0", "1", "1"] and {row["face_id"] for row in rows} == {"0"}
    assert rows[1]["timestamp"] == "0.040" and float(rows[0]["pose_Tz"]) > 300
    assert float(rows[0]["AU12_r"]) > 3 and rows[0]["AU12_c"] == "1.00"


def test_as_py_feat_reads_it(written: Path) -> None:
    """`feat.utils.io.read_openface`: plain `read_csv`, names stripped of blanks, columns chosen by name."""
    pandas = pytest.importorskip("pandas", reason="needs mien[tables]")
    frame = pandas.read_csv(written, sep=",")
    frame.columns = frame.columns.str.strip(" ")
    chosen = frame[["frame", "timestamp", "confidence", "success", "pose_Rx", "gaze_0_x", "x_0", "y_67", "AU01_r", "AU28_c"]]
    assert all(kind.kind in "if" for kind in chosen.dtypes) and len(chosen) == 6
    assert chosen["AU01_r"].between(0, 5).all() and chosen["AU28_c"].isin([0, 1]).all()


def test_as_openfacer_reads_it(written: Path) -> None:
    """openFaceR: a folder of files, one per video, named by their id; `timestamp:success` is a range of columns; columns with
    values besides 0 and 1 are continuous, the others are events."""
    files = {path.stem: table(path) for path in written.parent.glob("*.csv")}
    assert list(files) == ["clip"]
    names = list(files["clip"][0])
    assert names[names.index("timestamp") : names.index("success") + 1] == ["timestamp", "confidence", "success"]
    values = {name: {float(row[name]) for row in files["clip"]} for name in names}
    events = {name for name, found in values.items() if found <= {0.0, 1.0}}
    assert {name for name in names if name.endswith("_c")} <= events and not {"pose_Rx", "gaze_angle_x", "AU12_r"} & events
    assert max(values["timestamp"]) == pytest.approx(5 / 25)


def test_images_have_a_file_each(sample: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(sample.read_bytes())
    images = [str(tmp_path / name) for name in ("a.png", "b.png")]
    assert main(["predict", *images, "--csv", str(tmp_path / "out"), "--format", "openface", "--columns", "pose"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.csv", "b.csv"]
    (row,) = table(tmp_path / "out" / "a.csv")
    assert list(row) == ["face", "confidence", "pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz"]
    assert main(["predict", *images, "--csv", str(tmp_path / "out.csv"), "--format", "openface"]) == 1


@pytest.mark.parametrize("pose", [Pose(20, 0, 0, 1, 2, -60), Pose(0, 20, 0, 0, 0, -60), Pose(10, -30, 25, 0, 0, -60)])
def test_signs_of_rotation(pose: Pose) -> None:
    """The three angles, composed as OpenFace does, give the same rotation in its axes."""
    (x, y, z), turn = euler_xyz(pose), {}
    turn["x"] = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    turn["y"] = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    turn["z"] = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    assert turn["x"] @ turn["y"] @ turn["z"] == pytest.approx(np.diag(FLIP) @ pose.rotation @ np.diag(FLIP))
    if pose.yaw and not pose.roll:
        assert y < 0  # to the right of the image
    if pose.pitch == 20:
        assert x > 0  # down


def test_signs_of_gaze_and_position(tmp_path: Path) -> None:
    gaze = Gaze(20.0, 10.0, 0.0, 0.0, 22.0, False, EYE, None)
    units = {"AU12": 0.4, "AU28": 0.6}
    shown = face(BOX, track=2, points=mesh(BOX), pose=Pose(0, 0, 0, 3, 2, -60), gaze=gaze, action_units_estimated=units)
    with OpenFaceFiles(tmp_path / "a.csv") as sink:
        sink.write(dataclasses.replace(reading((100, 100), shown, source="a.mp4"), time=0.2, frame=5))
    (row,) = table(tmp_path / "a.csv")
    assert (row["frame"], row["face_id"], row["timestamp"]) == ("6", "1", "0.200")
    assert [float(row[f"pose_T{axis}"]) for axis in "xyz"] == [30, -20, 600]
    assert row["gaze_0_x"] == "NaN" and float(row["gaze_1_x"]) > 0 and float(row["gaze_1_y"]) > 0 and float(row["gaze_1_z"]) < 0
    assert float(row["gaze_angle_x"]) == pytest.approx(np.radians(20), abs=1e-3) and float(row["gaze_angle_y"]) > 0
    assert (row["AU12_r"], row["AU12_c"], row["AU28_c"]) == ("2.00", "0.00", "1.00")


def test_trained_units_have_presences_only(tmp_path: Path) -> None:
    shown = face(BOX, track=1, action_units={"AU6": 0.9, "AU12": 0.2, "AU24": 0.9})
    with OpenFaceFiles(tmp_path / "a.csv", ["units"], units=True) as sink:
        sink.write(dataclasses.replace(reading((100, 100), shown, source="a.mp4"), time=0.0))
    (row,) = table(tmp_path / "a.csv")
    assert (row["AU06_c"], row["AU12_c"]) == ("1.00", "0.00")
    assert not [name for name in row if name.endswith("_r")] and "AU24_c" not in row


def test_a_second_source_needs_a_folder(tmp_path: Path) -> None:
    first, second = (dataclasses.replace(reading((9, 9), source=name), time=0.0) for name in ("a.mp4", "b.mp4"))
    with pytest.raises(ConfigError) as refused, OpenFaceFiles(tmp_path / "a.csv") as sink:
        sink.write(first)
        sink.write(second)
    assert refused.value.path == str(tmp_path / "a.csv")
    with OpenFaceFiles(tmp_path / "out") as sink:
        for result in (first, second, dataclasses.replace(first, source="deep/a.mp4")):
            sink.write(result)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-2.csv", "a.csv", "b.csv"]


def elan_video() -> list[Result]:
    results = []
    for number in range(50):
        lids = 0.9 if 20 <= number < 24 else 0.1
        shown = face(
            BOX,
            "happiness" if number < 30 else "fear",
            track=1,
            blendshapes={"eyeBlinkLeft": lids, "eyeBlinkRight": lids},
            action_units_estimated={"AU12": 0.9 if number < 30 else 0.1},
            gaze=Gaze(0, 0, 0, 0, 2.0 if number < 10 else 40.0, number < 10, EYE, EYE),
        )
        results.append(dataclasses.replace(reading((100, 100), shown, source="clip.mp4"), time=number / 25))
    return results


def test_elan_has_a_tier_for_each_quantity(tmp_path: Path) -> None:
    elan_of = pytest.importorskip("pympi.Elan", reason="needs mien[elan]")
    from mien.inference.elan import Elan

    elan = Elan()
    for result in elan_video():
        elan.add(result)
    elan.save(tmp_path / "clip.eaf")
    found = elan_of.Eaf(str(tmp_path / "clip.eaf"))
    tiers = {name: [tuple(each[:3]) for each in found.get_annotation_data_for_tier(name)] for name in found.get_tier_names()}
    assert tiers["face 1 expression"] == [(0, 1200, "happiness"), (1200, 2000, "fear")]
    assert tiers["face 1 AU12"] == [(0, 1200, "active")] and tiers["face 1 gaze"] == [(0, 400, "at the camera")]
    assert tiers["face 1 blink"] == [(800, 960, "blink")]
    with pytest.raises(ConfigError) as refused:
        elan.add(dataclasses.replace(elan_video()[0], source="other.mp4"))
    assert refused.value.value == "other.mp4"


def test_elan_from_the_command(sample: Path, tmp_path: Path) -> None:
    pytest.importorskip("pympi.Elan", reason="needs mien[elan]")
    clip = write_clip(tmp_path / "clip.mp4", moving(sample, 4))
    assert main(["predict", str(clip), "--elan", str(tmp_path / "clip.eaf")]) == 0
    assert "face 1 expression" in (tmp_path / "clip.eaf").read_text(encoding="utf-8")
    assert main(["predict", str(clip), str(sample), "--elan", str(tmp_path / "two.eaf")]) == 1
    assert mien.__version__ and not (tmp_path / "two.eaf").exists()
