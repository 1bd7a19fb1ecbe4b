"""MkDocs hook: the same Markdown reads well on disk, on GitHub and as a site that works offline.

* `<!-- generate: NAME ARGUMENTS -->` is replaced by a section of `tools/docs.py` or a table of `tools/tables.py`.
* A link out of `docs/` leads to a copy of that file below `repository/` in the site; linked Markdown files become pages.
* A Mermaid diagram becomes the SVG that `tools/images.py diagrams` drew, because Mermaid itself would be loaded from a CDN.
* `<!-- not run: REASON -->` before a code block is shown to the reader.
* The benchmarks page lists the dated benchmark files. These, the log and copied files are not searched.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))  # mkdocs loads a hook by its path

from docs import SECTIONS  # noqa: E402
from tables import TABLES  # noqa: E402

GENERATE = re.compile(r"^<!-- generate: (.+?) -->$", re.MULTILINE)
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
                log.warning("%s links to %s, which does not exist", page, target)
                continue
            files.append(File.generated(config, f"repository/{target}", abs_src_path=str(ROOT / target)))
            if target.endswith(".md"):
                pages.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in generated sections, diagrams and links."""
    here = page.file.src_uri
    source = here.removeprefix("repository/") if here.startswith("repository/") else f"docs/{here}"
    if here.startswith(("benchmarks/20", "repository/", "log.md")):
        page.meta["search"] = {"exclude": True}
    markdown = generated(markdown)
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


@functools.cache
def _section(request: str) -> str:
    name, *arguments = request.split()
    return {**SECTIONS, **TABLES}[name](*arguments)


def generated(markdown: str) -> str:
    """Return a page with its generated sections and tables."""
    return GENERATE.sub(lambda found: _section(found[1]), markdown)


def digest(code: str) -> str:
    """Return the file stem of a diagram's SVG."""
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def _targets(page: str) -> set[str]:
    """Return the files that a page links to, as paths from the repository's root."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = FENCE.sub("", generated(text))
    return {posixpath.normpath(posixpath.join(posixpath.dirname(page), found[1])) for found in LINK.finditer(text)}


def _relinked(text: str, source: str, here: str) -> str:
    def place(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[1]))
        inside = target.removeprefix("docs/") if target.startswith("docs/") else f"repository/{target}"
        return f"]({posixpath.relpath(inside, posixpath.dirname(here) or '.')}{found[2] or ''})"

    return LINK.sub(place, text)


def _image(code: str, source: str) -> str:
    """Return the SVG of a diagram as HTML."""
    drawing = DIAGRAMS / f"{digest(code)}.svg"
    if not drawing.is_file():
        log.info("%s has a diagram without an SVG; run: python tools/images.py diagrams", source)
        return f"```text\n{code}```"
    return f'<div class="diagram">{drawing.read_text(encoding="utf-8").strip()}</div>\n'
