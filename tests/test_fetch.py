"""Downloads that an answer names by URL: from public addresses only, and silent about where."""

import logging
import traceback

import pytest
import trio

from pipeline.backends.fetch import Fetcher
from pipeline.errors import AttemptFailed, BackendError, NotWorthRepeating, Unavailable
from pipeline.tools.guard import is_public, resolve
from tests.support import pictures
from tests.support.loopback import Emulator, Reply, Weather, page, served

PICTURE = pictures.plain()
SIGNED = "a/b.png?X-Amz-Signature=hush-hush&X-Amz-Credential=me"


class Bucket(Emulator):
    """Gives one picture for any path; `/to/N` redirects N times, `/at/URL` there."""

    def route(self, method, path, query, body) -> Reply:
        match path.split("/")[1:]:
            case ["to", "0"]:
                return Reply(200, PICTURE)
            case ["to", n]:
                return Reply(302, headers={"Location": f"/to/{int(n) - 1}?token=hush"})
            case ["at"]:
                return Reply(307, headers={"Location": query["url"]})
        return Reply(200, PICTURE)


@pytest.fixture
def bucket():
    return Bucket()


@pytest.fixture
def origin(bucket):
    with served(bucket) as origin:
        yield origin


def named(*addresses):
    """A resolver for which every name has these addresses."""

    async def look_up(host, port):
        return addresses

    return look_up


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("192.0.0.1", False),
        ("192.0.2.7", False),
        ("192.88.99.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("233.252.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::a00:1", False),
        ("2002:7f00:1::", False),
        ("2001::7f00:1", False),
        ("2001:db8::1", False),
        ("fc00::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff0e::1", False),
    ],
)
def test_only_addresses_of_the_internet_are_public(address, public):
    assert is_public(address) is public


async def test_a_picture_is_fetched_from_an_allowed_host_without_credentials(bucket, origin):
    assert await Fetcher(["127.0.0.1"]).fetch(f"{origin}/{SIGNED}") == PICTURE
    assert set(bucket.headers[0]) == {"host", "user-agent", "accept", "accept-encoding"}
    assert bucket.headers[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize("with_port", [False, True])
async def test_a_name_may_be_allowed_with_or_without_its_port(origin, with_port):
    port = origin.rpartition(":")[2]
    fetcher = Fetcher([f"Pod.Test:{port}" if with_port else "POD.test"], resolve=named("127.0.0.1"))
    assert await fetcher.fetch(f"http://pod.test:{port}/x") == PICTURE
    other = Fetcher(["pod.test:1"], resolve=named("127.0.0.1"))
    with pytest.raises(NotWorthRepeating):
        await other.fetch(f"http://pod.test:{port}/x")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "127.1", "[::ffff:127.0.0.1]", "0"])
async def test_a_private_address_is_refused_before_anything_is_sent(bucket, origin, host):
    port = origin.rpartition(":")[2]
    with pytest.raises(NotWorthRepeating, match="allow_hosts") as caught:
        await Fetcher().fetch(f"http://{host}:{port}/{SIGNED}")
    assert caught.value.code == "forbidden_address"
    assert bucket.requests == []


async def test_the_address_that_was_judged_is_the_one_connected_to(bucket, origin):
    """A name that changes between two look-ups gains nothing: there is only one."""
    port, asked = origin.rpartition(":")[2], []

    async def rebinding(host, port):
        asked.append(host)
        return ["203.0.113.7", "127.0.0.1"] if len(asked) == 1 else ["127.0.0.1"]

    with pytest.raises(NotWorthRepeating):
        await Fetcher(resolve=rebinding).fetch(f"http://pod.test:{port}/x")
    assert asked == ["pod.test"]
    assert bucket.requests == []


async def test_of_several_addresses_the_first_that_answers_is_taken(origin):
    port = origin.rpartition(":")[2]
    fetcher = Fetcher(["pod.test"], resolve=named("127.0.0.2", "127.0.0.1"))
    assert await fetcher.fetch(f"http://pod.test:{port}/x") == PICTURE


async def test_redirects_are_followed_to_an_end(bucket, origin):
    assert await Fetcher(["127.0.0.1"]).fetch(f"{origin}/to/4") == PICTURE
    with pytest.raises(AttemptFailed, match="redirects without end"):
        await Fetcher(["127.0.0.1"]).fetch(f"{origin}/to/5")


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("http://localhost:{port}/to/0", NotWorthRepeating),
        ("http://169.254.169.254/latest/meta-data", NotWorthRepeating),
        ("file:///etc/passwd", NotWorthRepeating),
        ("http://host:port/", AttemptFailed),
    ],
)
async def test_each_redirect_is_judged_anew(origin, location, kind):
    location = location.format(port=origin.rpartition(":")[2])
    with pytest.raises(kind):
        await Fetcher(["127.0.0.1"]).fetch(f"{origin}/at?url={location}")


@pytest.mark.parametrize(
    "url", ["", "a.png", "file:///etc/passwd", "ftp://host/a.png", "http://", "http://host:port/", "http://a:70000/"]
)
async def test_what_is_no_web_address_is_refused(url):
    with pytest.raises(NotWorthRepeating) as caught:
        await Fetcher().fetch(url)
    assert caught.value.code == "forbidden_address"


WEATHER = [
    (Weather("reset"), Unavailable, "image_host"),
    (Weather("cut"), Unavailable, "image_host"),
    (Weather("hang"), Unavailable, "image_host"),
    (Weather("drip"), Unavailable, "image_host"),
    (Weather("page", reply=page(503)), Unavailable, "image_host"),
    (Weather("page", reply=Reply(429)), Unavailable, "image_host"),
    (Weather("page", reply=page(403)), AttemptFailed, "expired"),
    (Weather("page", reply=Reply(404)), AttemptFailed, "expired"),
    (Weather("page", reply=Reply(302)), AttemptFailed, "expired"),
    (Weather("answer", reply=Reply(200, b"x", zeros=200 << 20)), AttemptFailed, "too_large"),
    (Weather("answer", reply=Reply(200, b"x" * 2_000_000)), AttemptFailed, "too_large"),
]


@pytest.mark.parametrize(("weather", "kind", "code"), WEATHER)
async def test_weather_at_the_image_s_host(bucket, origin, caplog, weather, kind, code):
    caplog.set_level(logging.DEBUG)
    weather.times = 1
    bucket.weather.append(weather)
    fetcher = Fetcher(["127.0.0.1"], limit=1_000_000)
    with pytest.raises(BackendError) as caught:
        await fetcher.fetch(f"{origin}/{SIGNED}", timeout=0.4)
    assert (type(caught.value), caught.value.code) == (kind, code)
    for text in (caplog.text, "".join(traceback.format_exception(caught.value))):
        assert "hush" not in text
        assert "b.png" not in text
    assert await fetcher.fetch(f"{origin}/{SIGNED}") == PICTURE


@pytest.mark.parametrize("resolver", [resolve, named()])
async def test_a_host_without_address_may_have_one_later(resolver):
    with pytest.raises(Unavailable):
        await Fetcher(resolve=resolver).fetch("https://no-such-name.invalid/a.png")


async def test_a_name_too_long_for_dns_is_no_crash():
    with pytest.raises(Unavailable):
        await Fetcher().fetch(f"https://{'a' * 70}.invalid/a.png")


async def test_tls_checks_the_name_not_the_address(origin):
    port = origin.rpartition(":")[2]
    fetcher = Fetcher(["pod.test"], resolve=named("127.0.0.1"))
    with trio.fail_after(5), pytest.raises(Unavailable):
        await fetcher.fetch(f"https://pod.test:{port}/a.png")
