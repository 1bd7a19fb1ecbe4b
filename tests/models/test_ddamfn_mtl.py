import pytest
import torch

from mien import models
from mien.errors import ConfigError
from mien.models.ddamfn_mtl import MultiTaskOutput

IMAGE = torch.empty(2, 3, 112, 112, device="meta")
TASKS = ("valence_arousal", "expression", "action_units")


@pytest.fixture(autouse=True)
def on_meta():
    with torch.device("meta"):
        yield


@pytest.mark.parametrize(
    ("form", "classes", "entries", "shared_layer"),
    [("default", 8, 1191, True), ("code", 9, 1191, True), ("paper", 8, 1194, False)],
)
def test_forms(form: str, classes: int, entries: int, shared_layer: bool) -> None:
    network = models.build("ddamfn-mtl", form=form)
    answer = network.eval()(IMAGE)
    assert answer.logits.shape == answer.expression.shape == (2, classes)
    assert answer.valence_arousal.shape == (2, 2)
    assert answer.action_logits.shape == answer.action_units.shape == (2, 12)
    assert len(network.state_dict()) == entries
    assert any("dense" in key for key in network.state_dict()) == shared_layer


@pytest.mark.parametrize("task", TASKS)
def test_each_task_can_be_alone_or_off(task: str) -> None:
    fields = {"valence_arousal": "valence_arousal", "expression": "logits", "action_units": "action_logits"}
    others = tuple(other for other in TASKS if other != task)
    alone, off = models.build("ddamfn-mtl", tasks=(task,)), models.build("ddamfn-mtl", tasks=others)
    for network, wanted in ((alone, (task,)), (off, others)):
        answer = network.eval()(IMAGE)._asdict()
        assert {each for each, field in fields.items() if answer[field] is not None} == set(wanted)
        assert {key.split(".")[1] for key in network.state_dict() if key.startswith("classifier.")} - {"dense"} == set(wanted)


def test_probabilities_of_a_task_that_is_off_are_none() -> None:
    answer = MultiTaskOutput(None, None, None, IMAGE, IMAGE, ())
    assert answer.expression is None
    assert answer.action_units is None


@pytest.mark.parametrize("options", [{"form": "figure"}, {"tasks": ()}, {"tasks": ("expression", "gaze")}])
def test_a_form_or_task_that_does_not_exist_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(options)))):
        models.build("ddamfn-mtl", **options)
