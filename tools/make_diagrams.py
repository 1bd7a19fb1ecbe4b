"""Draw the mermaid diagrams of the documentation as SVG, so that the site needs no script from elsewhere.

A drawing bears the digest of its source: one that is missing makes `make docs` fail, one without a source is removed here.

npm install mermaid; python tools/make_diagrams.py node_modules/mermaid/dist/mermaid.min.js
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from site_hooks import DIAGRAMS, MERMAID, ROOT, digest

SETTINGS = "{startOnLoad: false, theme: 'neutral', deterministicIds: true, htmlLabels: false, flowchart: {htmlLabels: false}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", type=Path, help="mermaid.min.js of the npm package")
    args = parser.parse_args()
    codes = {
        digest(found[1]): found[1]
        for page in sorted((ROOT / "docs").rglob("*.md"))
        for found in MERMAID.finditer(page.read_text(encoding="utf-8"))
    }
    DIAGRAMS.mkdir(exist_ok=True)
    for old in DIAGRAMS.glob("*.svg"):
        if old.stem not in codes:
            old.unlink()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.add_script_tag(path=args.script)
        page.evaluate(f"mermaid.initialize({SETTINGS})")
        for name, code in codes.items():
            svg = page.evaluate("([name, code]) => mermaid.render(name, code).then(made => made.svg)", [f"d{name}", code])
            svg = re.sub(r"\s*\n\s*", " ", svg)  # an empty line would end the block of HTML in a page
            (DIAGRAMS / f"{name}.svg").write_text(svg + "\n", encoding="utf-8")
            print(name, len(svg))
        browser.close()


if __name__ == "__main__":
    main()
