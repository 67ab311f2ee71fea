"""`/openapi.json`, generated from the types that the routes build and the bounds that the queries are read by."""

from functools import cache
from typing import Any

from pydantic import TypeAdapter

from pipeline.gallery import answers
from pipeline.gallery.query import LONGEST_TEXT, MOST
from pipeline.model import Status
from pipeline.spec.types import LARGEST_SEED, MOST_IMAGES

Schema = dict[str, Any]

_ID = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"}
_TEXT = {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT, "pattern": r"^[^\x00]*$"}
_WORDS = {**_TEXT, "pattern": r"^[^\x00]*\w[^\x00]*$"}
_STATUS = f"({'|'.join(Status)})"
_STATUSES = {"type": "string", "default": "done,placeholder", "pattern": f"^ *{_STATUS} *(, *{_STATUS} *)*$"}
_ANSWERS = {
    "Gallery": answers.GalleryAnswer,
    "JobFile": answers.JobFileAnswer,
    "Characters": answers.CharactersAnswer,
    "Character": answers.OneCharacterAnswer,
    "Jobs": answers.JobsAnswer,
    "Job": answers.JobAnswer,
    "Health": answers.HealthAnswer,
    "Error": answers.ErrorAnswer,
}
_REFUSALS: dict[str, tuple[str, dict[str, str]]] = {
    "400": ("A parameter has a value it cannot have.", {}),
    "401": ("No token, or one that opens nothing.", {"WWW-Authenticate": "Always `Bearer`."}),
    "404": ("Not there, or not the caller's.", {}),
    "405": ("The endpoint is read-only.", {"Allow": "GET, HEAD"}),
    "409": ("No job file can ask for it.", {}),
    "416": ("The file has none of the bytes asked for.", {"Content-Range": "How many it has."}),
    "503": ("Not now.", {}),
}
_ETAG = {"ETag": "Strong; send it back as `If-None-Match`."}
_LINK = {"Link": 'The following page, `rel="next"`.'}
_PICTURE: Schema = {kind: {} for kind in ("image/png", "image/jpeg", "image/webp")}


def document(*, public_url: str, logins: bool, longest_wait: float) -> Schema:
    """Return the whole description, for this address and these ways of signing in."""
    schemes: Schema = {"token": {"type": "http", "scheme": "bearer", "description": "`pipeline token create OWNER`"}}
    if logins:
        schemes["login"] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pipeline gallery",
            "version": "1",
            "description": "Read-only: galleries, characters and jobs of the token's owner. Images are asked for by dropping job files.",
        },
        "servers": [{"url": public_url}],
        "security": [{name: []} for name in schemes],
        "paths": _paths(longest_wait),
        "components": {"schemas": _answered_types(), "securitySchemes": schemes},
    }


@cache
def _answered_types() -> Schema:
    """The same for every gallery of a process, and a tenth of a second's work."""
    _, schemas = TypeAdapter.json_schemas(
        [(name, "serialization", TypeAdapter(kind)) for name, kind in _ANSWERS.items()],
        ref_template="#/components/schemas/{model}",
    )
    return dict(schemas["$defs"])


def _paths(longest_wait: float) -> Schema:
    wait = _query(
        "wait",
        {"type": "number", "minimum": 0, "maximum": longest_wait},
        "Seconds to hold the answer while it equals `If-None-Match`.",
    )
    page = [
        _query("limit", {"type": "integer", "minimum": 1, "maximum": MOST, "default": MOST}, "Rows in the page."),
        _query("cursor", _TEXT, "What `next` of the page before said."),
        wait,
    ]
    moment = {"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]}
    words = ", ".join(f"`{word}`" for word in Status)
    gallery = [
        *page,
        _query("status", _STATUSES, f"One or several of {words}, with commas between."),
        _query("job", _TEXT, "Images of this job alone."),
        _query("label", _TEXT, "Images whose job carries this label."),
        _query("since", moment, "First stored at this moment or later."),
        _query("until", moment, "First stored before this moment."),
        _query("seed", {"type": "integer", "minimum": 0, "maximum": LARGEST_SEED}, "Images of this seed."),
        _query("q", _WORDS, "Images whose prompt contains these words."),
        _query("favorite", {"type": "boolean"}, "Favourites alone, or all others."),
    ]  # fmt: skip
    character, job = _path("characterId"), _path("jobId")
    number = _path("number", {"type": "integer", "minimum": 1, "maximum": 9_999_999_999})
    quantity = _query(
        "quantity",
        {"type": "integer", "minimum": 1, "maximum": MOST_IMAGES, "default": 1},
        "Images that the job file asks for: 1 keeps the seed, for the same image; more are new ones like it.",
    )
    job_file = _get(
        "The job file that makes an image again, or more like it", "JobFileAnswer", [character, number, quantity, wait]
    )
    job_file["get"]["responses"] |= _refusals("409")
    return {
        "/api/image-generation/character/{characterId}": _get("A character's gallery, newest first", "GalleryAnswer", [character, *gallery]),
        "/api/image-generation/character/{characterId}/images/{number}/job": job_file,
        "/api/characters": _get("The caller's characters, the newest first", "CharactersAnswer", page),
        "/api/characters/{characterId}": _get("One character", "OneCharacterAnswer", [character, wait]),
        "/api/jobs": _get("The caller's jobs, newest first", "JobsAnswer", page),
        "/api/jobs/{jobId}": _get("A job with its images, as in its result file", "JobAnswer", [job, wait]),
        "/healthz": _get("The process is alive", "HealthAnswer", [], open_to_all=True),
        "/readyz": _get("The index can be read, and the daemon can take job files and write", "HealthAnswer", [], open_to_all=True),
        "/metrics": _metrics(),
        "/media/{publicId}.{ext}": _media(),
    }  # fmt: skip


def _metrics() -> Schema:
    responses = _answered("Figures in Prometheus' text format", {"text/plain": {"schema": {"type": "string"}}}, {})
    return {
        "get": {
            "summary": "Figures for Prometheus; no token is needed on the machine itself",
            "security": [{}, {"token": []}],
            "responses": responses | _refusals("401", "405", "503"),
        }
    }


def _media() -> Schema:
    signed = "Of a signed address, as an answer gave it."
    text = {"type": "string", "minLength": 1}
    parameters = [
        {**_path("publicId", text), "description": "With its slashes as they are."},
        _path("ext", {"type": "string", "enum": ["png", "jpg", "jpeg", "webp"]}),
        _query("thumbnail", {"type": "string", "enum": ["1"]}, "The small version."),
        *(_query(name, text, signed) for name in ("v", "expires", "signature")),
    ]
    responses = _answered("The picture", _PICTURE, _ETAG)
    responses["206"] = {"description": "The part that `Range` asks for.", "content": _PICTURE}
    return {
        "get": {
            "summary": "A file of the local store, for a signed address or the owner's token",
            "security": [{}, {"token": []}],
            "parameters": parameters,
            "responses": responses | _unchanged() | _refusals("401", "404", "405", "416", "503"),
        }
    }


def _query(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _path(name: str, schema: Schema = _ID) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _get(summary: str, answer: str, parameters: list[Schema], *, open_to_all: bool = False) -> Schema:
    if open_to_all:
        responses = _answered(summary, _json(answer), {}) | _refusals("405", "503")
        return {"get": {"summary": summary, "security": [], "responses": responses}}
    responses = _answered(summary, _json(answer), _ETAG | _LINK) | _unchanged()
    refused = ["400"] if parameters else []
    refused += ["404"] if any(parameter["in"] == "path" for parameter in parameters) else []
    responses |= _refusals(*refused, "401", "405", "503")
    return {"get": {"summary": summary, "parameters": parameters, "responses": responses}}


def _answered(summary: str, content: Schema, fields: dict[str, str]) -> Schema:
    return {"200": {"description": summary, "headers": _headers(fields), "content": content}}


def _unchanged() -> Schema:
    return {"304": {"description": "Nothing has changed.", "headers": _headers(_ETAG)}}


def _refusals(*statuses: str) -> Schema:
    return {
        status: {"description": text, "headers": _headers(fields), "content": _json("ErrorAnswer")}
        for status, (text, fields) in ((status, _REFUSALS[status]) for status in statuses)
    }


def _headers(fields: dict[str, str]) -> Schema:
    return {name: {"schema": {"type": "string"}, "description": text} for name, text in fields.items()}


def _json(answer: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{answer}"}}}
