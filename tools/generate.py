"""Regenerate the committed files that derive from code or results: the JSON Schema and README's tables.

python tools/generate.py            write them
python tools/generate.py --check    exit 1 if one is out of date
"""

from __future__ import annotations

import json
import sys

from mien.cards import ASSETS
from mien.types import json_schema
from tables import ROOT, fill


def main() -> int:
    """Write or check the files; return the exit status."""
    readme = ROOT / "README.md"
    files = {
        ASSETS / "schemas" / "result.json": json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
        readme: fill(readme.read_text(encoding="utf-8")),
    }
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run: python tools/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
