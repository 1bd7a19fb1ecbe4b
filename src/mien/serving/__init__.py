"""A server of readings: REST, a WebSocket for cameras, and one web page (extra `[serve]`).

    settings → readers (the models) → batcher (images), jobs (videos), streams (cameras) → app (the routes)

`admission` decides who may ask, `bodies` and `requests` what is let in, `problems` how errors are told. docs/serving.md
describes the interface and what it defends against.
"""

from __future__ import annotations

from ..errors import MissingExtra

try:
    import fastapi as _fastapi  # noqa: F401
    import python_multipart as _python_multipart  # noqa: F401
except ImportError:
    raise MissingExtra("fastapi", "serve") from None
