"""Every answer that is not the thing asked for: one shape, `{"success": false, "error": sentence, "code": word}`."""

from collections.abc import Mapping

import orjson
from starlette.responses import Response


class Refusal(Exception):
    """Raised anywhere below a route; the app turns it into the one shape."""

    def __init__(self, status: int, code: str, sentence: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the answer; never cached, since a token may be created the next moment."""
        body = orjson.dumps({"success": False, "error": self.sentence, "code": self.code})
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", **self.headers}
        return Response(body, self.status, headers, "application/json")


def not_found() -> Refusal:
    """Return the one 404 for what does not exist and for what is not the caller's: nobody can tell which."""
    return Refusal(404, "not_found", "There is nothing here under this name that this token may see.")


def not_in_range(size: int) -> Refusal:
    """Return the 416 for a part of a file that lies beyond its `size` bytes."""
    return Refusal(
        416,
        "bad_range",
        f"This file has {size} bytes; none of them was asked for.",
        headers={"content-range": f"bytes */{size}"},
    )


def unauthorized() -> Refusal:
    """Return the 401 for a missing token and for a wrong one alike."""
    return Refusal(
        401,
        "unauthorized",
        "A valid token is needed: send `Authorization: Bearer TOKEN`; `pipeline token list` shows which are valid, "
        "`pipeline token create OWNER` makes one.",
        headers={"www-authenticate": "Bearer"},
    )


def bad_request(sentence: str) -> Refusal:
    """Return the 400 for a known parameter with a value that it cannot have."""
    return Refusal(400, "bad_request", sentence)


def head_too_large(most: int) -> Refusal:
    """Return the 431 for a request whose path and headers have no end within `most` bytes."""
    return Refusal(431, "head_too_large", f"The path and headers of this request are longer than {most // 1024} KiB.")


def no_job_file(sentence: str) -> Refusal:
    """Return the 409 for an image that no job file can ask for as things are."""
    return Refusal(409, "no_job_file", sentence)


def method_not_allowed(path: str = "", jobs_folder: str = "") -> Refusal:
    """Return the 405; at the old generation endpoint it says where the body belongs now."""
    sentence = "This endpoint is read-only: GET and HEAD are all it answers."
    if path.rstrip("/") == "/api/image-generation/generate":
        sentence = (
            f"Images are not requested over HTTP any more: save this request's body as a .json file in {jobs_folder} "
            "and the pipeline makes them; GET /api/image-generation/character/{characterId} shows them."
        )
    return Refusal(405, "method_not_allowed", sentence, headers={"allow": "GET, HEAD"})
