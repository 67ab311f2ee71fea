"""A small Cloudinary on a loopback socket, for the unmodified SDK.

It verifies signatures by its own reading of the rule, refuses what Cloudinary refuses, keeps assets by type and public id,
pages its Admin listing, and misbehaves on demand: `weather` is a list of functions, each consulted once, in order, by the
calls that come.
"""

import hashlib
import json
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import Image, UnidentifiedImageError

KEY, SECRET, CLOUD = "key-123", "s3cret-hush", "demo"


@dataclass
class Asset:
    """One kept image, as the real service describes it."""

    public_id: str
    type: str
    data: bytes
    version: int
    asset_id: str
    created_at: str
    tags: list[str]
    context: dict[str, str]
    width: int
    height: int
    format: str

    @property
    def etag(self) -> str:
        return hashlib.md5(self.data).hexdigest()

    def record(self) -> dict[str, Any]:
        signed = "s--abcdefgh--/" if self.type == "authenticated" else ""
        url = f"https://res.cloudinary.com/{CLOUD}/image/{self.type}/{signed}v{self.version}/{self.public_id}.{self.format}"
        return {
            "asset_id": self.asset_id, "public_id": self.public_id, "version": self.version, "type": self.type,
            "resource_type": "image", "format": self.format, "width": self.width, "height": self.height,
            "bytes": len(self.data), "created_at": self.created_at, "tags": self.tags,
            "context": {"custom": self.context} if self.context else {}, "url": url, "secure_url": url,
        }  # fmt: skip


@dataclass
class Answer:
    """What goes back: a status, a body (JSON or raw bytes), further headers; `cut` the connection, or let it `drip`."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    drip: bool = False  # a byte every hundredth of a second


Weather = Callable[["CloudinaryEmulator", Callable[[], Answer]], Answer]


def failing(status: int, message: str = "no") -> Weather:
    """Answer with a JSON error and do nothing."""
    return lambda _, __: Answer(status, {"error": {"message": message}})


def raw(status: int, body: bytes) -> Weather:
    """Answer with bytes as they are, and do nothing."""
    return lambda _, __: Answer(status, body)


def reset_after_storing(_: "CloudinaryEmulator", serve: Callable[[], Answer]) -> Answer:
    """Do the work, then cut the connection before the answer."""
    serve()
    return Answer(cut=True)


class CloudinaryEmulator:
    """Start with `with CloudinaryEmulator() as cloud:`; `cloud.url` is the SDK's upload_prefix."""

    def __init__(self) -> None:
        self.assets: dict[tuple[str, str], Asset] = {}
        self.weather: list[Weather] = []
        self.uploads = 0  # uploads that really stored bytes
        self.calls: list[str] = []
        self.admin_left = 500
        self.release = threading.Event()  # what hangs or drips ends with it
        self.busiest = 0
        self._busy = 0
        self._versions = 1_700_000_000
        self._lock = threading.Lock()
        emulator = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                self._reply(lambda: emulator.admin(self))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._reply(lambda: emulator.post(self.path, self.headers["Content-Type"], body))

            def _reply(self, serve: Callable[[], Answer]) -> None:
                answer = emulator.through_the_weather(urlsplit(self.path).path, serve)
                if answer.cut:
                    self.close_connection = True
                    self.connection.close()
                    return
                data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in {**answer.headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in [data[at : at + 1] for at in range(len(data))] if answer.drip else [data]:
                    self.wfile.write(piece)
                    if answer.drip:
                        emulator.release.wait(0.01)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that went away is no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "CloudinaryEmulator":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def through_the_weather(self, path: str, serve: Callable[[], Answer]) -> Answer:
        with self._lock:
            self.calls.append(path)
            weather = self.weather.pop(0) if self.weather else None
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        try:
            return weather(self, serve) if weather else serve()
        finally:
            with self._lock:
                self._busy -= 1

    def plant(
        self,
        public_id: str,
        data: bytes,
        *,
        type: str = "upload",
        context: dict[str, str] | None = None,
        tags: list[str] | None = None,
        created_at: str | None = None,
    ) -> Asset:
        """Put an asset there as another tool would have."""
        return self._keep(public_id, type, data, tags or [], context or {}, created_at)

    def _keep(
        self,
        public_id: str,
        type: str,
        data: bytes,
        tags: list[str],
        context: dict[str, str],
        created_at: str | None = None,
    ) -> Asset:
        with Image.open(BytesIO(data)) as picture:
            width, height, kind = picture.width, picture.height, (picture.format or "PNG").lower()
        self._versions += 1
        asset = Asset(
            public_id, type, data, self._versions, f"asset{self._versions}",
            created_at or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), tags, context, width, height, kind,
        )  # fmt: skip
        self.assets[type, public_id] = asset
        return asset

    # ── the Upload API ─────────────────────────────────────────────────────────────────────────────────────────────

    def post(self, path: str, content_type: str, body: bytes) -> Answer:
        parts = path.split("/")
        if parts[:3] != ["", "v1_1", CLOUD]:
            return _error(401, "Invalid cloud_name " + parts[2])
        fields, data = _form(content_type, body)
        if (refusal := _signature_refused(fields)) is not None:
            return refusal
        with self._lock:
            return self._destroyed(fields) if parts[-1] == "destroy" else self._uploaded(fields, data)

    def _uploaded(self, fields: dict[str, Any], data: bytes | None) -> Answer:
        public_id, type = fields.get("public_id", ""), fields.get("type", "upload")
        if (
            not public_id
            or public_id != public_id.strip(" /")
            or len(public_id) > 255
            or set(public_id) & set("?&#\\%<>+")
        ):
            return _error(400, f"public_id ({public_id}) is invalid")
        if not data:
            return _error(400, "Missing required parameter - file")
        if (there := self.assets.get((type, public_id))) and fields.get("overwrite") == "0":
            return Answer(200, {**there.record(), "etag": there.etag, "existing": True})
        try:
            asset = self._keep(
                public_id, type, data, fields.get("tags", "").split(","), _context(fields.get("context", ""))
            )
        except UnidentifiedImageError:
            return _error(400, "Invalid image file")
        self.uploads += 1
        return Answer(200, {**asset.record(), "etag": asset.etag, "overwritten": there is not None})

    def _destroyed(self, fields: dict[str, Any]) -> Answer:
        gone = self.assets.pop((fields.get("type", "upload"), fields["public_id"]), None)
        return Answer(200, {"result": "ok" if gone else "not found"})

    # ── the Admin API ──────────────────────────────────────────────────────────────────────────────────────────────

    def admin(self, request: BaseHTTPRequestHandler) -> Answer:
        url = urlsplit(request.path)
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic" or b64decode(credentials).decode() != f"{KEY}:{SECRET}":
            return _error(401, "Invalid credentials")
        self.admin_left -= 1
        quota = {"X-FeatureRateLimit-Limit": "500", "X-FeatureRateLimit-Remaining": str(max(self.admin_left, 0))}
        if self.admin_left < 0:
            reset = datetime.fromtimestamp(time.time() + 3600, UTC)
            return _error(
                420,
                f"Rate Limit Exceeded. Limit of 500 api operations reached. Try again on {reset:%Y-%m-%d %H:%M:%S} UTC",
            )
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        type, _, public_id = url.path.partition("/resources/image/")[2].partition("/")
        if public_id:  # the details of one, which tell its etag where a listing does not
            one = self.assets.get((type, unquote(public_id)))
            if one is None:
                return _error(404, f"Resource not found - {unquote(public_id)}")
            return Answer(200, one.record() | {"etag": one.etag}, quota)
        with self._lock:
            matching = sorted(
                (
                    asset
                    for (kind, _), asset in self.assets.items()
                    if kind == type and asset.public_id.startswith(query.get("prefix", ""))
                ),
                key=lambda asset: asset.public_id,
            )
        start, size = int(query.get("next_cursor", 0)), min(int(query.get("max_results", 10)), 500)
        body: dict[str, Any] = {"resources": [asset.record() for asset in matching[start : start + size]]}
        if start + size < len(matching):
            body["next_cursor"] = str(start + size)
        return Answer(200, body, quota)


def _error(status: int, message: str) -> Answer:
    return Answer(status, {"error": {"message": message}})


def _form(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes | None]:
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields: dict[str, Any] = {}
    data = None
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if name == "file":
            data = content
        elif name.endswith("[]"):
            fields.setdefault(name[:-2], []).append(content.decode())
        else:
            fields[name] = content.decode()
    return fields, data


def _signature_refused(fields: dict[str, Any]) -> Answer | None:
    """Check the signature by the written rule: sorted key=value pairs, `&` escaped (version 2), then the secret."""
    if fields.get("api_key") != KEY:
        return _error(401, f"Unknown API key {fields.get('api_key')}")
    if abs(time.time() - int(fields.get("timestamp", 0))) > 3600:
        return _error(400, "Stale request - reported time is more than 1 hour ago")
    signable = {
        k: ",".join(v) if isinstance(v, list) else v
        for k, v in fields.items()
        if k not in {"signature", "api_key"} and v
    }
    version_2 = "&".join(sorted(f"{k}={v}".replace("&", "%26") for k, v in signable.items()))
    version_1 = "&".join(f"{k}={v}" for k, v in sorted(signable.items()))
    good = {hashlib.sha1((text + SECRET).encode()).hexdigest() for text in (version_1, version_2)}
    if fields.get("signature") not in good:
        return _error(401, f"Invalid Signature {fields.get('signature')}. String to sign - '{version_2}'.")
    return None


def _context(text: str) -> dict[str, str]:
    """Undo `k=v|k2=v2` with its backslash escapes, character by character."""
    pairs: list[list[str]] = [["", ""]]
    side, escaped = 0, False
    for letter in text:
        if escaped or letter not in "\\|=":
            pairs[-1][side] += letter
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == "|":
            pairs.append(["", ""])
            side = 0
        else:
            side = 1
    return {key: value for key, value in pairs if key}
