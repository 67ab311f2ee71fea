"""What no service should answer, and some do: hypothesis strategies for replies that are nearly right, or not at all.

A reply is a service's own answer with a few places of it twisted, under any status, with any header, or cut short.
"""

import json
import math
import re
from dataclasses import asdict, is_dataclass

from hypothesis import strategies as st

from pipeline.tools.pauses import LONGEST_ASKED
from tests.support.loopback import PAGE, Reply

SIGNATURE = "b6f1d9c2aa77hush"  # of a presigned address, as services like to quote them
PRESIGNED = f"https://bucket.example/a.png?X-Amz-Credential=AKIA&X-Amz-Signature={SIGNATURE}"
DEPTHS = (900, 1_100, 5_000, 200_000)  # about what orjson, Python's recursion and nobody takes
LARGEST = 2**63 - 1  # an integer of the index

_LITERALS = [None, True, False, 0, -1, 7, 2**31, 2**63, -(2**70), 10**400, 0.5, -0.0, 1e308, math.nan, math.inf]
_WORDS = ["", " ", "\0", "\ud800", "\u202e", "null", "0", "COMPLETED", "FAILED", "success", "error", "output", "temp"]
_WORDS += ["../../etc/passwd", PRESIGNED, "http://[", "http://x:99999/", "http://\ud800/", "data:image/png;base64,////"]
_WORDS += ["9999-99-99 99:99:99 UTC", "-292277022399-01-01", "0001-01-01", f"http://{'a' * 70}.example/a.png"]
_REPEATED = ("x", "http://", "a-", "secret", "data:", "9", " ", "{", '\\"')
_WORDS += [
    f"@70000 times {word}@" for word in _REPEATED
]  # written out at the last moment: hypothesis shows its examples
_DEEP = "@nested {} deep@"
_TIMES = re.compile(rb"@(\d+) times ([^@]+)@")

TEXTS = st.sampled_from(_WORDS) | st.text(max_size=20)
VALUES = st.one_of(
    st.sampled_from(_LITERALS),
    TEXTS,
    st.sampled_from([[], {}, [[]], {"": None}, [None], [1, 2], ["a", "b"], {"a": {"b": []}}]),
    st.sampled_from([_DEEP.format(depth) for depth in DEPTHS]),
    st.lists(TEXTS, max_size=3),
)
STATUSES = (200, 201, 204, 206, 300, 301, 304, 307, 400, 401, 402, 403, 404, 405, 408, 409, 413, 418, 420, 422, 429)
STATUSES += (500, 501, 502, 503, 504, 520, 521, 524, 530, 599)
HEADERS = st.sampled_from(
    [
        {},
        {"Content-Type": "text/html"},
        {"Content-Type": "\xff/\xfe; charset=nothing"},
        {"Retry-After": "-5"},
        {"Retry-After": "1e400"},
        {"Retry-After": "nan"},
        {"Retry-After": "Fri, 99 Feb 99999 99:99:99 GMT"},
        {"Location": "http://["},
        {"Location": "http://x:99999/"},
        {"Location": "\xff\xfe"},
        {"Location": PRESIGNED},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "nothing, br, deflate"},
        {"Set-Cookie": "a=b; Expires=nonsense; Max-Age=" + "9" * 40},
        {"Content-Length": "0"},
    ]
)


def says(secret):
    """Sentences in which a service quotes our own credentials back at us."""
    return st.sampled_from([f"bad key {secret}", secret, f'{{"api_key": "{secret}"}}', f"Bearer {secret} {PRESIGNED}"])


@st.composite
def twisted(draw, value, values=VALUES):
    """Draw the value with up to three of its places changed."""
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
        value = _twist(draw, value, values)
    return value


def _twist(draw, value, values):
    places = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not places or not draw(st.integers(0, 7)):
        return draw(values)
    place = draw(st.sampled_from(places))
    changed = dict(value) if isinstance(value, dict) else list(value)
    if draw(st.integers(0, 9)):
        changed[place] = _twist(draw, value[place], values)
    else:
        del changed[place]
    return changed


def written(value):
    """Write JSON as a careless program would: NaN, half characters and nesting without end included."""
    text = json.dumps(value)
    for depth in DEPTHS:
        text = text.replace(f'"{_DEEP.format(depth)}"', "[" * depth + "]" * depth)
    return _TIMES.sub(lambda found: int(found[1]) * found[2], text.encode())


@st.composite
def replies(draw, templates, values=VALUES):
    """Draw a kind of weather and the reply under it; `templates` holds what a service says when all is well."""
    template = draw(st.sampled_from(templates))
    body = template if isinstance(template, bytes) else written(draw(twisted(template, values)))
    match draw(st.integers(0, 19)):
        case 0:
            body = draw(st.binary(max_size=60))
        case 1:
            body = PAGE
        case 2:
            body = body[: draw(st.integers(0, len(body)))]
    status = draw(st.sampled_from((200,) * 40 + STATUSES))
    headers = draw(st.just({}) | HEADERS)
    kind = draw(st.sampled_from(("",) * 30 + ("reset", "swallow", "cut")))
    return kind, Reply(status, body, headers)


def assert_keepable(made):
    """The index can hold it, JSON can tell it, and a terminal can show it."""
    value = asdict(made) if is_dataclass(made) and not isinstance(made, type) else made
    match value:
        case dict():
            for inner in value.values():
                assert_keepable(inner)
        case list() | tuple():
            for inner in value:
                assert_keepable(inner)
        case str():
            assert value.encode() is not None
            assert "\0" not in value
        case bool() | None | bytes():
            pass
        case int():
            assert -LARGEST <= value <= LARGEST
        case float():
            assert math.isfinite(value)


def assert_in_our_own_words(error, secrets):
    """One short line without secrets, a word for its kind, and figures that the index can hold."""
    text = str(error)
    assert text
    assert error.code.isidentifier()
    assert error.retry_after is None or 0 <= error.retry_after <= LONGEST_ASKED
    assert 0 <= getattr(error, "gpu_seconds", 0) < math.inf
    assert len(text) < 1_500
    assert text.isprintable()
    for secret in (*secrets, SIGNATURE):
        assert secret not in text
