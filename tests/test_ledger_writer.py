"""Grouped commits: who shares one, what spoils only its own write, and what spoils all."""

import sqlite3
import threading

import pytest
import trio

from pipeline.errors import IndexTrouble
from pipeline.ledger import open_ledger
from pipeline.ledger.opening import open_for_writing
from pipeline.ledger.writer import Writer
from tests.support.index import adopted, job, make, open_index


class Gate:
    """A `run_sync` that holds every commit back until it is let through, one at a time."""

    def __init__(self):
        self.commits = 0
        self.asked = trio.Event()
        self.open = trio.Event()

    async def __call__(self, function, *args):
        self.commits += 1
        self.asked.set()
        await self.open.wait()
        return function(*args)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index.db"


@pytest.fixture
def connection(path):
    connection = open_for_writing(path)
    connection.execute("CREATE TABLE notes (text TEXT UNIQUE)")
    yield connection
    connection.close()


def write(text):
    return lambda connection: connection.execute("INSERT INTO notes VALUES (?)", (text,)).lastrowid


def noted(path):
    connection = sqlite3.connect(path)
    texts = [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY rowid")]
    connection.close()
    return texts


async def test_what_arrives_during_a_commit_shares_the_next_one(path, connection):
    gate, results = Gate(), {}
    writer = Writer(connection, path, gate)

    async def one(text):
        results[text] = await writer.do(write(text))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "first")
        await gate.asked.wait()
        for n in range(50):
            nursery.start_soon(one, f"{n}")
        await trio.testing.wait_all_tasks_blocked()
        gate.open.set()
    assert gate.commits == 2
    assert sorted(noted(path)) == sorted(results)
    assert len(set(results.values())) == 51


async def test_fifty_writers_on_real_threads_lose_nothing(tmp_path):
    async with open_ledger(tmp_path / "index.db") as ledger:
        await adopted(ledger)
        async with trio.open_nursery() as nursery:

            async def writer(n):
                for k in range(4):
                    await ledger.accept([job(f"job-{n}-{k}", f"character {n % 7}", 3)])
                    for image in ledger.planned(f"job-{n}-{k}", 2):
                        await make(ledger, image)

            for n in range(50):
                nursery.start_soon(writer, n)
        images = ledger.images_where(limit=10_000)
        assert len(images) == 600
        assert sum(image.state == "done" for image in images) == 400
        for n in range(7):
            numbers = sorted(i.number for i in images if i.character_id == f"character-{n}")
            assert numbers == list(range(1, len(numbers) + 1))


async def test_a_write_that_fails_spoils_only_itself(path, connection):
    gate, outcomes = Gate(), {}
    writer = Writer(connection, path, gate)

    def fails(connection):
        connection.execute("INSERT INTO notes VALUES ('half')")
        raise ValueError("no")

    async def one(name, work):
        try:
            outcomes[name] = await writer.do(work)
        except (ValueError, sqlite3.IntegrityError) as error:
            outcomes[name] = type(error)

    async with trio.open_nursery() as nursery:
        for name, work in (("a", write("a")), ("b", fails), ("c", write("a")), ("d", write("d"))):
            nursery.start_soon(one, name, work)
            await trio.testing.wait_all_tasks_blocked()
        gate.open.set()
    assert noted(path) == ["a", "d"]
    assert (outcomes["b"], outcomes["c"]) == (ValueError, sqlite3.IntegrityError)
    assert isinstance(outcomes["d"], int)


async def test_a_full_disk_is_told_to_all_that_shared_the_commit_and_leaves_nothing(path, connection):
    gate, told = Gate(), []
    writer = Writer(connection, path, gate)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    async def one(text):
        with pytest.raises(IndexTrouble) as caught:
            await writer.do(write(text))
        told.append(caught.value)

    async def first():
        await writer.do(write("first"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await gate.asked.wait()
        for text in ("small", "big" * 100_000, "another"):
            nursery.start_soon(one, text)
        await trio.testing.wait_all_tasks_blocked()
        gate.open.set()
    assert noted(path) == ["first"]
    assert len(set(map(id, told))) == 3
    for error in told:
        assert str(error).startswith(f"{path}: the disk is full")
        assert "free some space" in str(error)
    connection.execute("PRAGMA max_page_count = 1000000")
    await writer.do(write("again"))
    assert noted(path) == ["first", "again"]


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_an_index_pulled_from_under_us_is_noticed_before_anything_is_lost(path, connection, how):
    writer = Writer(connection, path, Gate())
    writer._run_sync.open.set()
    await writer.do(write("first"))
    path.rename(path.with_name("elsewhere"))
    if how == "replaced":
        path.write_bytes(b"")
    with pytest.raises(IndexTrouble, match="was deleted or replaced while in use; end this process, put the file"):
        await writer.do(write("second"))


async def test_a_cancelled_write_that_no_commit_has_taken_leaves_nothing(path, connection):
    gate = Gate()
    writer = Writer(connection, path, gate)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.do, write("first"))
        await gate.asked.wait()
        with trio.move_on_after(0) as scope:
            await writer.do(write("cancelled"))
        assert scope.cancelled_caught
        nursery.start_soon(writer.do, write("last"))
        await trio.testing.wait_all_tasks_blocked()
        gate.open.set()
    assert noted(path) == ["first", "last"]


async def test_a_cancelled_write_that_a_commit_has_taken_is_carried_to_its_end(path, connection):
    first, second = Gate(), Gate()
    gates = [first, second]
    results = {}

    async def run_sync(function, *args):
        return await gates.pop(0)(function, *args)

    writer = Writer(connection, path, run_sync)

    async def one(text, task_status=trio.TASK_STATUS_IGNORED):
        with trio.CancelScope() as scope:
            task_status.started(scope)
            results[text] = await writer.do(write(text))

    async with trio.open_nursery() as nursery:
        leader = await nursery.start(one, "leader")
        await first.asked.wait()
        await nursery.start(one, "next leader")
        rider = await nursery.start(one, "rider")
        first.open.set()
        await second.asked.wait()
        leader.cancel()
        rider.cancel()
        await trio.testing.wait_all_tasks_blocked()
        second.open.set()
    assert noted(path) == ["leader", "next leader", "rider"]
    assert set(results) == {"leader", "next leader", "rider"}


async def test_a_cancelled_leader_to_be_hands_the_lead_on(path, connection):
    gate, doomed = Gate(), trio.CancelScope()

    async def run_sync(function, *args):
        await gate(function, *args)
        doomed.cancel()  # in the same step in which the next leader is chosen, before it can notice

    writer = Writer(connection, path, run_sync)

    async def never_leads():
        with doomed:
            await writer.do(write("doomed"))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.do, write("first"))
            await gate.asked.wait()
            for task in (never_leads, lambda: writer.do(write("heir"))):
                nursery.start_soon(task)
                await trio.testing.wait_all_tasks_blocked()
            gate.open.set()
    assert doomed.cancelled_caught
    assert noted(path) == ["first", "heir"]


async def test_a_commit_that_cannot_even_start_is_told_to_all(path, connection):
    async def no_threads_left(_function, *_args):
        await trio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    writer = Writer(connection, path, no_threads_left)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        await writer.do(write("first"))
    assert noted(path) == []
    writer._run_sync = Gate()
    writer._run_sync.open.set()
    await writer.do(write("later"))
    assert noted(path) == ["later"]


async def test_a_lock_held_by_another_program_is_told_with_the_remedy(path, connection):
    connection.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer = Writer(connection, path, Gate())
    writer._run_sync.open.set()
    with pytest.raises(IndexTrouble, match=r"another process keeps it locked .*; end the program"):
        await writer.do(write("first"))
    other.execute("ROLLBACK")
    other.close()
    await writer.do(write("first"))
    assert noted(path) == ["first"]


async def test_the_writes_of_a_ledger_leave_trios_thread(tmp_path):
    threads = set()

    def look(connection):
        threads.add(threading.get_ident())

    async with open_ledger(tmp_path / "index.db") as ledger:
        await ledger._writer.do(look)
    assert threads
    assert threading.get_ident() not in threads


async def test_a_declined_read_names_the_file(tmp_path):
    async with open_index(tmp_path) as ledger:
        ledger._reading.execute("PRAGMA query_only = 1")
        with pytest.raises(IndexTrouble, match=r"index\.db: it cannot be used .*`pipeline verify`"):
            ledger._rows("SELECT * FROM nothing")
