"""Print how much of the core its tests run, in lines and in branches, and what they do not run.

python -m pytest --cov=mien --cov-branch --cov-report=json:out/coverage.json TESTS; python tools/coverage_of_core.py

The core is what needs neither torch nor scikit-learn. Commands are left out: tests run them in processes of their own, which
are not counted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path, PurePath

ELSEWHERE = {
    "torch": {"models", "losses", "importing", "training", "torch_runtime", "exporting", "explaining", "embedding"},
    "OpenVINO": {"openvino_runtime"},
    "the extra eval": {"metrics", "evaluation", "comparison", "verification", "report"},
    "servers and clusters": {"serving", "scaling"},
    "processes of their own": {"cli", "__main__"},
}  # fmt: skip
"""What the parts of mien that are not the core need."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, nargs="?", default=Path("out/coverage.json"))
    parser.add_argument("--least", type=float, default=0.0, help="fail below this share of branches, in percent")
    args = parser.parse_args()
    left_out = set().union(*ELSEWHERE.values())
    counts = dict.fromkeys(("covered_lines", "num_statements", "covered_branches", "num_branches"), 0)
    for name, found in sorted(json.loads(args.report.read_text())["files"].items()):
        parts = PurePath(name).parts
        inside = parts[parts.index("mien") + 1 :]
        if inside[0].removesuffix(".py") in left_out:
            continue
        for key in counts:
            counts[key] += found["summary"][key]
        missing = [str(line) for line in found["missing_lines"]]
        missing += [f"{a}→{max(b, 0) or 'end'}" for a, b in found["missing_branches"] if b not in found["missing_lines"]]
        if missing:
            print(f"{'/'.join(inside)}: {', '.join(missing)}")
    lines, branches = (
        100 * counts[covered] / counts[of]
        for covered, of in (("covered_lines", "num_statements"), ("covered_branches", "num_branches"))
    )
    print(f"core: {branches:.1f} % of {counts['num_branches']:,} branches, {lines:.1f} % of {counts['num_statements']:,} lines")
    if branches < args.least:
        raise SystemExit(f"less than {args.least:g} % of the branches")


if __name__ == "__main__":
    main()
