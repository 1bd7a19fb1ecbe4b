"""What `make docs` does besides mkdocs' own work, so that the same pages read well on a disk, on GitHub and as a site.

* A link that leaves `docs/` leads to a copy of that file below `repository/` in the site; Markdown among these becomes a page.
* A mermaid diagram becomes the image that `tools/make_diagrams.py` drew of it: mermaid would be loaded from elsewhere.
* `<!-- not run: REASON -->` before a block of code is shown to the reader.
* The page of benchmarks lists them.
"""

from __future__ import annotations

import hashlib
import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DIAGRAMS = ROOT / "docs" / "images" / "diagrams"
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"^<!-- not run: (.+?) -->$", re.MULTILINE)

log = logging.getLogger("mkdocs.hooks.site")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the repository that pages link to."""
    seen: set[str] = set()
    pages = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    while pages:
        page = pages.pop()
        for target in _targets(page):
            if target in seen or target.startswith("docs/"):
                continue
            seen.add(target)
            if not (ROOT / target).is_file():
                log.warning("%s links to %s, which is not a file of the repository", page, target)
                continue
            files.append(File.generated(config, f"repository/{target}", abs_src_path=str(ROOT / target)))
            if target.endswith(".md"):
                pages.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn what the page says in Markdown alone into what the site needs."""
    here = page.file.src_uri
    source = here.removeprefix("repository/") if here.startswith("repository/") else f"docs/{here}"
    markdown = MERMAID.sub(lambda found: _image(found[1], source), markdown)
    markdown = NOT_RUN.sub(r'<p class="not-run">Not run by the tests: \1</p>\n', markdown)
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [_relinked(markdown[end : fence.start()], source, here), fence[0]]
        end = fence.end()
    markdown = "".join(parts) + _relinked(markdown[end:], source, here)
    if here == "benchmarks/README.md":
        names = sorted((path.name for path in (ROOT / "docs" / "benchmarks").glob("*-*.md")), reverse=True)
        markdown += "\n" + "\n".join(f"* [{name.removesuffix('.md')}]({name})" for name in names) + "\n"
    return markdown


def digest(code: str) -> str:
    """Return the name under which the drawing of a diagram is kept."""
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def _targets(page: str) -> set[str]:
    """Return the files that a page of the repository links to, as paths from the repository's root."""
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return {posixpath.normpath(posixpath.join(posixpath.dirname(page), found[1])) for found in LINK.finditer(text)}


def _relinked(text: str, source: str, here: str) -> str:
    def place(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[1]))
        inside = target.removeprefix("docs/") if target.startswith("docs/") else f"repository/{target}"
        return f"]({posixpath.relpath(inside, posixpath.dirname(here) or '.')}{found[2] or ''})"

    return LINK.sub(place, text)


def _image(code: str, source: str) -> str:
    """Return the drawing of a diagram, to stand in the page."""
    drawing = DIAGRAMS / f"{digest(code)}.svg"
    if not drawing.is_file():
        log.warning("%s has a diagram without a drawing; run: python tools/make_diagrams.py", source)
        return ""
    return f'<div class="diagram">{drawing.read_text(encoding="utf-8").strip()}</div>\n'
