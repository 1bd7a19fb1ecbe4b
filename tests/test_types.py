"""Results as data: plain JSON, the schema made from the classes, comparing and pickling."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import mien
from mien.types import Box, EyeGaze, Face, Gaze, Pose, Result, json_schema
from readings import LABELS, face, mesh, reading

BOX = (10, 20, 50, 80)
RESULTS = {
    "one face": reading((640, 480), face(BOX)),
    "a face with everything": reading(
        (640, 480),
        face(
            BOX,
            points=mesh(BOX),
            blendshapes={"jawOpen": 0.5},
            valence=-0.25,
            arousal=0.5,
            action_units={"AU12": 0.75},
            action_units_estimated={"AU12": 0.5},
            pose=Pose(1.0, 2.0, 3.0, 0.5, 1.5, -60.0),
            gaze=Gaze(1.0, 2.0, 0.5, 1.0, 4.0, True, EyeGaze(1.0, 2.0, 0.5, 1.0), None),
            track=3,
        ),
        time=1.5,
        notes=("first of 12 frames",),
    ),
    "no face": reading((640, 480)),
    "unreadable": Result("broken.jpg", 0, 0, (), "unreadable", "mien-base 1", message="broken.jpg is empty"),
}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("points", ["none", "5", "68", "all"])
@pytest.mark.parametrize("name", RESULTS)
def test_results_fit_the_schema_and_survive_json(validator: jsonschema.Draft202012Validator, name: str, points: Any) -> None:
    table = RESULTS[name].to_dict(points)
    validator.validate(table)
    assert json.loads(json.dumps(table, allow_nan=False)) == table


def test_a_real_reading_fits_the_schema(validator: jsonschema.Draft202012Validator, sample: Path) -> None:
    result = mien.load()(sample)
    for points, count in (("none", None), ("5", 5), ("68", 68), ("all", 478)):
        table = json.loads(json.dumps(result.to_dict(points), allow_nan=False))
        validator.validate(table)
        listed = table["faces"][0]["points"]
        assert count is None if listed is None else len(listed) == count


@pytest.mark.parametrize(
    "spoil",
    [
        lambda table: table.update(status="fine"),
        lambda table: table.update(extra=1),
        lambda table: table.pop("model"),
        lambda table: table["faces"][0].update(label=3),
        lambda table: table["faces"][0]["box"].pop("left"),
        lambda table: table["faces"][0]["scores"].update(anger="much"),
        lambda table: table["faces"][0].update(points=[[1]]),
    ],
)
def test_the_schema_refuses_what_is_no_result(validator: jsonschema.Draft202012Validator, spoil: Any) -> None:
    table = copy.deepcopy(RESULTS["one face"].to_dict())
    spoil(table)
    assert not validator.is_valid(table)


def test_every_field_of_the_classes_is_in_the_json() -> None:
    table = RESULTS["a face with everything"].to_dict()
    assert set(table) == {f.name for f in dataclasses.fields(Result)}
    assert set(table["faces"][0]) == {f.name for f in dataclasses.fields(Face)}
    assert list(table["faces"][0]["scores"]) == list(LABELS)
    assert table["schema_version"] == "2"


def test_results_compare_and_pickle_by_what_they_hold() -> None:
    for name, result in RESULTS.items():
        again = pickle.loads(pickle.dumps(result))
        assert again == result and again is not result, name
    whole = RESULTS["a face with everything"].faces[0]
    assert whole.points is not None
    moved = dataclasses.replace(whole, points=whole.points + 0.5)
    assert moved != whole and moved == dataclasses.replace(whole, points=whole.points + 0.5)
    assert whole != "a face"


def test_a_box_tells_its_size_and_reads_well() -> None:
    box = Box(10, 20.4, 50, 80)
    assert (box.width, box.height) == (40, pytest.approx(59.6))
    assert str(box) == "10,20 40×60"


def test_points_are_views_of_one_mesh() -> None:
    one = face(BOX, points=mesh(BOX))
    assert one.points5 is not None and one.points68 is not None
    assert one.points5.shape == (5, 2) and one.points68.shape == (68, 2)
    assert face(BOX).points5 is None and face(BOX).points68 is None


def test_public_names_are_listed_before_they_are_used() -> None:
    assert {*mien.__all__} <= {*dir(mien)}
