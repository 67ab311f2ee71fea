"""What workers hand back, in all the shapes there are: where the images are, and what went wrong.

Known are worker-comfyui 5 (`images` of `{type, data}`) and older (`message`), worker-a1111 and A1111 itself (raw base64
and `info`), worker-sdxl (data URIs, URLs, `image_url`), ashleykleynhans' workers (raw base64, errors with `output`),
RunPod's public endpoints (`image_url`) and OpenAI's shape (`data` of `{b64_json}`).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pybase64 import b64decode

from pipeline.errors import AttemptFailed, BackendError, InvalidRequest
from pipeline.tools.scrub import scrub

_HOLDERS = (
    "images",
    "image",
    "image_url",
    "image_urls",
    "data",
    "b64_json",
    "base64",
    "url",
    "output",
    "message",
    "result",
)
_PROSE = frozenset({"message", "output", "result", "url", "data"})  # may hold words as well: only a picture counts
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"GIF8")
_DEEPEST = 6
_DATA_URI = re.compile(r"data:[^,]{0,100};base64,", re.IGNORECASE)
_WEB = re.compile(r"https?://\S+", re.IGNORECASE)

_WORDS = ("error_message", "exception_message", "message", "msg", "error", "detail", "details", "errors", "output")
_NEVER = re.compile(
    r"workflow validation failed|value.not.in.list|invalid_prompt|missing_node_type|sampler not found|unexpected input"
    r"|not a valid input option|is a required input|does not meet the constraints|should be \S+ type|'loc'|validation error",
    re.IGNORECASE,
)
_TRACEBACK = "Traceback (most recent call last)"
_CLASS = re.compile(r"<class '([\w.]+)'>")
_MEMORY = re.compile(r"out.?of.?memory|cuda error: out", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Link:
    """An image that is still to be fetched."""

    url: str

    def __repr__(self) -> str:
        return "Link(***)"  # it may be presigned


Found = bytes | Link


def images_in(output: object) -> list[Found]:
    """Return the images of an output in their order, without A1111's grid; nothing is said of their quality."""
    if isinstance(output, Mapping) and isinstance(listed := output.get("images"), list):
        first = info_of(output).get("index_of_first_image")
        if isinstance(first, int) and 0 < first < len(listed):
            output = {**output, "images": listed[first:]}
    return list(_found(output, "output", _DEEPEST))


def _found(value: object, key: str, depth: int) -> Iterator[Found]:
    match value:
        case str():
            image = _from_text(value, prose=key in _PROSE)
            if image is not None:
                yield image
        case list() if depth:
            for item in value:
                yield from _found(item, key, depth - 1)
        case dict() if depth and value.get("type") != "temp":
            inner_key = "images" if value.get("type") == "base64" else None
            for name in _HOLDERS:
                inner = list(_found(value.get(name), inner_key or name, depth - 1))
                if inner:
                    yield from inner
                    return


def _from_text(text: str, *, prose: bool) -> Found | None:
    text = text.strip()
    if _WEB.fullmatch(text):
        return Link(text)
    uri = _DATA_URI.match(text)
    data = _decoded(text[uri.end() :] if uri else text)
    return None if data is None or (prose and not uri and not data.startswith(_MAGIC)) else data or None


def _decoded(coded: str) -> bytes | None:
    """Decode base64, also in lines, without its padding, or in the alphabet for URLs; None: it is none."""
    try:
        return b64decode(coded, validate=True)
    except ValueError:
        plain = "".join(coded.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return None


def info_of(output: Mapping[str, object]) -> Mapping[str, object]:
    """Return A1111's `info`, which is JSON inside a string; empty where there is none."""
    info = output.get("info")
    if isinstance(info, str):
        info = _as_json(info)
    return info if isinstance(info, Mapping) else {}


def used_embedding(output: object, name: str) -> bool:
    """Tell whether A1111's own record of the image says that it used the embedding."""
    if not isinstance(output, Mapping):
        return False
    texts = info_of(output).get("infotexts")
    first = texts[0] if isinstance(texts, list) and texts else ""
    hashes = re.search(r"TI hashes: (\"[^\"]*\"|[^,]*)", first) if isinstance(first, str) else None
    return hashes is not None and re.search(rf"(?<![\w-]){re.escape(name)}: ", hashes[1], re.IGNORECASE) is not None


def trouble_in(output: object) -> str:
    """Return the words of an output that tells of errors in place of images, or besides them; empty for none."""
    if not isinstance(output, Mapping):
        return ""
    said = [words_of(output[key]) for key in ("error", "errors", "detail", "details") if output.get(key)]
    if not said and isinstance(status := output.get("status"), str) and "success" not in status.lower():
        said = [words_of(output.get("message") or status)]
    return "; ".join(filter(None, said))


def words_of(error: object, depth: int = _DEEPEST) -> str:
    """Put an error into words: a sentence, JSON inside a string, a list, or a mapping; tracebacks are left out."""
    if isinstance(error, str):
        parsed = _as_json(error)
        if isinstance(parsed, dict | list) and depth:
            return words_of(parsed, depth - 1)
        return error.strip().rpartition("\n")[2] if error.startswith(_TRACEBACK) else error.strip()
    if isinstance(error, list):
        return "; ".join(filter(None, (words_of(item, depth - 1) for item in error))) if depth else ""
    if isinstance(error, Mapping):
        if not depth:
            return ""
        said = [words_of(error[key], depth - 1) for key in _WORDS if error.get(key)]
        kind = error.get("error_type") or error.get("exception_type") or error.get("type")
        named = [part for part in (_CLASS.sub(r"\1", str(kind or "")), _place(error.get("loc"))) if part]
        return ": ".join([*named, *dict.fromkeys(filter(None, said))])
    return "" if error is None else str(error)


def _place(loc: object) -> str:
    """Name what an objection of pydantic's is about; it is never more than a part of A1111's body."""
    return ".".join(str(part) for part in loc if part != "body") if isinstance(loc, list) else ""


def is_objection(output: object) -> bool:
    """Tell whether an output is A1111's 422, which worker-a1111 hands on as if it had been made: it never will be."""
    detail = output.get("detail") if isinstance(output, Mapping) else None
    return isinstance(detail, list) and any(isinstance(one, Mapping) and "loc" in one for one in detail)


def failure(said: str, *, where: str, secrets: tuple[str, ...] = ()) -> BackendError:
    """Judge by a worker's words whether making the image again could help."""
    message = f"{where}: {scrub(said, secrets) or 'no reason given'}"
    if _MEMORY.search(said):
        return AttemptFailed(message, code="out_of_memory")
    if _NEVER.search(said):
        return InvalidRequest(message, code="invalid_request")
    return AttemptFailed(message, code="failed")


def _as_json(text: str) -> object:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
