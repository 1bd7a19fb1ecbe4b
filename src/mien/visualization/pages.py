"""HTML pages that need no other file: one shell, one style, tables and images."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from PIL import Image

STYLE = """
:root{--ink:#1c2024;--soft:#626b75;--line:#dde2e7;--ground:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#9aa5b0;--line:#333a42;--ground:#14171a}}
body{font:15px/1.5 system-ui,"DejaVu Sans",sans-serif;max-width:66rem;margin:0 auto;padding:1.5rem 1rem}
body{color:var(--ink);background:var(--ground)}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem 1rem .3rem 0;text-align:left;border-bottom:1px solid var(--line)}th{color:var(--soft);font-size:.85rem}
"""


def html_page(title: str, parts: Iterable[str], style: str = STYLE) -> str:
    """Return a page; `parts` are its HTML elements."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def data_uri(image: Image.Image | bytes, kind: str, **options: Any) -> str:
    """Return an encoded image, or one that is encoded in one of Pillow's formats with its options, as a `data:` URI."""
    if isinstance(image, Image.Image):
        file = io.BytesIO()
        image.save(file, kind, **options)
        image = file.getvalue()
    return f"data:image/{kind.lower()};base64,{base64.b64encode(image).decode()}"


def decimal(value: float | None) -> str:
    """Return a number with three decimals; a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Return a share in percent, with one decimal and without the sign; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}"


def html_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with escaped cells, in a box that scrolls."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
