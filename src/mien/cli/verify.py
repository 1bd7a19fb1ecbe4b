"""`mien verify`: claimed against measured metrics."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..errors import ConfigError
from ..evaluation.compare import slug
from ..evaluation.verify import verify as run
from .options import Inference, Model, Replace, Split, pairs
from .terminal import Json, counting, for_programs, print_rows, side_console, table_console, write_json


def verify(
    model: Model,
    /,
    *,
    data: Split,
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    claim: tuple[str, ...] = (),
    output: str = "auto",
    hypotheses: int = 1000,
    inference: Inference = Inference(),  # noqa: B008 - frozen
    overwrite: Replace = False,
    json: Json = False,
) -> int:
    """Evaluate a model and compare with the metrics that its card claims.

    Also reports whether the data is the published original, and tests alternative preprocessing (channel order, value range,
    resizing, crop). The exit status is 0 if every claim agrees and no alternative is better, otherwise 1.

    Examples:
        mien verify mien-base --dataset fer2013 --root data/fer2013
        mien verify model.toml --dataset rafdb --root data/rafdb --claim accuracy=88.2

    Args:
        out: Folder for the evaluation; default: out/verify/MODEL/DATASET-SPLIT.
        claim: METRIC=VALUE, in percent (88.2, 0.9%) or as a share (0.882), instead of the card's claims; repeatable.
        output: Output (head) of the model; auto takes the one named after the dataset if the card has claims about it.
        hypotheses: Number of images for the preprocessing hypotheses, evenly spread; 0 for none.
    """
    split = data.open(model)
    claims = {name: _share(name, value) for name, value in pairs(claim, "--claim").items()}
    side = side_console()
    out = out or Path("out/verify", slug(model) or "model", f"{split.name}-{split.split}")
    options: dict[str, Any] = {"images": hypotheses, "output": output, "overwrite": overwrite, **inference.settings}
    with counting(f"{model} on {split.name} {split.split}", len(split)) as progress:
        found = run(model, split, out=out, claims=claims, progress=progress, **options)
    side.print(f"wrote {out}", style="dim")
    if for_programs(json):
        write_json(
            {
                "agrees": found.agrees,
                "data": found.data,
                "claims": [{**dataclasses.asdict(each), "agrees": each.agrees} for each in found.claims],
                "tried_on": found.tried_on,
                "hypotheses": [dataclasses.asdict(each) for each in found.hypotheses],
                "says": [each.says for each in found.hypotheses if each.better],
            }
        )
        return int(not found.agrees)
    console = table_console()
    console.print(found.data)
    for one in found.claims:
        console.print(one.says, style="" if one.agrees else "bold red")
    if found.hypotheses:
        console.print(f"\nPreprocessing hypotheses on {found.tried_on:,} images:", style="bold")
        rows = [
            (each.name, f"{100 * each.after:.1f}", f"{100 * (each.after - each.before):+.1f}", f"{each.p:.2g}")
            for each in found.hypotheses
        ]
        before = ("as on the card", f"{100 * found.hypotheses[0].before:.1f}", "", "")
        print_rows(("preprocessing", "accuracy", "difference", "p (Holm)"), [before, *rows], text=("preprocessing",))
        for each in found.hypotheses:
            if each.better:
                console.print(each.says, style="bold red")
    return int(not found.agrees)


def _share(name: str, text: str) -> float:
    """Return a claim as a share: "88.2%", "88.2" and "0.882" are equal; values up to 1 are shares unless they end in "%"."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"--claim: expected METRIC=NUMBER, got {name}={text}", value=text, expected="a number")
    return value / 100 if percent or value > 1 else value
