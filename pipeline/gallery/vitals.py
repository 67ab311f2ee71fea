"""What machines ask about the process itself: health, readiness, metrics, the description of the interface."""

from collections.abc import Callable, Mapping

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from pipeline.catalogue import Catalogue
from pipeline.errors import PipelineError
from pipeline.gallery import answers, metrics, openapi
from pipeline.gallery.addresses import is_loopback
from pipeline.gallery.auth import Doorkeeper
from pipeline.gallery.changes import Changes
from pipeline.gallery.ready import Ready
from pipeline.gallery.refusals import Refusal
from pipeline.gallery.settings import GallerySettings
from pipeline.model import Pulse
from pipeline.tools import clock

_FRESH = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


class Vitals:
    """The routes beside the galleries."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        doorkeeper: Doorkeeper,
        settings: GallerySettings,
        changes: Changes,
        requests: Mapping[tuple[str, str], int],
        pulse: Callable[[], Pulse] | None,
        now: clock.Clock,
    ) -> None:
        self._catalogue = catalogue
        self._doorkeeper = doorkeeper
        self._changes = changes
        self._requests = requests
        self._pulse = pulse
        self._now = now
        described = openapi.document(
            public_url=settings.public_url, logins=settings.jwt is not None, longest_wait=settings.longest_wait
        )
        self._described = Ready(orjson.dumps(described))

    async def health(self, request: Request) -> Response:
        """`/healthz`: the process answers."""
        return _said(request, {"success": True, "data": {"status": "alive"}})

    async def readiness(self, request: Request) -> Response:
        """`/readyz`: the index can be read and, where a daemon runs, written, and job files are taken."""
        try:
            self._catalogue.owner_revision(None)
        except PipelineError:
            raise Refusal(503, "index_unreadable", "The index cannot be read; `pipeline doctor` says why.") from None
        pulse = None if self._pulse is None else self._pulse()
        if pulse is not None and pulse.disk is not None:
            raise Refusal(503, "disk_full", "The index or the spool cannot be written now; the log says why.")
        if pulse is not None and pulse.intake is not None:
            raise Refusal(503, "intake_stopped", "No job files are taken now; the log says why.")
        notes = [] if pulse is None or pulse.deaf is None else ["New job files are found by scanning alone."]
        return _said(request, {"success": True, "data": {"status": "ready", "notes": notes}})

    async def metrics(self, request: Request) -> Response:
        """`/metrics`: open to this machine itself, with any token from elsewhere."""
        client = request.client.host if request.client is not None else ""
        if not is_loopback(client) or any(name in request.headers for name in _FORWARDED):
            self._doorkeeper.caller(request)
        body = metrics.exposition(
            self._catalogue,
            now=self._now(),
            held=self._changes.waiting,
            requests=self._requests,
            pulse=None if self._pulse is None else self._pulse(),
        )
        return Response(body, headers={**_FRESH, "content-type": CONTENT_TYPE_LATEST})

    async def openapi(self, request: Request) -> Response:
        """`/openapi.json`."""
        headers = {"cache-control": "no-cache", "vary": "Accept-Encoding", "x-content-type-options": "nosniff"}
        return self._described.response(request, headers=headers)


def _said(request: Request, answer: answers.HealthAnswer) -> Response:
    return Ready(orjson.dumps(answer)).response(request, headers=_FRESH)
