"""Search one target for inputs that raise what they must not: `python -m fuzz TARGET`."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
import warnings
from pathlib import Path
from types import ModuleType

from .corpus import CORPUS, TARGETS, check, inputs, pack, smallest

OUT = Path("out/fuzz")
INSTRUMENTED = ["mien", "fuzz", "PIL", "tomllib", "csv", "json", "pickletools", "zipfile"]
LONGEST = 16_384
"""Bytes of one input."""


def main() -> None:
    """Search, replay or keep."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--replay", type=Path, help="run the target once, on this file")
    parser.add_argument("--keep", action="store_true", help=f"write {CORPUS}/TARGET.zip from what the last searches found")
    options = parser.parse_args()
    work = OUT / options.target
    if options.replay or options.keep:
        module = importlib.import_module(f"fuzz.{options.target}")
        if options.replay:
            warnings.simplefilter("error")
            check(module, options.replay.read_bytes())
        else:
            found = {path.read_bytes() for path in (work / "corpus").glob("*")}
            pack(CORPUS / f"{options.target}.zip", smallest(module, found | set(inputs(module))))
        return
    search(options.target, work, options.seconds)


def search(name: str, work: Path, seconds: int) -> None:
    """Hand the target to libFuzzer, which ends the process: with status 0 when the time is over, else at the first crash."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        module: ModuleType = importlib.import_module(f"fuzz.{name}")
    (work / "corpus").mkdir(parents=True, exist_ok=True)
    for data in inputs(module):
        if len(data) <= LONGEST:
            (work / "corpus" / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    warnings.simplefilter("error")
    words = Path(__file__).with_name("words") / f"{name}.txt"
    flags = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={work}/",
        f"-max_len={LONGEST}",
        "-timeout=30",
        "-print_final_stats=1",
    ]
    flags += [f"-dict={words}"] if words.is_file() else []
    atheris.Setup([sys.argv[0], *flags, str(work / "corpus")], lambda data: check(module, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
