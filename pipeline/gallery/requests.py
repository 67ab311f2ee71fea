"""Counts what was answered, by route and status code, for `/metrics`."""

from collections import Counter
from collections.abc import Iterable

from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OTHER = "other"  # what no route knows, so that a stranger's paths make no labels
BROKEN = "none"  # closed before it was answered

Answered = Counter[tuple[str, str]]  # route, code


class Requests:
    """Stands before the app and adds each request to `answered`."""

    def __init__(self, app: ASGIApp, routes: Iterable[Route], answered: Answered) -> None:
        self._app = app
        self._answered = answered
        self._paths = {route.endpoint: route.path for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and count the answer."""
        code = BROKEN

        async def noting(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self._answered[self._path(scope), code] += 1

    def _path(self, scope: Scope) -> str:
        endpoint = scope.get("endpoint")  # set by the router on its way
        return OTHER if endpoint is None else self._paths[endpoint]
