"""What other services say, made fit for logs, the index and error messages: no secrets, no pictures, no walls of text.

Whoever writes the text may want us to be busy with it: each pattern passes over a text in one go, and a text without end
is read only so far.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote

LONGEST = 600  # characters of somebody else's words that a message may carry
_READ = 100_000  # characters of them that are looked at
_SHORTEST_SECRET = 4  # shorter ones would blot out ordinary words

_PICTURE = re.compile(r"(?:data:[\w.+-]+/[\w.+-]+;base64,)?[A-Za-z0-9+/_-]{200,}={0,2}")
_USERINFO = re.compile(r"(?i)\b(https?://)[^\s/@\"'<>]+@")
_ADDRESS = re.compile(r"(?i)(https?://[^\s?\"'<>\\]*+)(\?[^\s\"'<>\\]*+)?")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_NAMED = re.compile(
    r"(?i)(authorization|api[_-]?key|secret[\w-]{0,40}+|password|token|x-amz-[\w-]{1,40}+|signature)"
    r"(\\?[\"']?\s*[=:]\s*\\?[\"']?)(?!bearer\b|basic\b)[^\s\"'&,;\\}]+"
)


def scrub(text: str, secrets: Iterable[str] = (), *, longest: int = LONGEST) -> str:
    """Take our secrets, credentials of any kind, addresses' query strings and base64 out; one line, at most `longest`."""
    for secret in sorted((s for s in secrets if len(s) >= _SHORTEST_SECRET), key=len, reverse=True):
        for spelling in {secret, quote(secret, safe="")}:
            text = text.replace(spelling, "***")
    text = _USERINFO.sub(r"\1***@", text[:_READ])
    text = _ADDRESS.sub(lambda found: f"{found[1]}?***" if found[2] else found[1], text)
    text = _NAMED.sub(r"\1\2***", _BEARER.sub(r"\1 ***", text))
    text = _PICTURE.sub(lambda found: f"[{len(found[0])} characters]", text)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
