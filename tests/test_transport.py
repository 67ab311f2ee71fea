"""The wall to HTTP: what each failure means, where credentials go, and what is never said."""

import logging
import ssl
import traceback

import httpx
import pytest
import trio

from pipeline.backends.answers import Answer, read_at_most
from pipeline.backends.connecting import is_private, open_transport, proxy_for, tls
from pipeline.backends.transport import LARGE, Service, encoded
from pipeline.errors import (
    AcceptanceUnknown,
    BackendError,
    ConfigError,
    InvalidRequest,
    NotAccepted,
    Unavailable,
)
from pipeline.tools import room, spacing
from pipeline.tools.scrub import scrub
from pipeline.tools.spacing import Spacing
from tests.support.loopback import Emulator, Reply, Weather, page, said, served, transport

KEY = "rpa_0SECRETSECRETSECRET"
URL = "http://service.test/v2/e"
NOON = 1_753_704_000_000  # 2025-07-28T12:00:00Z
ITSELF = {"ok": True}


class Echo(Emulator):
    """Answers `ok` to everything."""

    def __init__(self, clock=None) -> None:
        super().__init__(clock or (lambda: 0.0))
        self.taken = 0

    def route(self, method, path, query, body) -> Reply:
        self.taken += method == "POST"
        return said(ITSELF)


def service(emulator, url=URL, *, wire=None, **more) -> Service:
    wire = wire or transport(emulator)
    return Service(url, wire, called="Thing", key=KEY, clock=lambda: NOON, **more)


@pytest.fixture
def echo():
    return Echo()


async def order(thing, timeout=20, **more):
    return thing.taken(await thing.order("run", {"input": 1}, timeout=timeout, **more))


async def test_orders_keep_their_distance_in_which_no_time_limit_runs(echo, autojump_clock):
    thing, distance = service(echo), Spacing(30.0)

    async def send():
        with room.fail_after(21), spacing.kept((distance,)):
            await order(thing)
            return trio.current_time()

    assert [await send(), await send()] == [0, 30]
    echo.weather.append(Weather("refuse"))
    with pytest.raises(Unavailable):
        await send()
    assert (trio.current_time(), await send()) == (60, 90)
    await thing.ask("status")
    assert trio.current_time() == 90


# weather over an order, the kind of error, its code, seconds it takes
ORDERS = [
    (Weather("refuse"), Unavailable, "unreachable", 0),
    (Weather("reset"), AcceptanceUnknown, "no_answer", 0),
    (Weather("swallow"), AcceptanceUnknown, "no_answer", 0),
    (Weather("cut"), AcceptanceUnknown, "no_answer", 0),
    (Weather("hang"), AcceptanceUnknown, "timed_out", 20),
    (Weather("answer", reply=Reply(200)), AcceptanceUnknown, "no_answer", 0),
    (Weather("answer", reply=Reply(200, b'{"id": "x')), AcceptanceUnknown, "no_answer", 0),
    (Weather("answer", reply=page(200)), AcceptanceUnknown, "no_answer", 0),
    (Weather("answer", reply=Reply(200, b"  <HTML>")), AcceptanceUnknown, "no_answer", 0),
    (Weather("answer", reply=page(502)), AcceptanceUnknown, "no_answer", 0),
    *((Weather("answer", reply=Reply(code)), AcceptanceUnknown, "no_answer", 0) for code in (408, 500, 502, 504, 520, 524)),
    *((Weather("page", reply=page(code)), Unavailable, "unavailable", 0) for code in (503, 521, 523, 525, 526, 530)),
    (Weather("page", reply=page(404)), Unavailable, "not_found", 0),
    (Weather("page", reply=said({}, 404)), Unavailable, "not_found", 0),
    (Weather("page", reply=Reply(401)), Unavailable, "credentials", 0),
    (Weather("page", reply=page(403)), Unavailable, "credentials", 0),
    (Weather("page", reply=Reply(402)), Unavailable, "payment", 0),
    (Weather("page", reply=Reply(429)), NotAccepted, "rate_limited", 0),
    (Weather("page", reply=Reply(301, headers={"location": "https://new.test/x?token=abc"})), Unavailable, "redirected", 0),
    (Weather("page", reply=Reply(307)), Unavailable, "redirected", 0),
    (Weather("page", reply=Reply(302, headers={"location": "http://host:port/"})), Unavailable, "redirected", 0),
    *((Weather("page", reply=said({"m": "no"}, code)), InvalidRequest, "invalid_request", 0) for code in (400, 405, 413, 422)),
    (Weather("page", reply=page(400)), AcceptanceUnknown, "no_answer", 0),
    (Weather("answer", reply=Reply(200, b"{}", {"content-length": str(200 << 20)})), AcceptanceUnknown, "too_large", 0),
    (Weather("answer", reply=Reply(200, b"{", zeros=200 << 20)), AcceptanceUnknown, "too_large", 0),
    (Weather("answer", reply=Reply(200, b"x", {"content-encoding": "gzip"})), AcceptanceUnknown, "no_answer", 0),
]  # fmt: skip


@pytest.mark.parametrize(("weather", "kind", "code", "seconds"), ORDERS)
async def test_what_a_failed_order_means(echo, autojump_clock, weather, kind, code, seconds):
    weather.times = 1
    echo.weather.append(weather)
    began = trio.current_time()
    with pytest.raises(BackendError) as caught:
        await order(service(echo))
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert trio.current_time() - began == seconds
    assert "Thing" in str(caught.value)
    assert URL in str(caught.value)
    silent = "".join(traceback.format_exception(caught.value))
    assert KEY not in silent
    assert "token=abc" not in silent


# weather over a question: None where the answer comes back for the adapter to judge
QUESTIONS = [
    (Weather("refuse"), "unreachable"),
    (Weather("reset"), "unreachable"),
    (Weather("cut"), "unreachable"),
    (Weather("hang"), "silent"),
    (Weather("answer", reply=page(200)), "unavailable"),
    (Weather("answer", reply=page(404)), "not_found"),
    (Weather("answer", reply=Reply(401)), "credentials"),
    (Weather("answer", reply=Reply(402)), "payment"),
    (Weather("answer", reply=Reply(408)), "unavailable"),
    (Weather("answer", reply=Reply(429)), "rate_limited"),
    (Weather("answer", reply=Reply(302)), "redirected"),
    *((Weather("answer", reply=Reply(code)), "unavailable") for code in (500, 502, 503, 504, 524)),
    (Weather("answer", reply=Reply(200, b"{", zeros=8 << 20)), "too_large"),
    *((Weather("answer", reply=said({}, code)), None) for code in (200, 400, 404, 405, 409, 422)),
    (Weather("answer", reply=Reply(404)), None),
]


@pytest.mark.parametrize(("weather", "code"), QUESTIONS)
async def test_what_a_failed_question_means(echo, autojump_clock, weather, code):
    weather.times = 1
    echo.weather.append(weather)
    thing = service(echo)
    if code is None:
        assert (await thing.ask("status/1")).status == weather.reply.status
        return
    with pytest.raises(NotAccepted) as caught:
        await thing.ask("status/1")
    assert caught.value.code == code
    assert isinstance(caught.value, Unavailable) is (code != "rate_limited")


@pytest.mark.parametrize("status", [400, 404, 405, 410])
async def test_a_page_that_says_no_to_one_path_alone_is_the_service_s_own_word(echo, status):
    thing = service(echo, always_there="health?brief=true")
    echo.weather.append(Weather("page", path="/status/1", reply=page(status)))
    answer = await thing.ask("status/1", base_url="http://old.test/v2/e")
    assert (answer.status, answer.is_success) == (status, False)
    assert echo.requests == [("GET", "/v2/e/health")]


@pytest.mark.parametrize(
    ("health", "code"),
    [
        (Weather("page", reply=page(404)), "not_found"),
        (Weather("page", reply=page(200)), "unavailable"),
        (Weather("page", reply=said({}, 404)), "not_found"),
        (Weather("page", reply=Reply(502)), "unavailable"),
        (Weather("refuse"), "unreachable"),
        (Weather("page", reply=Reply(429)), "rate_limited"),
    ],
)
async def test_a_page_that_says_no_while_nothing_else_is_there_either_is_a_strangers(
    echo, autojump_clock, health, code
):
    thing = service(echo, always_there="health")
    health.times = 1
    echo.weather.extend([Weather("page", path="/status/1"), health])
    with pytest.raises(NotAccepted) as caught:
        await thing.ask("status/1")
    assert caught.value.code == code
    echo.weather.append(Weather("page", path="/health"))
    with pytest.raises(Unavailable, match="404"):
        await thing.ask("health")
    assert echo.requests == [], "what is always there is asked for once"


@pytest.mark.parametrize("status", [401, 402, 403, 408, 500, 503])
async def test_other_pages_are_never_the_service_s_own_word(echo, status):
    thing = service(echo, always_there="health")
    echo.weather.append(Weather("page", path="/status/1", reply=page(status)))
    with pytest.raises(Unavailable):
        await thing.ask("status/1")
    assert echo.requests == []


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 2.5 ", 2.5),
        ("0", 0.0),
        ("-3", 0.0),
        ("999999", 3600.0),
        ("Mon, 28 Jul 2025 12:00:30 GMT", 30.0),
        ("Mon, 28 Jul 2025 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("inf", None),
        ("nan", None),
        ("Mon, 99 Jul 2025 12:00:30 GMT", None),
    ],
)
async def test_a_pause_is_asked_for_in_seconds_or_by_date(echo, header, seconds):
    for status in (429, 503):
        echo.weather.append(Weather("page", reply=Reply(status, headers={"retry-after": header})))
        with pytest.raises(NotAccepted) as caught:
            await order(service(echo))
        assert caught.value.retry_after == seconds


async def test_a_stopped_pod_s_page_says_so(echo):
    thing = service(echo, "https://abc-8188.proxy.runpod.net")
    echo.weather.extend(Weather("page", reply=page(404)) for _ in range(2))
    echo.weather.append(Weather("answer", reply=Reply(404, b""), times=1))
    for call in (order(thing), thing.ask("queue"), order(thing)):
        with pytest.raises(Unavailable, match="pod stopped") as caught:
            await call
        assert caught.value.code == "pod_stopped"


async def test_answers_have_room_for_pictures_where_asked(echo):
    large = Weather("answer", reply=Reply(200, b'"' + b"x" * (5 << 20) + b'"'), times=1)
    echo.weather.append(large)
    assert len(await order(service(echo), limit=LARGE)) == 5 << 20


@pytest.mark.parametrize(("pieces", "whole"), [((4, 6), True), ((4, 7), False), ((11,), False), ((), True)])
async def test_a_body_without_a_length_is_taken_to_the_byte(pieces, whole):
    async def chunks():
        for size in pieces:
            yield bytes(size)

    body = await read_at_most(10, chunks(), declared=None)
    assert body == (bytes(sum(pieces)) if whole else None)


async def test_json_with_nan_is_read(echo):
    echo.weather.append(Weather("answer", reply=Reply(200, b'{"max": Infinity}')))
    assert await order(service(echo)) == {"max": float("inf")}


# --- credentials


@pytest.mark.parametrize(
    ("base", "sent"),
    [
        (None, True),
        ("http://service.test:80/other", True),
        ("http://service.test:8080/v2/e", False),
        ("https://service.test/v2/e", False),
        ("http://elsewhere.test/v2/e", False),
    ],
)
async def test_the_key_goes_to_its_own_origin_alone(echo, base, sent):
    await service(echo).ask("status/1", base_url=base)
    assert ("authorization" in echo.headers[0]) is sent


async def test_basic_auth_from_a_login_or_from_the_url(echo):
    wire = transport(echo)
    for thing in (
        Service("http://service.test", wire, called="T", login=("me", "pässword")),
        Service("http://me:p%C3%A4ssword@service.test", wire, called="T"),
    ):
        assert thing.url == "http://service.test"
        await thing.ask("x")
        assert echo.headers[-1]["authorization"] == "Basic bWU6cMOkc3N3b3Jk"
        assert "pässword" not in thing.scrub("login pässword, bWU6cMOkc3N3b3Jk")


async def test_a_service_without_credentials_sends_none(echo):
    thing = Service("http://service.test/?x=1#y", transport(echo), called="T")
    await thing.ask("x")
    assert thing.url == "http://service.test"
    assert "authorization" not in echo.headers[0]


@pytest.mark.parametrize("key", ["", "  ", "with\nbreak", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key):
    with pytest.raises(ConfigError) as caught:
        Service(URL, [], called="Thing", key=key)
    assert "break" not in str(caught.value)
    assert "schl" not in str(caught.value)


def test_a_key_copied_with_its_line_end_is_taken():
    assert Service(URL, httpx.AsyncHTTPTransport(), called="Thing", key=f"{KEY}\n").secrets == (KEY,)


@pytest.mark.parametrize(
    "url", ["", "service.test", "ftp://service.test", "http://", "http://host:port", "http://a:99999999"]
)
def test_a_url_that_is_none_is_a_configuration_error(url):
    with pytest.raises(ConfigError, match="url of Thing"):
        Service(url, [], called="Thing")


def test_a_body_that_is_no_json_is_an_invalid_request():
    for body in ({"a": float("nan")}, {"a": {1}}, {"a": "\ud800"}):
        with pytest.raises(InvalidRequest):
            encoded(body)
    assert encoded({"a": "é"}) == '{"a":"é"}'.encode()


# --- what is said


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain words", "plain words"),
        ("my rpa_secret123 key", "my *** key"),
        ("my a%2Fb%2Bc key", "my *** key"),
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer ***"),
        ('{"api_key": "sk-123456", "n": 1}', '{"api_key": "***", "n": 1}'),
        (r"{\"password\": \"abc\"}", r"{\"password\": \"***\"}"),
        ("see https://b.test/a.png?X-Amz-Signature=ff now", "see https://b.test/a.png?*** now"),
        ("at http://me:pw@host.test/x", "at http://***@host.test/x"),
        ("A" * 300, "[300 characters]"),
        ("data:image/png;base64," + "B" * 300, "[322 characters]"),
        ("two\nlines\x1b[31m", "two lines [31m"),
    ],
)
def test_secrets_are_taken_out_of_what_others_say(text, clean):
    assert scrub(text, ["rpa_secret123", "a/b+c", "n"]) == clean


def test_long_texts_are_cut():
    assert scrub("word " * 1000, longest=20) == "word word word word…"


def test_an_answer_s_words():
    assert Answer(200, b"").words() == "nothing"
    assert Answer(200, b"<!DOCTYPE html>").words() == "a web page"
    assert Answer(200, b"\xff ok").words() == "\ufffd ok"


async def test_urls_are_not_logged_by_the_http_library(echo, caplog):
    caplog.set_level(logging.DEBUG)
    with served(echo) as origin:
        async with open_transport(origin, slots=1) as wire:
            await Service(origin, wire, called="T").ask("x", params={"token": "hush"})
    assert "hush" not in caplog.text
    assert echo.requests == [("GET", "/x")]


# --- real sockets


@pytest.mark.parametrize(
    ("weather", "kind", "code", "taken"),
    [
        (Weather("refuse"), AcceptanceUnknown, "no_answer", 0),
        (Weather("swallow"), AcceptanceUnknown, "no_answer", 1),
        (Weather("cut"), AcceptanceUnknown, "no_answer", 1),
        (Weather("hang"), AcceptanceUnknown, "timed_out", 1),
        (Weather("drip"), AcceptanceUnknown, "timed_out", 1),
        (Weather("page", reply=page(503)), Unavailable, "unavailable", 0),
        (Weather("answer", reply=Reply(200, b"{", zeros=200 << 20)), AcceptanceUnknown, "too_large", 1),
        (
            Weather("answer", reply=Reply(200, b"{}", {"Content-Length": "209715200"})),
            AcceptanceUnknown,
            "no_answer",
            1,
        ),
    ],
)
async def test_weather_on_a_real_socket(echo, weather, kind, code, taken):
    weather.times = 1
    echo.weather.append(weather)
    with served(echo) as origin:
        async with open_transport(origin, slots=20) as wire:
            thing = Service(origin, wire, called="Thing", key=KEY)
            with pytest.raises(BackendError) as caught:
                await order(thing, timeout=0.3)
            assert (type(caught.value), caught.value.code) == (kind, code)
            assert echo.taken == taken
            assert await order(thing) == ITSELF


async def test_a_refused_connection_a_wrong_port_s_tls_and_an_unknown_name_are_told_apart(echo):
    with served(echo) as origin:
        port = httpx.URL(origin).port
    async with open_transport(origin, slots=1) as wire:
        with pytest.raises(Unavailable, match="connection refused"):
            await order(Service(origin, wire, called="Thing"))
        with pytest.raises(Unavailable, match="connection refused"):
            await order(Service(f"http://localhost:{port}", wire, called="Thing"))
        with pytest.raises(Unavailable, match=r"not known \(DNS\)"):
            await order(Service("http://no-such-name.invalid", wire, called="Thing"))
        with served(echo) as plain, pytest.raises(Unavailable, match="TLS failed"):
            await order(Service(plain.replace("http:", "https:"), wire, called="Thing"))
    assert echo.taken == 0


def raising(error):
    async def answer(request):
        raise error

    return httpx.MockTransport(answer)


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (httpx.ConnectTimeout("t"), Unavailable, "no connection within 10 s"),
        (httpx.PoolTimeout("t"), NotAccepted, "no connection to Thing"),
        (httpx.ProxyError("proxy says 407"), Unavailable, "proxy says 407"),
        (httpx.ConnectError(""), Unavailable, "ConnectError"),
        (httpx.WriteTimeout("t"), AcceptanceUnknown, "it stopped reading"),
        (httpx.ReadTimeout("t"), AcceptanceUnknown, "it fell silent"),
        (caused(httpx.ReadError("x"), ConnectionResetError()), AcceptanceUnknown, "connection reset"),
        (caused(httpx.ConnectError("x"), BaseExceptionGroup("", [ConnectionRefusedError()])), Unavailable, "refused"),
        (
            caused(httpx.ConnectError("x"), ssl.SSLCertVerificationError("bad")),
            Unavailable,
            "certificate is not accepted",
        ),
    ],
)
async def test_the_deepest_cause_is_named(error, kind, words):
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        error.__cause__.verify_message = "self-signed certificate"
    with pytest.raises(BackendError, match=words) as caught:
        await order(service(None, wire=raising(error)))
    assert type(caught.value) is kind


async def test_too_few_connections_of_ours_are_no_outage_of_theirs():
    with pytest.raises(NotAccepted) as caught:
        await service(None, wire=raising(httpx.PoolTimeout("t"))).ask("health")
    assert (type(caught.value), caught.value.code) == (NotAccepted, "busy")


@pytest.mark.parametrize(
    ("host", "private"),
    [("127.0.0.1", True), ("::1", True), ("10.1.2.3", True), ("localhost", True), ("pod.local", True), ("nas", True),
     ("8.8.8.8", False), ("api.runpod.ai", False)],
)  # fmt: skip
def test_private_hosts_are_known_without_dns(host, private):
    assert is_private(host) is private


async def test_a_proxy_of_the_environment_is_for_public_https_alone(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    url = "https://api.runpod.ai/v2/e"
    assert proxy_for(url) is not None
    assert proxy_for("http://api.runpod.ai/v2/e") is None
    assert proxy_for("https://10.0.0.7:8188") is None
    async with open_transport(url, slots=1) as wire:
        with pytest.raises(Unavailable, match="refused"):  # by the proxy, on this machine
            await Service(url, wire, called="Thing").ask("health")


def test_all_clients_share_one_tls_context():
    assert tls() is tls()
    assert tls().verify_mode is ssl.CERT_REQUIRED
