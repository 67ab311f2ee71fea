"""The windows: an ASGI app over the catalogue that answers GET and HEAD, each owner what is theirs, and nothing else."""

import re
from collections.abc import Callable

import structlog
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.catalogue import Catalogue
from pipeline.errors import PipelineError
from pipeline.gallery.api import Api
from pipeline.gallery.auth import Doorkeeper
from pipeline.gallery.changes import Changes
from pipeline.gallery.logins import Logins
from pipeline.gallery.media import Media
from pipeline.gallery.pages import Pages
from pipeline.gallery.ready import AnswerCache
from pipeline.gallery.refusals import Refusal, bad_request, method_not_allowed, not_found
from pipeline.gallery.requests import Answered, Requests
from pipeline.gallery.settings import GallerySettings, LocalFiles
from pipeline.gallery.tokens import Tokens
from pipeline.gallery.vitals import Vitals
from pipeline.model import Pulse
from pipeline.ports import Delivery
from pipeline.tools import clock

_log = structlog.get_logger("pipeline.gallery")
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?")


class Gallery:
    """The app, and the one thing that can be asked of it from outside: to let held answers go."""

    def __init__(self, app: ASGIApp, changes: Changes) -> None:
        self._app = app
        self._changes = changes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none here; said before any route is looked for
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._app(scope, receive, send)

    def close(self) -> None:
        """Answer every held request now: the server stops."""
        self._changes.close()


def make_app(
    catalogue: Catalogue,
    tokens: Tokens,
    delivery: Delivery,
    *,
    settings: GallerySettings,
    files: LocalFiles | None = None,
    pulse: Callable[[], Pulse] | None = None,
    now: clock.Clock = clock.now,
) -> Gallery:
    """Build the gallery.

    Args:
        catalogue: read, never written.
        tokens: who may ask.
        delivery: mints the addresses that answers contain.
        settings: how the gallery shows itself.
        files: how the local store's files are found and the key of their addresses; None: none are served.
        pulse: asked by `/readyz` and `/metrics`; None under `serve`, where the index alone matters.
        now: the wall clock that addresses and tokens expire by.

    Raises:
        ConfigError: `settings.jwt` names a key that cannot be used.
    """
    logins = Logins(settings.jwt) if settings.jwt is not None else None
    doorkeeper = Doorkeeper(tokens, logins)
    answered = Answered()
    changes = Changes(lambda: catalogue.owner_revision(None))
    api = Api(
        catalogue=catalogue,
        delivery=delivery,
        doorkeeper=doorkeeper,
        changes=changes,
        cache=AnswerCache(settings.cache_bytes),
        settings=settings,
        now=now,
    )
    media = Media(catalogue, doorkeeper, files, now)
    pages = Pages((settings.public_url, *settings.image_sources))
    vitals = Vitals(
        catalogue=catalogue,
        doorkeeper=doorkeeper,
        settings=settings,
        changes=changes,
        requests=answered,
        pulse=pulse,
        now=now,
    )
    routes = _routes(api, media, vitals, pages)
    return Gallery(Requests(_answering(routes, settings), routes, answered), changes)


def _answering(routes: list[Route], settings: GallerySettings) -> Starlette:
    app = Starlette(
        routes=routes,
        middleware=_middleware(settings),
        exception_handlers={
            Refusal: _refused,
            HTTPException: _http_trouble,
            PipelineError: _trouble,
            Exception: _defect,
        },
    )
    app.router.redirect_slashes = False
    return app


def _routes(api: Api, media: Media, vitals: Vitals, pages: Pages) -> list[Route]:
    character = "/api/image-generation/character/{character_id}"
    return [
        Route(character, api.gallery),
        Route(f"{character}/images/{{number}}/job", api.job_file),
        Route("/api/characters", api.characters),
        Route("/api/characters/{character_id}", api.character),
        Route("/api/jobs", api.jobs),
        Route("/api/jobs/{job_id}", api.job),
        Route("/media/{file:path}", media.file),
        Route("/healthz", vitals.health),
        Route("/readyz", vitals.readiness),
        Route("/metrics", vitals.metrics),
        Route("/openapi.json", vitals.openapi),
        Route("/", pages.page),
        Route("/gallery/{character_id}", pages.page),
        Route("/assets/{name}", pages.asset),
    ]


def _middleware(settings: GallerySettings) -> list[Middleware]:
    chain = [Middleware(_Addressed), Middleware(_ReadOnly, jobs_folder=settings.jobs_folder)]
    if settings.cors:
        cors = Middleware(
            _Cors,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "HEAD"],
            allow_headers=["Authorization", "If-None-Match"],
            expose_headers=["ETag", "Link"],
            max_age=600,
        )
        chain.insert(0, cors)  # before the methods are looked at: it answers a browser's OPTIONS
    return chain


class _Cors(CORSMiddleware):
    """Answers a browser's question before the request; what is not allowed is refused as any other OPTIONS."""

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return answer
        refused = method_not_allowed().response()
        refused.headers["vary"] = "Origin"
        return refused


class _Addressed:
    """Refuses what does not say, once and plainly, which host it asks: a proxy in front may have understood another."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["http_version"] == "1.1":
            hosts = [value for name, value in scope["headers"] if name == b"host"]
            if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
                refusal = bad_request("HTTP/1.1 wants one `Host` header, with a name or an address and maybe a port.")
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _ReadOnly:
    """Refuses every method but GET and HEAD, whatever the path: nothing is found out by trying others."""

    def __init__(self, app: ASGIApp, jobs_folder: str) -> None:
        self._app = app
        self._jobs_folder = jobs_folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in {"GET", "HEAD"}:
            await method_not_allowed(scope["path"], self._jobs_folder).response()(scope, receive, send)
            return
        await self._app(scope, receive, send)


async def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return refusal.response()


async def _http_trouble(request: Request, trouble: Exception) -> Response:
    assert isinstance(trouble, HTTPException)
    if trouble.status_code == 404:
        return not_found().response()
    return Refusal(trouble.status_code, "bad_request", "This request cannot be answered.").response()


async def _trouble(request: Request, trouble: Exception) -> Response:
    _log.error(
        "answer_impossible", path=request.scope.get("raw_path", b"").decode("ascii", "replace"), error=str(trouble)
    )
    return Refusal(503, "unavailable", "The index or the tokens cannot be read now; the log says why.").response()


async def _defect(request: Request, defect: Exception) -> Response:
    _log.error("answer_failed", error=type(defect).__name__, exc_info=defect)
    return Refusal(500, "internal", "This answer could not be made; the log says why.").response()
