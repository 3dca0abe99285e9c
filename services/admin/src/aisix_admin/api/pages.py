"""The API's description for people: Swagger UI at `/admin/docs`, from files of this package and nothing from elsewhere.

The page is static and holds no secret, so it asks for no key; what it calls does. `/admin/openapi-scalar` is where the
reference has its page. Paths of files are fixed, one route each.
"""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from aiohttp import web

from .edge import Handler

VERSION: Final = "5.35.0"
"""Of swagger-ui-dist, whose files lie in `static/swagger`; part of their paths, so that they may be kept for ever."""
PAGES: Final = ("/admin/docs", "/admin/openapi-scalar")
FILES: Final[Mapping[str, str]] = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "start.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}

_ROOT: Final = f"/admin/docs/{VERSION}"
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_SAFE: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "no-cache"
_PAGE: Final = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>AISIX Admin API</title>
<link rel="icon" type="image/png" href="{_ROOT}/favicon-32x32.png">
<link rel="stylesheet" href="{_ROOT}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript; the description itself is at /admin/openapi.json.</noscript>
<script src="{_ROOT}/swagger-ui-bundle.js"></script>
<script src="{_ROOT}/start.js"></script>
</body>
</html>
"""


def mount(app: web.Application) -> None:
    """Put the page and its files on `app`."""
    page = _serving(_PAGE.encode(), "text/html", _ASK_AGAIN)
    for path in PAGES:
        app.router.add_get(path, page)
    folder = files("aisix_admin") / "static" / "swagger"
    for name, kind in FILES.items():
        caching = _ASK_AGAIN if name == "start.js" else _FOR_EVER  # ours changes while VERSION does not
        app.router.add_get(f"{_ROOT}/{name}", _serving((folder / name).read_bytes(), kind, caching))


def _serving(body: bytes, kind: str, caching: str) -> Handler:
    etag = hashlib.sha256(body).hexdigest()[:32]
    headers = {**_SAFE, "Cache-Control": caching, "ETag": f'"{etag}"'}
    charset = None if kind.startswith("image/") else "utf-8"

    async def handler(request: web.Request) -> web.StreamResponse:
        known = request.if_none_match or ()
        if any(each.value in (etag, "*") for each in known):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=kind, charset=charset, headers=headers)

    return handler
