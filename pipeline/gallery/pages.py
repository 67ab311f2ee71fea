"""The web page and its assets: read once, need no token, hold no data."""

from collections.abc import Iterable
from importlib.resources import files
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from pipeline.gallery.ready import Ready
from pipeline.gallery.refusals import not_found

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "cache-control": "no-cache",
    "vary": "Accept-Encoding",
}


class Pages:
    """The files of `static/`, ready to be sent."""

    def __init__(self, image_sources: Iterable[str]) -> None:
        """Take the addresses that pictures may come from beside our own, for the content security policy."""
        policy = {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": " ".join(["'self'", *map(_origin, image_sources)]),
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
        }
        self._headers = {**_ALWAYS, "content-security-policy": "; ".join(f"{k} {v}" for k, v in policy.items())}
        self._files: dict[str, Ready] = {}
        for entry in files("pipeline.gallery").joinpath("static").iterdir():
            kind = _TYPES.get("." + entry.name.rpartition(".")[2])
            if kind is not None:
                self._files[entry.name] = Ready(entry.read_bytes(), media_type=kind)

    async def page(self, request: Request) -> Response:
        """Answer `/` and `/gallery/{characterId}`: the same page, which asks for the data itself."""
        return self._files["index.html"].response(request, headers=self._headers)

    async def asset(self, request: Request) -> Response:
        """Answer `/assets/{name}`."""
        name = request.path_params["name"]
        ready = self._files.get(name) if name != "index.html" else None
        if ready is None:
            raise not_found()
        return ready.response(request, headers=self._headers)


def _origin(address: str) -> str:
    """Return an address without its path: a policy would allow that very path, and nothing below it."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
