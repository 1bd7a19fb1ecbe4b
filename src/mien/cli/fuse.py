"""`mien fuse`: an ensemble of models as a card."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ..errors import ConfigError
from ..evaluation.fusion import fuse as run
from .options import Folds, Inference
from .terminal import File, Json, for_programs, print_rows, side_console, write_json


def fuse(
    *models: Annotated[File, Parameter(required=True)],
    out: Annotated[Path, Parameter(alias="-o", required=True)],
    weights: str = "equal",
    rule: Literal["logits", "probabilities"] = "logits",
    dataset: str | None = None,
    split: str = "validation",
    place: Folds = Folds(),  # noqa: B008 - frozen
    inference: Inference = Inference(),  # noqa: B008 - frozen
    json: Json = False,
) -> None:
    """Fuse models into an ensemble: a card that predict, evaluate, compare and export take like any other.

    Members may have any inputs and classes. For faces whose landmarks are not found, members that read regions of the face
    (Global-ROI) have no vote, and the others share the whole weight.

    Examples:
        mien fuse runs/rafdb-global-roi/1 runs/rafdb-global/1 --weights .55,.45 -o fused.toml
        mien fuse runs/dan/1 runs/dan/2 --weights fit --dataset rafdb --root data/rafdb --protocol held-out -o dan-2.toml

    Args:
        models: Cards, weight files or folders of runs; MODEL@OUTPUT pools another output than the scores.
        out: Output file, the card (.toml).
        weights: One number for each member, separated by commas; equal; or fit: on the validation split of --dataset.
        rule: Weighted sum of logits, or weighted mean of probabilities.
        dataset: Dataset for fit (see: mien datasets).
        split: Split for fit.
    """
    side = side_console()
    try:
        chosen = weights if weights in ("equal", "fit") else tuple(float(each) for each in weights.split(","))
    except ValueError as error:
        message = f"--weights: expected numbers separated by commas, equal or fit, got {weights!r}"
        raise ConfigError(message, value=weights) from error
    data = place.open_split(dataset, split, models[0]) if dataset else None
    tell = lambda step: side.print(f"{step} …", style="dim")  # noqa: E731
    card = run(models, out, weights=chosen, rule=rule, data=data, progress=tell, **inference.settings)
    if for_programs(json):
        for each in card.members:
            write_json({"card": each.card, "weight": each.weight, "output": each.output, "sha256": each.sha256})
    else:
        rows = [(each.card, each.output, f"{each.weight:.4f}") for each in card.members]
        print_rows(("member", "output", "weight"), rows, text=("member", "output"))
    for one in card.measured:
        side.print(f"{one.metric} {one.value:.4f} on the {one.n:,} images of the fit", style="dim")
    side.print(f"wrote {out}", style="dim")
