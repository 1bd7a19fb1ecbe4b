"""`mien verify`: claimed against measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from ..data.datasets import open_dataset
from ..errors import ConfigError
from ..evaluation.compare import slug
from ..evaluation.verify import verify as run
from .splits import pairs
from .terminal import counting, for_programs, side_console, table_console, write_json


def verify(
    model: str,
    /,
    *,
    dataset: Annotated[str, Parameter(required=True)],
    root: Path = Path(),
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    split: str = "test",
    protocol: str = "",
    option: tuple[str, ...] = (),
    claim: tuple[str, ...] = (),
    output: str = "scores",
    faces: Literal["auto", "whole", "detect"] = "auto",
    images: int = 1000,
    threads: int = 1,
    device: str = "cpu",
    overwrite: bool = False,
    json: bool = False,
) -> int:
    """Measure a model on a dataset and compare with what its card claims.

    Also tells whether the data is the published original, and tries what could be wrong with how the network is fed. The exit
    status is 0 if every claim agrees and no other way of feeding the network is better, otherwise 1.

    Examples:
        mien verify mien-base --dataset fer2013 --root data/fer2013
        mien verify model.toml --dataset rafdb --root data/rafdb --claim accuracy=88.2

    Args:
        model: Name of a bundled model, a card, a weight file or the folder of a run.
        dataset: Name of the dataset (see: mien datasets).
        root: Folder that holds it.
        out: Folder for the evaluation; out/verify/MODEL/DATASET-SPLIT if not given.
        split: train, validation, test or all.
        protocol: How to split it.
        option: NAME=VALUE, one of the options of the dataset.
        claim: METRIC=VALUE, in per cent (88.2, 0.9%) or as a share (0.882), instead of the card's claims.
        output: Which head of the model.
        faces: whole: each image is one face; detect: find faces in photographs; auto: by the size of the images.
        images: Try hypotheses on so many, evenly spread; 0 for none.
        threads: Threads inside one call of the network.
        device: Where networks run: cpu, cuda (cuda:1 is the second GPU), mps, or auto for the best that starts.
        overwrite: Begin anew, whatever evaluation the folder holds.
        json: Write JSON, also on a terminal.
    """
    data = open_dataset(dataset, root, split, protocol, **pairs(option, "--option"))  # pyrefly: ignore
    claims = {name: _share(name, value) for name, value in pairs(claim, "--claim").items()}
    side = side_console()
    out = out or Path("out/verify", slug(model) or "model", f"{data.name}-{data.split}")
    with counting(side, f"{model} on {data.name} {data.split}", len(data)) as progress:
        found = run(
            model,
            data,
            out=out,
            claims=claims,
            images=images,
            output=output,
            faces=faces,
            threads=threads,
            device=device,
            overwrite=overwrite,
            progress=progress,
        )
    side.print(f"wrote {out}", style="dim")
    if for_programs(json):
        write_json(
            {
                "agrees": found.agrees,
                "data": found.data,
                "claims": [
                    {
                        "metric": c.metric,
                        "claimed": c.claimed,
                        "measured": c.measured,
                        "low": c.low,
                        "high": c.high,
                        "agrees": c.agrees,
                    }
                    for c in found.claims
                ],
                "tried_on": found.tried_on,
                "hypotheses": [{"name": h.name, "before": h.before, "after": h.after, "p": h.p} for h in found.hypotheses],
                "says": [h.says for h in found.hypotheses if h.better],
            }
        )
        return int(not found.agrees)
    console = table_console()
    console.print(found.data)
    for one in found.claims:
        console.print(one.says, style="" if one.agrees else "bold red")
    if found.hypotheses:
        console.print(f"\nTried on {found.tried_on:,} images:", style="bold")
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("fed with", "accuracy", "difference", "p (Holm)"):
            table.add_column(name, justify="left" if name == "fed with" else "right")
        table.add_row("as the card says", f"{100 * found.hypotheses[0].before:.1f}", "", "")
        for each in found.hypotheses:
            table.add_row(each.name, f"{100 * each.after:.1f}", f"{100 * (each.after - each.before):+.1f}", f"{each.p:.2g}")
        console.print(table)
        for each in found.hypotheses:
            if each.better:
                console.print(each.says, style="bold red")
    return int(not found.agrees)


def _share(name: str, text: str) -> float:
    """Return a claim as a share: "88.2%", "88.2" and "0.882" are the same; 1 is all, and what is less needs its % to be one."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(number)
    except ValueError as error:
        raise ConfigError(f"--claim takes METRIC=NUMBER, not {name}={text}") from error
    if not math.isfinite(value):
        raise ConfigError(f"--claim takes METRIC=NUMBER, not {name}={text}")
    return value / 100 if percent or value > 1 else value
