"""Held answers: nothing comes before something changes, everybody hears of it, and waiting costs next to nothing."""

import pytest
import trio

from pipeline.gallery.changes import Changes
from tests.support.windows import house


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as made:
        await made.studio.made(n=2)
        yield made


async def tagged(home, path):
    return (await home.get(path)).headers["etag"]


async def test_an_answer_is_held_until_the_seconds_are_over(autojump_clock, home):
    tag = await tagged(home, home.images())
    began = trio.current_time()
    answer = await home.get(home.images() + "?wait=30", if_none_match=tag)
    assert (answer.status_code, answer.headers["etag"]) == (304, tag)
    assert trio.current_time() - began == pytest.approx(30, abs=0.01)


async def test_it_comes_at_once_without_an_etag_or_with_an_old_one(autojump_clock, home):
    began = trio.current_time()
    assert (await home.get(home.images() + "?wait=30")).status_code == 200
    assert (await home.get(home.images() + "?wait=30", if_none_match='"old"')).status_code == 200
    assert trio.current_time() == pytest.approx(began, abs=0.01)


@pytest.mark.parametrize(
    "path",
    [
        "/api/image-generation/character/mary?wait=30",
        "/api/characters?wait=30",
        "/api/characters/mary?wait=30",
        "/api/jobs?wait=30",
        "/api/jobs/job-2?wait=30",
    ],
)
async def test_a_change_is_told_within_a_tenth_of_a_second(autojump_clock, home, nursery, path):
    await home.studio.job(n=1)
    tag = await tagged(home, path)
    heard = []

    async def listen():
        answer = await home.get(path, if_none_match=tag)
        heard.append((answer.status_code, trio.current_time()))

    nursery.start_soon(listen)
    await trio.sleep(5)
    assert heard == []
    changed = trio.current_time()
    await home.studio.finish("mary", 3)
    await trio.sleep(1)
    assert heard[0][0] == 200
    assert heard[0][1] - changed <= 0.11


async def test_what_changes_elsewhere_ends_no_wait(autojump_clock, home):
    tag = await tagged(home, home.images())
    async with trio.open_nursery() as nursery:
        began = trio.current_time()

        async def elsewhere():
            await trio.sleep(3)
            await home.studio.made("john", n=1)

        nursery.start_soon(elsewhere)
        assert (await home.get(home.images() + "?wait=10", if_none_match=tag)).status_code == 304
        assert trio.current_time() - began == pytest.approx(10, abs=0.01)


async def test_a_change_that_the_filter_does_not_show_goes_on_waiting(autojump_clock, home, nursery):
    path = home.images() + "?status=cancelled&wait=10"
    tag = await tagged(home, path)
    began = trio.current_time()

    async def change():
        await trio.sleep(2)
        await home.studio.made(n=1)

    nursery.start_soon(change)
    assert (await home.get(path, if_none_match=tag)).status_code == 304
    assert trio.current_time() - began == pytest.approx(10, abs=0.01)


async def test_a_token_revoked_meanwhile_ends_the_right_to_hear_more(autojump_clock, home, nursery):
    token = home.tokens.create("alice")
    tag = await tagged(home, home.images())

    async def change():
        await trio.sleep(1)
        home.tokens.revoke(token)
        await home.studio.made(n=1)

    nursery.start_soon(change)
    assert (await home.get(home.images() + "?wait=10", token, if_none_match=tag)).status_code == 401


async def test_closing_lets_everybody_go(autojump_clock, home, nursery):
    tag = await tagged(home, home.images())
    began = trio.current_time()

    async def close():
        await trio.sleep(2)
        home.app.close()

    nursery.start_soon(close)
    assert (await home.get(home.images() + "?wait=60", if_none_match=tag)).status_code == 304
    assert trio.current_time() - began == pytest.approx(2, abs=0.01)
    assert (await home.get(home.images() + "?wait=60", if_none_match=tag)).status_code == 304
    assert trio.current_time() - began == pytest.approx(2, abs=0.01)


async def test_a_caller_that_goes_away_is_not_held_any_longer(autojump_clock, home):
    tag = await tagged(home, home.images())
    sent = []
    messages = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]

    async def receive():
        await trio.sleep(1)
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": home.images(), "raw_path": b"", "query_string": b"wait=60", "http_version": "1.1", "scheme": "http",
        "server": ("x", 80), "client": ("127.0.0.1", 1), "root_path": "",
        "headers": [(b"host", b"x"), (b"authorization", f"Bearer {home.alice}".encode()), (b"if-none-match", tag.encode())],
    }  # fmt: skip
    began = trio.current_time()
    await home.app(scope, receive, send)
    assert trio.current_time() - began == pytest.approx(2, abs=0.01)
    assert home.app._changes.waiting == 0


async def test_thousands_wait_and_one_looks(autojump_clock):
    looks = {"version": 0, "revision": 0}
    state = {"version": 1, "a": 1, "b": 1}

    def version():
        looks["version"] += 1
        return state["version"]

    def revision(key):
        looks["revision"] += 1
        return state[key]

    changes = Changes(version)
    woken = []

    async def wait(key):
        await changes.wait(key, lambda: revision(key), 1)
        woken.append(key)

    async with trio.open_nursery() as nursery:
        for i in range(2000):
            nursery.start_soon(wait, "ab"[i % 2])
        await trio.sleep(10.05)
        assert changes.waiting == 2000
        assert looks["version"] <= 102
        assert looks["revision"] <= 2  # one look for each thing waited for, and none while nothing moves
        state.update(version=2, a=2)  # the leader is among those who leave: another goes on looking
        await trio.sleep(0.2)
        assert (len(woken), set(woken), changes.waiting) == (1000, {"a"}, 1000)
        state.update(version=3, b=2)
        await trio.sleep(0.2)
        assert len(woken) == 2000
    assert changes.waiting == 0
    before = looks["version"]
    await trio.sleep(60)
    assert looks["version"] == before


async def test_what_changed_before_anybody_looked_is_not_missed(autojump_clock):
    changes = Changes(lambda: 2)
    with trio.fail_after(0.01):
        await changes.wait("a", lambda: "new", "old")


async def test_a_leader_that_is_cancelled_hands_on(autojump_clock):
    state = {"version": 1, "a": 1}
    changes = Changes(lambda: state["version"])
    woken = []

    async def wait(name, seconds):
        with trio.move_on_after(seconds):
            await changes.wait("a", lambda: state["a"], 1)
            woken.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "leader", 1)
        await trio.sleep(0.05)
        nursery.start_soon(wait, "follower", 60)
        await trio.sleep(2)
        state.update(version=2, a=2)
    assert woken == ["follower"]
