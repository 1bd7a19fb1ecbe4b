"""Write the JSON Schema of results, or with --check fail if the file is not what the types give.

python tools/make_schema.py [--check]
"""

import argparse
import json
import sys

from mien.cards import ASSETS
from mien.types import json_schema

SCHEMA = ASSETS / "schemas" / "result.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is out of step")
    wanted = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    if not parser.parse_args().check:
        SCHEMA.parent.mkdir(exist_ok=True)
        SCHEMA.write_text(wanted, encoding="utf-8")
        print(f"wrote {SCHEMA.name}")
        return 0
    if SCHEMA.is_file() and SCHEMA.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"{SCHEMA.name} is not what mien.types gives; run: python tools/make_schema.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
