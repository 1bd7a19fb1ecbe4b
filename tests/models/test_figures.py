"""Every published figure says which recipes train what it is of, or why none does."""

from pathlib import Path

import pytest

from mien import models
from mien.models import Figure
from mien.training.config import TrainConfig

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
FIGURES = [
    (name, figure) for name in sorted(set(models.MODELS) - {"mien-base", "mien-nano"}) for figure in models.info(name).published
]


@pytest.mark.parametrize(("network", "figure"), FIGURES)
def test_a_figure_has_recipes_or_a_reason(network: str, figure: Figure) -> None:
    if isinstance(figure.recipes, str):
        assert " " in figure.recipes, f"{figure.recipes!r} is no reason"
        return
    assert figure.recipes
    for name in figure.recipes:
        config = TrainConfig.load(RECIPES / f"{name}.toml")
        assert config.model.name == network, name
        if name.endswith("-author") and figure.metric in ("accuracy %", "balanced accuracy %", "P"):
            assert f"{figure.value:g}" in config.about.replace("0 %", " %"), (
                f"{name} tells of another figure than {figure.value}"
            )


def test_rows_that_were_set_beside_the_wrong_figures() -> None:
    """hyunyongPark's DAN is trained on pooled data; two networks' added scores and released weights are no recipe's."""
    of = {(name, figure.dataset, figure.value): figure.recipes for name, figure in FIGURES}
    assert of["dan", "RAF-DB", 91.6] == ("pooled-dan-author", "pooled-dan-mien")
    assert of["efficientnet-b3", "RAF-DB", 88.9] == ("pooled-efficientnet-b3-author", "pooled-efficientnet-b3-mien")
    assert of["ddamfn", "RAF-DB", 91.35] == ("rafdb-ddamfn-author",)
    assert of["ddamfn", "RAF-DB", 92.34] == ("rafdb-ddamfn-plusplus-author", "rafdb-ddamfn-mien")
    assert isinstance(of["global-roi", "RAF-DB", 87.65], str) and isinstance(of["ddamfn", "RAF-DB", 92.04], str)
