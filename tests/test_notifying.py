"""Whoever wants to know is told how a job has ended: receivers on real sockets, back-off on the virtual clock."""

import base64
import hashlib
import hmac
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial

import orjson
import pytest
import trio
from click.testing import CliRunner

from pipeline import daemon
from pipeline import lifecycle as law
from pipeline.catalogue import Catalogue
from pipeline.cli import main
from pipeline.config import load_config
from pipeline.ending.notifying import AT_A_RECEIVER, GIVE_UP, Notifying
from pipeline.ending.webhook import NotDelivered, Poster, signature
from pipeline.errors import ConfigError, IndexTrouble
from pipeline.ledger import open_ledger
from pipeline.ledger.outbox import _STILL_MADE_AGAIN
from pipeline.model import Fault
from pipeline.tools.clock import rfc3339
from tests.support.index import HandClock, adopted, give_up, images_of, job, make, open_index
from tests.support.loopback import Emulator, Reply, Weather, served
from tests.support.scripted import no_jitter, reading
from tests.support.waiting import becomes, inline, wall

KEY = b"a key of thirty-two bytes, exact"
WHSEC = f"whsec_{base64.b64encode(KEY).decode()}"
HOOK = "hook/T0P-KEY?token=hush"


@dataclass
class Receiver(Emulator):
    """Takes messages; `/moved` redirects to `/hook`."""

    def __init__(self):
        super().__init__()
        self.bodies = []

    def route(self, method, path, query, body):
        self.bodies.append(body)
        assert method == "POST"
        if path == "/moved":
            return Reply(307, headers={"Location": "/hook"})
        return Reply(204)

    def genuine(self, n, key=KEY):
        """Check a message's signature with nothing of the sender's."""
        headers, body = self.headers[n], self.bodies[n]
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        return headers["webhook-signature"] == f"v1,{expected}"


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture
def origin(receiver):
    with served(receiver) as origin:
        yield origin


def poster(key=KEY, clock=None, **more):
    return Poster(key, ("127.0.0.1",), clock=clock or HandClock(), **more)


@dataclass
class Office:
    ledger: object
    catalogue: Catalogue
    path: object
    clock: object = field(default_factory=HandClock)

    async def end(self, job_id, notify, quantity=1):
        """A job that has ended, its result filed."""
        await self.ledger.accept([job(job_id, quantity=quantity, notify=notify)])
        for image in images_of(self.ledger, job_id):
            await make(self.ledger, image)
        await self.ledger.filed(job_id)

    def stage(self, post, draw=no_jitter):
        return Notifying(self.ledger, self.catalogue, post, draw=draw, clock=self.clock)

    def notices(self):
        return notices(self.path)


def notices(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM notices ORDER BY seq")]


@asynccontextmanager
async def office(folder, clock=None):
    clock = clock or HandClock()
    async with open_index(folder, clock) as ledger:
        with closing(Catalogue(folder / "index.db")) as catalogue:
            yield Office(ledger, catalogue, folder / "index.db", clock)


@asynccontextmanager
async def opened(folder, clock=None):
    """An index whose owner has a folder, so that jobs are numbered at once."""
    async with office(folder, clock) as here:
        await here.ledger.accept([job("first")])
        await adopted(here.ledger)
        yield here


@asynccontextmanager
async def at_work(stage):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.run)
        yield
        nursery.cancel_scope.cancel()


# -- one message


def test_signed_as_the_standards_own_example():
    key = base64.b64decode("plJ3nmyCDGBKInavdOK15jsl")
    body = b'{"event_type":"ping","data":{"success":true}}'
    said = signature(key, "msg_loFOjxBNrRLzqYUf", 1731705121, body)
    assert said == "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="


async def test_a_message_carries_id_moment_and_signature(receiver, origin):
    await poster().post(f"{origin}/{HOOK}", "msg_1", b'{"success":true}')
    assert receiver.requests == [("POST", "/hook/T0P-KEY")]
    headers = receiver.headers[0]
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("msg_1", "1753696800")
    assert headers["content-type"] == "application/json"
    assert receiver.genuine(0)
    assert not receiver.genuine(0, b"another key")


async def test_without_a_secret_nothing_is_signed(receiver, origin):
    await poster(None).post(f"{origin}/hook", "msg_1", b"{}")
    assert "webhook-signature" not in receiver.headers[0]


@pytest.mark.parametrize(
    ("kind", "reply", "said"),
    [
        ("answer", Reply(500), "answered 500"),
        ("answer", Reply(404, b"<html>no"), "answered 404"),
        ("reset", Reply(), "broke off or could not be reached"),
        ("hang", Reply(), "did not answer in 0.3 s"),
    ],
)
async def test_what_is_no_delivery_says_who_and_why_and_no_more(receiver, origin, kind, reply, said):
    receiver.weather.append(Weather(kind, reply=reply))
    with pytest.raises(NotDelivered) as caught:
        await poster(timeout=0.3).post(f"{origin}/{HOOK}", "msg_1", b"{}")
    assert str(caught.value) == f"127.0.0.1 {said}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not caught.value.for_good


async def test_a_redirect_is_not_followed(receiver, origin):
    with pytest.raises(NotDelivered, match=r"redirects \(307\), which is not followed"):
        await poster().post(f"{origin}/moved", "msg_1", b"{}")
    assert receiver.requests == [("POST", "/moved")]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_private_address_is_refused_unless_it_is_allowed(receiver, origin, host):
    port = origin.rpartition(":")[2]
    url = f"http://{host}:{port}/{HOOK}"
    with pytest.raises(NotDelivered, match=r"is a private address: list it in `notify\.allow_hosts`") as caught:
        await Poster(KEY).post(url, "msg_1", b"{}")
    assert "hush" not in str(caught.value)
    assert receiver.requests == []
    await Poster(KEY, [f"{host}:{port}"]).post(url, "msg_1", b"{}")
    assert len(receiver.requests) == 1


async def test_a_name_that_leads_to_a_private_address_is_refused_too(receiver, origin):
    async def rebound(host, port):
        return ["127.0.0.1"]

    with pytest.raises(NotDelivered, match=r"app\.example is a private address"):
        await Poster(KEY, resolve=rebound).post(f"http://app.example:{origin.rpartition(':')[2]}/", "msg_1", b"{}")
    assert receiver.requests == []


async def test_the_receivers_wishes_are_read(receiver, origin):
    receiver.weather.append(Weather("answer", reply=Reply(503, headers={"Retry-After": "120"})))
    with pytest.raises(NotDelivered) as caught:
        await poster().post(f"{origin}/hook", "msg_1", b"{}")
    assert (caught.value.retry_after, caught.value.for_good) == (120.0, False)
    receiver.weather.append(Weather("answer", reply=Reply(410)))
    with pytest.raises(NotDelivered) as caught:
        await poster().post(f"{origin}/hook", "msg_1", b"{}")
    assert caught.value.for_good


async def test_an_answer_without_end_is_not_read(receiver, origin):
    receiver.weather.append(Weather("answer", reply=Reply(200, zeros=1 << 40)))
    with trio.fail_after(10):
        await poster().post(f"{origin}/hook", "msg_1", b"{}")


async def test_what_is_no_address_is_given_up(receiver):
    with pytest.raises(NotDelivered, match="is no web address") as caught:
        await poster().post("http://a\x00b/", "msg_1", b"{}")
    assert caught.value.for_good


# -- which ends there are


async def test_each_end_of_a_job_is_one_notice(tmp_path):
    async with opened(tmp_path) as here:
        ledger = here.ledger
        await ledger.accept([job("j1", quantity=3, notify="https://App.example:8443/hook"), job("silent")])
        one, two, three = images_of(ledger, "j1")
        await make(ledger, one)
        two, three = await give_up(ledger, two), await give_up(ledger, three)
        assert [notice["receiver"] for notice in here.notices()] == ["app.example:8443"]
        # a retry of both: one end, once both are through
        two, three = await ledger.record(two, law.Retried()), await ledger.record(three, law.Retried())
        await make(ledger, two)
        assert len(here.notices()) == 1
        with closing(sqlite3.connect(here.path)) as index:
            ((_, _, _, plan),) = index.execute(f"EXPLAIN QUERY PLAN {_STILL_MADE_AGAIN}", (1,)).fetchall()
        assert "images_made_again" in plan
        await ledger.record(three, law.GaveUp(Fault("timed_out", "again")))
        assert len(here.notices()) == 2
        await ledger.record(ledger.image(one.row), law.Removed())
        for image in images_of(ledger, "silent"):
            await make(ledger, image)
        ended = here.notices()
        assert len(ended) == 2
        assert len({notice["id"] for notice in ended}) == 2
        assert all(notice["next_at"] == notice["ended_at"] for notice in ended)


async def test_a_job_that_is_cancelled_before_it_has_numbers_has_ended(tmp_path):
    async with office(tmp_path) as here:
        await here.ledger.accept([job("j1", notify="https://app.example/")])
        assert await here.ledger.withdraw("j1")
        assert len(here.notices()) == 1


# -- the stage, over real sockets


async def test_an_ended_job_is_told_as_its_result_file_tells_it(tmp_path, receiver, origin, capsys):
    async with opened(tmp_path) as here:
        await here.end("j1", f"{origin}/{HOOK}", quantity=2)
        stage = here.stage(poster().post)
        async with at_work(stage):
            await becomes(lambda: here.notices()[0]["delivered_at"])
            await becomes(stage.at_rest)
        assert receiver.genuine(0)
        assert orjson.loads(receiver.bodies[0]) == {"success": True, "data": here.catalogue.result("j1")}
        (notice,) = here.notices()
        assert (notice["attempts"], notice["next_at"], notice["trouble"]) == (1, None, None)
        assert receiver.headers[0]["webhook-id"] == notice["id"]
    said = capsys.readouterr().out
    assert "notified" in said
    assert "T0P-KEY" not in said
    assert "hush" not in said


async def test_a_500_then_a_200_is_the_same_message_twice(tmp_path, receiver, origin, capsys):
    receiver.weather.append(Weather("answer", reply=Reply(500)))
    clock = HandClock()
    async with opened(tmp_path, clock) as here:
        await here.end("j1", f"{origin}/{HOOK}")
        stage = here.stage(poster(clock=clock).post)
        async with at_work(stage):
            await becomes(lambda: here.notices()[0]["attempts"] == 1 and stage.at_rest())
            (notice,) = here.notices()
            assert notice["next_at"] == clock.at + 5_000
            assert notice["trouble"] == "127.0.0.1 answered 500"
            clock.at += 5_000
            stage.bell.ring()
            await becomes(lambda: here.notices()[0]["delivered_at"])
        (notice,) = here.notices()
    assert (notice["attempts"], notice["next_at"], notice["trouble"]) == (2, None, None)
    first, second = receiver.headers
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) == int(first["webhook-timestamp"]) + 5
    assert receiver.genuine(0)
    assert receiver.genuine(1)
    said = capsys.readouterr().out
    assert "not_notified" in said
    assert "T0P-KEY" not in said


async def test_nobody_is_told_before_the_result_file_is_there(tmp_path, receiver, origin):
    async with opened(tmp_path) as here:
        await here.end("j1", f"{origin}/hook")
        await here.ledger.accept([job("j2", notify=f"{origin}/hook")])
        await make(here.ledger, images_of(here.ledger, "j2")[0])
        stage = here.stage(poster().post)
        async with at_work(stage):
            await becomes(lambda: here.notices()[0]["delivered_at"] and stage.at_rest())
            assert here.notices()[1]["attempts"] == 0
            await here.ledger.filed("j2")
            stage.bell.ring()
            await becomes(lambda: here.notices()[1]["delivered_at"])


# -- restarts


async def test_a_crash_between_the_end_and_its_telling_loses_nothing_and_repeats_at_most_one(tmp_path, autojump_clock):
    told = []

    async def crash(url, message_id, body):
        told.append(message_id)
        raise KeyboardInterrupt  # the receiver has it, and we die before it is noted

    async def take(url, message_id, body):
        told.append(message_id)

    async with opened(tmp_path, wall) as here:
        await here.end("j1", "https://app.example/hook")
        with pytest.RaisesGroup(KeyboardInterrupt):
            await here.stage(crash).run()
    for _ in range(2):
        async with office(tmp_path, wall) as here, at_work(here.stage(take)):
            await trio.sleep(3 * GIVE_UP)
    assert len(told) == 2
    assert len(set(told)) == 1


async def test_what_was_told_is_noted_though_the_end_comes_at_that_moment(tmp_path, autojump_clock):
    async with opened(tmp_path, wall) as here, trio.open_nursery() as nursery:
        await here.end("j1", "https://app.example/hook")

        async def take(url, message_id, body):
            nursery.cancel_scope.cancel()

        nursery.start_soon(here.stage(take).run)
    assert notices(tmp_path / "index.db")[0]["delivered_at"]


# -- back-off, on the virtual clock


class Tries:
    """A receiver that does as it is told, and when it was asked, in seconds after the first time."""

    def __init__(self, *, refuses=True, takes=0.0, **refusal):
        self.refuses = refuses
        self.takes = takes
        self.refusal = refusal
        self.moments = []
        self.busy = self.busiest = 0

    async def post(self, url, message_id, body):
        self.moments.append(trio.current_time())
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        await trio.sleep(self.takes)
        self.busy -= 1
        if self.refuses:
            raise NotDelivered("app.example answered 500", **self.refusal)

    @property
    def after(self):
        return [round(moment - self.moments[0], 3) for moment in self.moments]


async def tried(folder, tries, seconds=3 * GIVE_UP, draw=no_jitter):
    async with opened(folder, wall) as here:
        await here.end("j1", "https://app.example/hook")
        async with at_work(here.stage(tries.post, draw)):
            await trio.sleep(seconds)
        return here.notices()[0]


async def test_tries_grow_apart_for_a_day_and_then_it_is_given_up(tmp_path, autojump_clock):
    tries = Tries()
    notice = await tried(tmp_path, tries)
    growing = [5.0 * (2**n - 1) for n in range(11)]  # 0, 5, 15 … 5115
    hourly = [growing[-1] + 3600.0 * n for n in range(1, 23)]
    assert tries.after == [*growing, *hourly, GIVE_UP]
    assert (notice["attempts"], notice["next_at"], notice["delivered_at"]) == (len(tries.moments), None, None)
    assert notice["trouble"] == "app.example answered 500"


async def test_jitter_halves_a_pause_at_most(tmp_path, autojump_clock):
    tries = Tries()
    await tried(tmp_path, tries, 20, draw=lambda: 0.0)
    assert tries.after == [0.0, 2.5, 7.5, 17.5]


async def test_a_pause_that_the_receiver_asks_for_is_kept(tmp_path, autojump_clock):
    tries = Tries(retry_after=60.0)
    await tried(tmp_path, tries, 130)
    assert tries.after == [0.0, 60.0, 120.0]


async def test_a_receiver_that_wants_no_more_is_left_alone(tmp_path, autojump_clock):
    tries = Tries(for_good=True)
    notice = await tried(tmp_path, tries)
    assert tries.after == [0.0]
    assert notice["next_at"] is None


async def test_receivers_do_not_wait_for_each_other(tmp_path, autojump_clock):
    dead, live = Tries(takes=20.0), Tries(refuses=False)

    async def post(url, message_id, body):
        await (dead if "dead" in url else live).post(url, message_id, body)

    async with opened(tmp_path, wall) as here:
        for n in range(9):
            await here.end(f"d{n}", "https://dead.example/hook")
        await here.end("l1", "https://live.example/hook")
        stage = here.stage(post)
        async with at_work(stage):
            await trio.sleep(1)
            assert len(live.moments) == 1
            assert (len(dead.moments), dead.busiest) == (AT_A_RECEIVER, AT_A_RECEIVER)
            assert not stage.at_rest()
            await trio.sleep(59)
    assert dead.busiest == AT_A_RECEIVER
    assert len(dead.moments) == 6


# -- trouble with the index


class Lame:
    """An outbox that cannot be read, or not written, so many times."""

    def __init__(self, outbox, *, reads=0, writes=0):
        self._outbox = outbox
        self.reads = reads
        self.writes = writes

    def __getattr__(self, name):
        return getattr(self._outbox, name)

    def receivers(self):
        if self.reads:
            self.reads -= 1
            raise IndexTrouble("the disk is gone")
        return self._outbox.receivers()

    async def delivered(self, notice, now):
        if self.writes:
            self.writes -= 1
            raise IndexTrouble("the disk is full")
        await self._outbox.delivered(notice, now)


@pytest.mark.parametrize("lameness", [{"reads": 2}, {"writes": 2}])
async def test_trouble_with_the_index_passes(tmp_path, autojump_clock, lameness):
    tries = Tries(refuses=False)
    async with opened(tmp_path, wall) as here:
        await here.end("j1", "https://app.example/hook")
        here.ledger.outbox = Lame(here.ledger.outbox, **lameness)
        stage = here.stage(tries.post)
        if "reads" in lameness:
            here.ledger.outbox.reads += 1
            assert stage.at_rest()
        async with at_work(stage):
            await trio.sleep(60)
        assert here.notices()[0]["delivered_at"]
    assert len(tries.moments) == 1 + lameness.get("writes", 0)


async def test_a_job_that_the_index_has_lost_is_told_of_in_the_log_alone(tmp_path, autojump_clock, capsys):
    tries = Tries()
    empty = tmp_path / "empty.db"
    async with opened(tmp_path, wall) as here, open_ledger(empty, run_sync=inline), reading(empty) as nothing:
        await here.end("j1", "https://app.example/hook")
        async with at_work(Notifying(here.ledger, nothing, tries.post, draw=no_jitter, clock=wall)):
            await trio.sleep(1)
    assert tries.moments == []
    assert "the index has no job j1 any more" in capsys.readouterr().out


# -- the whole daemon

WORKSPACE = """
settle: 0
scan_interval: 0.1
gallery: {{port: 0}}
backends: {{sketch: {{type: sketch, concurrency: 2}}}}
notify: {{url: "{url}", secret: "{secret}", allow_hosts: [127.0.0.1]}}
"""


def workspace(folder, url, secret=WHSEC):
    (folder / "jobs").mkdir()
    (folder / "pipeline.yaml").write_text(WORKSPACE.format(url=url, secret=secret))
    (folder / "jobs/mary.yaml").write_text("{id: spring, character: Mary, prompt: x, width: 64, height: 64}")
    return load_config(folder / "pipeline.yaml", environ={})


async def test_the_daemon_tells_the_configured_receiver(tmp_path, receiver, origin):
    config = workspace(tmp_path, f"{origin}/{HOOK}")
    with trio.fail_after(20):
        outcome = await daemon.run(config, once=True)
    assert outcome.exit_code == 0
    assert receiver.genuine(0)
    assert orjson.loads(receiver.bodies[0]) == orjson.loads((tmp_path / "jobs/done/spring.result.json").read_bytes())


async def test_a_dead_receiver_delays_nothing(tmp_path):
    with served(Receiver()) as origin:
        config = workspace(tmp_path, f"{origin}/{HOOK}")
    with trio.fail_after(20):
        outcome = await daemon.run(config, once=True)
    assert (outcome.exit_code, outcome.waiting) == (0, False)
    assert (tmp_path / "jobs/done/spring.result.json").exists()
    (notice,) = notices(tmp_path / ".pipeline/index.db")
    assert (notice["attempts"], notice["delivered_at"]) == (1, None)
    assert notice["next_at"] is not None


async def test_a_stop_does_not_wait_for_a_receiver_that_hangs(tmp_path, receiver, origin):
    receiver.weather.append(Weather("hang"))
    config = workspace(tmp_path, f"{origin}/{HOOK}")
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(daemon.run, config, once=True, stop=stop))
        await becomes(lambda: receiver.requests)
        stop.set()
    assert notices(tmp_path / ".pipeline/index.db")[0]["attempts"] == 0


@pytest.mark.parametrize("secret", ["whsec_???", "whsec_", ""])
def test_a_secret_that_cannot_sign_is_an_error_of_the_configuration(tmp_path, secret):
    with pytest.raises(ConfigError, match="`secret` cannot sign"):
        workspace(tmp_path, "https://app.example/", secret)


def test_a_plain_secret_signs_with_its_own_bytes(tmp_path):
    assert workspace(tmp_path, "https://app.example/", "whisper").notify.key == b"whisper"


# -- what `status` tells of it


async def test_status_says_who_was_told_and_who_was_not(tmp_path, receiver, origin):
    config = workspace(tmp_path, f"{origin}/{HOOK}")
    port = origin.rpartition(":")[2]

    def told():
        answer = CliRunner().invoke(main, ["status", "spring", "--config", str(tmp_path / "pipeline.yaml")])
        assert answer.exit_code == 0
        assert "hush" not in answer.output
        return next((line for line in answer.output.splitlines() if "notified" in line), None)

    receiver.weather.append(Weather("answer", reply=Reply(500)))
    await daemon.run(config, once=True)
    (notice,) = notices(config.state / "index.db")
    at = rfc3339(notice["next_at"])
    assert told() == f"not yet notified 127.0.0.1:{port}: next try {at}: 127.0.0.1 answered 500"
    index = sqlite3.connect(config.state / "index.db")
    with closing(index), index:
        index.execute("UPDATE notices SET next_at = NULL")
        index.commit()
        assert told() == f"not notified 127.0.0.1:{port}: given up: 127.0.0.1 answered 500"
        index.execute("UPDATE notices SET next_at = 0, trouble = NULL")
        index.commit()
        assert told() == f"not yet notified 127.0.0.1:{port}: next try 1970-01-01T00:00:00.000Z"
        index.execute("UPDATE notices SET delivered_at = 0, next_at = NULL")
        index.commit()
        assert told() == f"notified 127.0.0.1:{port} 1970-01-01T00:00:00.000Z"
        index.execute("DROP TABLE notices")  # as the version before has left it
        index.commit()
        assert told() is None
