"""Who is asking: a bearer token of ours, or a signed login of an app's, becomes a Caller."""

from dataclasses import dataclass

from starlette.requests import Request

from pipeline.gallery.logins import Logins
from pipeline.gallery.refusals import unauthorized
from pipeline.gallery.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody with a valid token; `owner` None sees every owner's galleries."""

    owner: str | None

    def may_see(self, owner: str) -> bool:
        """Tell whether this owner's things are the caller's to see."""
        return self.owner is None or self.owner == owner


class Doorkeeper:
    """Turns an Authorization header into a Caller, or refuses."""

    def __init__(self, tokens: Tokens, logins: Logins | None) -> None:
        self._tokens = tokens
        self._logins = logins

    def caller(self, request: Request) -> Caller:
        """Return who asks.

        Raises:
            Refusal: 401, the same for no token, a wrong, an expired and a revoked one.
        """
        headers = request.headers.getlist("authorization")
        scheme, _, token = headers[0].partition(" ") if len(headers) == 1 else ("", "", "")
        caller = self._of(token.strip()) if scheme.lower() == "bearer" else None
        if caller is None:
            raise unauthorized()
        return caller

    def _of(self, token: str) -> Caller | None:
        record = self._tokens.check(token)
        if record is not None:
            return Caller(record.owner)
        owner = self._logins.owner(token) if self._logins is not None else None
        return Caller(owner) if owner is not None else None
