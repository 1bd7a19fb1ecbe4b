"""Inference server: REST, a WebSocket for cameras, and a web page (extra `[serve]`).

    settings → readers (models) → batcher (images), jobs (videos), streams (cameras) → app (routes)

`admission` checks access, `requests` limits and decodes what arrives, `schemas` holds the models of requests and responses,
`problems` the errors. docs/serving.md describes the interface and its threat model.
"""

from ..errors import MissingExtra

try:
    import fastapi as _fastapi  # noqa: F401
    import prometheus_client as _prometheus_client  # noqa: F401
    import python_multipart as _python_multipart  # noqa: F401
except ImportError:
    raise MissingExtra("fastapi", "serve") from None
