"""Text inside PNG files: reading and adding chunks without touching a pixel.

PNG specification (third edition), sections 5 and 11.3.3: chunks are length, type, data, CRC; text lives in tEXt
(Latin-1), zTXt (the same, compressed) and iTXt (UTF-8, perhaps compressed).
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CONTENT_CREDENTIALS = b"caBX"  # a C2PA manifest: it signs the bytes, so they must stay as they are
TEXT_LIMIT = 1 << 20  # bytes of one decompressed text; longer ones are cut


def is_png(data: bytes) -> bool:
    """Tell by the signature alone."""
    return data.startswith(SIGNATURE)


def is_signed(png: bytes) -> bool:
    """Tell whether content credentials forbid rewriting the file."""
    return any(kind == CONTENT_CREDENTIALS for kind, _, _ in _chunks(png))


def read_text(png: bytes) -> dict[str, str]:
    """Return all text of a PNG by keyword; damaged chunks are left out, other formats have none."""
    texts = {}
    for kind, start, end in _chunks(png):
        if kind in {b"tEXt", b"zTXt", b"iTXt"}:
            try:
                keyword, text = _decoded(kind, png[start + 8 : end - 4])
            except (ValueError, zlib.error):
                continue
            texts[keyword] = text
    return texts


def with_text(png: bytes, texts: Mapping[str, str]) -> bytes:
    """Return the file with these texts in front of the pixels, replacing those under the same keywords."""
    fresh = b"".join(_chunk(keyword, text) for keyword, text in texts.items())
    bare = without_text(png, *texts)
    header_end = next(end for kind, _, end in _chunks(bare) if kind == b"IHDR")
    return bare[:header_end] + fresh + bare[header_end:]


def without_text(png: bytes, *keywords: str) -> bytes:
    """Return the file without the texts under these keywords; all other bytes are the same."""
    unwanted = {keyword.encode("latin-1") for keyword in keywords}
    cuts = [
        (start, end)
        for kind, start, end in _chunks(png)
        if kind in {b"tEXt", b"zTXt", b"iTXt"} and png[start + 8 : end - 4].partition(b"\0")[0] in unwanted
    ]
    if not cuts:
        return png
    edges = [0, *(edge for cut in cuts for edge in cut), len(png)]
    return b"".join(png[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))


def infotext(prompt: str, negative_prompt: str | None, fields: Mapping[str, object]) -> str:
    """Write generation parameters as A1111 and all viewers of its files do; to be kept under `parameters`.

    Values that hold a comma, a colon or a line break are quoted as JSON, as A1111's own reader expects.
    """
    lines = [prompt]
    if negative_prompt:
        lines.append(f"Negative prompt: {negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in fields.items() if value is not None))
    return "\n".join(lines)


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text


def _chunks(png: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Go through kind, start and end of each whole chunk; whatever is no PNG has none."""
    if not is_png(png):
        return
    at = len(SIGNATURE)
    while at + 12 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        end = at + 12 + length
        if end > len(png):
            return
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end


def _chunk(keyword: str, text: str) -> bytes:
    text = (
        text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    )  # lone surrogates, too, have no place in a file
    try:
        kind, data = b"tEXt", keyword.encode("latin-1") + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        kind, data = b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode()
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _decoded(kind: bytes, data: bytes) -> tuple[str, str]:
    keyword, found, rest = data.partition(b"\0")
    if not found:
        raise ValueError("a text chunk without a keyword")
    name = keyword.decode("latin-1")
    if kind == b"tEXt":
        return name, rest.decode("latin-1")
    if kind == b"zTXt":
        return name, _inflated(rest[1:]).decode("latin-1")
    compressed = rest[:1] == b"\x01"
    text = rest[2:].split(b"\0", 2)[2:]  # language and translated keyword stand before it
    if not text:
        raise ValueError("an iTXt chunk that ends too early")
    return name, (_inflated(text[0]) if compressed else text[0]).decode("utf-8", "replace")


def _inflated(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, TEXT_LIMIT)
