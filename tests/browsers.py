"""The system's Chromium, driven by Playwright: where it is, how it starts, and what may not happen in a page.

Tests that use it are skipped, visibly, where Chromium or Playwright is absent.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install 'mien[dev]'")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDED = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is absent: apt-get install chromium"),
    pytest.mark.enable_socket,
]
"""Marks of tests that use it."""
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 60_000
"""Milliseconds that a condition in a page is waited for: machines may be busy."""


@contextmanager
def chromium(*flags: str) -> Iterator[Any]:
    """The browser, without a proxy, for the length of a block."""
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags], timeout=PATIENCE)
            yield browser
            browser.close()
    finally:
        os.environ.update(kept)


def camera(feed: Path) -> tuple[str, ...]:
    """Flags that give the browser a camera that shows a Motion JPEG file."""
    return "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={feed}"


def watched(context: Any, url: str, wrong: list[str]) -> Any:
    """A new page that notes in `wrong` each error, each warning, and each request to another host."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: wrong.append(asked.url) if not asked.url.startswith((url, "blob:", "data:")) else None)
    return page
