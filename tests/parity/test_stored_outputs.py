"""Every architecture against samples of its own answers from when it agreed with the authors' network."""

import json

import numpy as np
import pytest
from stored_outputs import CASES, STORED, sampled_outputs

from mien import models

TOLERANCE = 5e-5  # of the largest value, the first of each sample: other processors and thread counts sum in another order
EXPECTED = json.loads(STORED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_the_stored_ones(case: str) -> None:
    outputs = sampled_outputs(case)
    assert set(outputs) == set(EXPECTED[case])
    for name, expected in EXPECTED[case].items():
        np.testing.assert_allclose(outputs[name], expected, rtol=0, atol=TOLERANCE * expected[0], err_msg=name)


def test_every_published_architecture_is_stored() -> None:
    assert set(models.MODELS) - {"mien-base", "mien-nano"} <= {
        name for name, _ in CASES.values()
    }  # ours have goldens of their own
