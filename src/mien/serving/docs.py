"""/docs: Swagger UI from the assets of the package fastapi-swagger, so that nothing is loaded from a CDN."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI
from starlette.responses import Response

from .admission import POLICY

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mien · REST API</title>
<link rel="icon" href="/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<script defer src="/docs/swagger-ui-bundle.js"></script>
<script defer src="/docs/start.js"></script>
</head>
<body><div id="swagger-ui"></div></body>
</html>
"""
START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null, persistAuthorization: true,
  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout",
});
"""
DOCS_POLICY = POLICY.replace("img-src 'self' blob:", "img-src 'self' blob: data:").replace(
    "style-src 'self'", "style-src 'self' 'unsafe-inline'"
)
"""Swagger UI has inline styles and icons as data: URIs; scripts stay limited to this server."""


def install(app: FastAPI) -> None:
    """Add the page and its assets."""
    assets = files("fastapi_swagger") / "resources"
    pages = {
        "": ("text/html", PAGE.encode),
        "/start.js": ("text/javascript", START.encode),
        "/swagger-ui.css": ("text/css", (assets / "swagger-ui.css").read_bytes),
        "/swagger-ui-bundle.js": ("text/javascript", (assets / "swagger-ui-bundle.js").read_bytes),
    }
    for path, (kind, content) in pages.items():

        def page(kind: str = kind, content: object = content) -> Response:
            headers = {"Content-Security-Policy": DOCS_POLICY, "Cache-Control": "max-age=3600"}
            return Response(content(), media_type=kind, headers=headers)  # pyrefly: ignore

        app.add_api_route(f"/docs{path}", page, include_in_schema=False)
