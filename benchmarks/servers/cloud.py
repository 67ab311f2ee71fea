"""Cloudinary's upload, for what really signs: signatures are checked, assets are known by type and public id.

    python -m benchmarks.servers.cloud

Bytes are looked at and forgotten, the account is empty at first, and its Admin listing has one page.
"""

import base64
import hashlib
import re
import struct
import time
from datetime import UTC, datetime
from urllib.parse import parse_qs

from benchmarks.servers.http import arguments, said, serve

CLOUD, KEY, SECRET = "demo", "123456789012345", "s3cret-of-the-benchmark"
FRONT = f"/v1_1/{CLOUD}".encode()
BASIC = b"Basic " + base64.b64encode(f"{KEY}:{SECRET}".encode())
NAME = re.compile(rb'name="([^"]+)"')
PNG = b"\x89PNG\r\n\x1a\n"
UNSIGNED = {"file", "api_key", "cloud_name", "resource_type", "signature"}


class Cloud:
    def __init__(self):
        self._assets = {}
        self._uploads = self._refused = 0
        self._begun = time.process_time()
        self._last = None

    def answer(self, method, target, headers, body) -> bytes:
        path, _, query = target.partition(b"?")
        match method, path.removeprefix(FRONT).split(b"/"):
            case "POST", [b"", b"image", b"upload"]:
                return self._signed(headers, body, self._upload)
            case "POST", [b"", b"image", b"destroy"]:
                return self._signed(headers, body, self._destroy)
            case "GET", [b"", b"resources", b"image", kind]:
                return self._listing(headers, kind.decode(), parse_qs(query.decode()))
            case "GET", [b"", b"stats"]:
                return said(
                    {"uploads": self._uploads, "refused": self._refused, "assets": len(self._assets),
                     "last_upload": self._last, "cpu": time.process_time() - self._begun}
                )  # fmt: skip
        return said({"error": {"message": "not found"}}, 404)

    def _signed(self, headers, body, act) -> bytes:
        fields, file = _form(headers[b"content-type"], body)
        signature = fields.pop("signature", "")
        if fields.pop("api_key", "") != KEY or signature not in _signatures(fields):
            self._refused += 1
            return said({"error": {"message": f"Invalid Signature {signature}"}}, 401)
        if abs(time.time() - int(fields["timestamp"])) > 3600:
            return said({"error": {"message": "Stale request"}}, 400)
        return act(fields, file)

    def _upload(self, fields, file) -> bytes:
        if file[:8] != PNG:
            return said({"error": {"message": "Invalid image file"}}, 400)
        key = (fields.get("type", "upload"), fields["public_id"])
        if fields.get("overwrite") == "0" and (there := self._assets.get(key)):
            return said(_record(key, there) | {"existing": True})
        self._uploads += 1
        self._last = time.time()
        asset = (*struct.unpack(">II", file[16:24]), len(file), hashlib.md5(file).hexdigest(), int(self._last))
        self._assets[key] = asset
        return said(_record(key, asset))

    def _destroy(self, fields, _) -> bytes:
        gone = self._assets.pop((fields.get("type", "upload"), fields["public_id"]), None)
        return said({"result": "ok" if gone else "not found"})

    def _listing(self, headers, kind, query) -> bytes:
        if headers.get(b"authorization") != BASIC:
            return said({"error": {"message": "Invalid credentials"}}, 401)
        prefix = query.get("prefix", [""])[0]
        found = [key for key in self._assets if key[0] == kind and key[1].startswith(prefix)]
        return said({"resources": [_record(key, self._assets[key]) for key in found]})


def _record(key, asset) -> dict:
    (kind, public_id), (width, height, size, digest, version) = key, asset
    url = f"https://res.cloudinary.com/{CLOUD}/image/{kind}/v{version}/{public_id}.png"
    return {
        "asset_id": digest[::-1], "public_id": public_id, "version": version, "type": kind, "resource_type": "image",
        "format": "png", "width": width, "height": height, "bytes": size, "etag": digest, "url": url,
        "secure_url": url, "created_at": f"{datetime.fromtimestamp(version, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }  # fmt: skip


def _form(content_type: bytes, body: bytes) -> tuple[dict[str, object], bytes]:
    boundary = b"--" + content_type.partition(b"boundary=")[2].strip(b'"')
    fields, file = {}, b""
    for part in body.split(boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = NAME.search(head)[1].decode()
        if name == "file":
            file = content[:-2]
        elif name.endswith("[]"):
            fields.setdefault(name[:-2], []).append(content[:-2].decode())
        else:
            fields[name] = content[:-2].decode()
    return fields, file


def _signatures(fields) -> set[str]:
    """By Cloudinary's written rule, in its first version and its second, which escapes `&`."""
    pairs = [
        f"{name}={','.join(value) if isinstance(value, list) else value}"
        for name, value in sorted(fields.items())
        if name not in UNSIGNED
    ]
    texts = ("&".join(pairs), "&".join(sorted(pair.replace("&", "%26") for pair in pairs)))
    return {hashlib.sha1((text + SECRET).encode()).hexdigest() for text in texts}


def main() -> None:
    arguments(__doc__).parse_args()
    serve(Cloud().answer)


if __name__ == "__main__":
    main()
