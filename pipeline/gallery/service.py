"""What machines ask about the process itself: health, readiness, metrics, the description of the interface."""

from collections.abc import Callable

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from pipeline import clock
from pipeline.catalogue import Catalogue
from pipeline.errors import PipelineError
from pipeline.gallery import answers, metrics, openapi
from pipeline.gallery.addresses import is_loopback
from pipeline.gallery.auth import Doorkeeper
from pipeline.gallery.changes import Changes
from pipeline.gallery.ready import Ready
from pipeline.gallery.refusals import Refusal
from pipeline.gallery.settings import GallerySettings

_FRESH = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


class Service:
    """The routes beside the galleries."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        doorkeeper: Doorkeeper,
        settings: GallerySettings,
        changes: Changes,
        intake_alive: Callable[[], bool] | None,
        now: clock.Clock,
    ) -> None:
        self._catalogue = catalogue
        self._doorkeeper = doorkeeper
        self._changes = changes
        self._intake_alive = intake_alive
        self._now = now
        described = openapi.document(
            public_url=settings.public_url, logins=settings.jwt is not None, longest_wait=settings.longest_wait
        )
        self._described = Ready(orjson.dumps(described))

    async def health(self, request: Request) -> Response:
        """`/healthz`: the process answers."""
        return _said({"success": True, "data": {"status": "alive"}})

    async def readiness(self, request: Request) -> Response:
        """`/readyz`: the index can be read and, where there is one, the intake is alive."""
        try:
            self._catalogue.owner_revision(None)
        except PipelineError:
            raise Refusal(503, "index_unreadable", "The index cannot be read; `pipeline doctor` says why.") from None
        if self._intake_alive is not None and not self._intake_alive():
            raise Refusal(503, "intake_stopped", "The jobs folder is not watched now; the log says why.")
        return _said({"success": True, "data": {"status": "ready"}})

    async def metrics(self, request: Request) -> Response:
        """`/metrics`: open to this machine itself, with any token from elsewhere."""
        client = request.client.host if request.client is not None else ""
        if not is_loopback(client) or any(name in request.headers for name in _FORWARDED):
            self._doorkeeper.caller(request)
        body = metrics.exposition(self._catalogue, now=self._now(), held=self._changes.waiting)
        return Response(body, headers={**_FRESH, "content-type": CONTENT_TYPE_LATEST})

    async def openapi(self, request: Request) -> Response:
        """`/openapi.json`."""
        headers = {"cache-control": "no-cache", "vary": "Accept-Encoding", "x-content-type-options": "nosniff"}
        return self._described.response(request, headers=headers)


def _said(answer: answers.HealthAnswer) -> Response:
    return Response(orjson.dumps(answer), headers=_FRESH, media_type="application/json")
