"""Steps that share a commit: counters are paid once for all of them, and tell what counting would."""

import sqlite3
from collections import Counter
from contextlib import asynccontextmanager, closing
from dataclasses import replace

import hypothesis
import pytest
import trio
from hypothesis import strategies as st

from pipeline import lifecycle as law
from pipeline.catalogue import Catalogue
from pipeline.errors import IndexTrouble
from pipeline.ledger import open_ledger
from pipeline.ledger.steps import record
from pipeline.ledger.values import Declined, Taken
from pipeline.model import Fault, PlannedImage
from tests.support.index import (
    START,
    HandClock,
    adopted,
    artifact,
    asset,
    by_id,
    images_of,
    job,
    open_index,
    stored,
    submission,
)

FAULT = Fault("failed", "out of memory")


async def when_all_wait(function, *args):
    """A `run_sync` that begins a commit once everybody has asked for what they want written."""
    await trio.testing.wait_all_tasks_blocked()
    return function(*args)


@asynccontextmanager
async def index_at(folder):
    async with open_ledger(folder / "index.db", clock=HandClock(step=250), run_sync=when_all_wait) as ledger:
        await adopted(ledger, "me", "alice")
        await ledger.accept([job("a", "mary", 3), job("b", "john", 2), job("c", "anna", 2, owner="alice")])
        yield ledger


@pytest.fixture
async def ledger(tmp_path):
    async with index_at(tmp_path) as ledger:
        yield ledger


async def share(ledger, *writes):
    """Do all the writes in one commit, in any order, while another one is under way; their results or errors."""
    results = [None] * len(writes)

    async def one(n, write):
        try:
            results[n] = await write()
        except (ValueError, IndexTrouble) as error:
            results[n] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ledger._writer.do, lambda _: None)
        await trio.lowlevel.checkpoint()
        for n, write in enumerate(writes):
            nursery.start_soon(one, n, write)
    return results


def step(ledger, image, event):
    return lambda: ledger.record(image, event)


def half(ledger, image, event):
    """A step that is written whole, and then fails."""

    def work(transaction):
        record(transaction, image, law.advance(image, event), event, START)
        raise ValueError("no")

    return lambda: ledger._writer.do(work)


def rows(folder, sql):
    with closing(sqlite3.connect(folder / "index.db")) as connection:
        return connection.execute(sql).fetchall()


def counters(folder):
    return [
        rows(folder, sql)
        for sql in (
            "SELECT * FROM tallies WHERE n > 0 ORDER BY 1, 2",
            "SELECT row, revision FROM characters ORDER BY row",
            "SELECT row, revision FROM owners ORDER BY row",
            "SELECT * FROM days ORDER BY 1, 2",
            "SELECT * FROM durations ORDER BY 1, 2",
            "SELECT * FROM events ORDER BY 1, 2",
        )
    ]


async def test_a_counter_is_paid_once_for_all_steps_of_a_commit(ledger):
    images = images_of(ledger, "a")
    said = []
    ledger._writer._connection.set_trace_callback(said.append)
    await share(ledger, *(step(ledger, image, law.Submitting("pod", f"t{image.row}")) for image in images))
    told = Counter(" ".join(sql.split()[:3]).replace("INSERT INTO", "INSERT") for sql in said)
    assert told["BEGIN IMMEDIATE"] == told["COMMIT"] == 2
    assert told["UPDATE images SET"] == told["INSERT events"] == 3
    assert told["UPDATE jobs SET"] == 4  # each step, and once its status
    assert told["INSERT tallies"] == 2  # one for each status
    assert told["UPDATE characters SET"] == told["UPDATE owners SET"] == 1
    assert sum(told.values()) == 18, told


async def test_a_step_that_fails_in_a_shared_commit_leaves_no_trace(ledger, tmp_path):
    one, two, three = images_of(ledger, "a")
    await share(ledger, *(step(ledger, image, law.Submitting("pod", "t")) for image in (one, two, three)))
    one, two, three = images_of(ledger, "a")
    before = counters(tmp_path)
    got = [law.Fetched(artifact(image.row), gpu_seconds=2.0) for image in (one, two, three)]
    assert [type(x) for x in await share(ledger, half(ledger, two, got[1]), half(ledger, one, got[0]))] == [
        ValueError
    ] * 2
    assert counters(tmp_path) == before
    results = await share(ledger, step(ledger, one, got[0]), half(ledger, two, got[1]), step(ledger, three, got[2]))
    assert [type(result).__name__ for result in results] == ["Image", "ValueError", "Image"]
    assert ledger.image(two.row) == two
    assert rows(tmp_path, "SELECT attempts, gpu_seconds FROM days") == [(2, 4.0)]
    assert rows(tmp_path, "SELECT sum(n) FROM durations") == [(2,)]
    grown = [after - then for (_, after), (_, then) in zip(counters(tmp_path)[1], before[1], strict=True)]
    assert grown == [2, 0, 0]


async def test_a_declined_job_leaves_nothing_on_its_characters_counters(tmp_path):
    async with open_ledger(tmp_path / "index.db", clock=HandClock(), run_sync=when_all_wait) as ledger:
        await ledger.accept([job("j")])
        await ledger.adopt("me", "me", [asset("zoe", 1), asset("zoe", 3)])
        bad = job("bad", "zoe")._replace(images=(PlannedImage("half a pair: \ud800", 1),))
        declined, taken = await ledger.accept([bad, job("good", "zoe")])
        assert (type(declined), type(taken)) == (Declined, Taken)
        assert [image.number for image in images_of(ledger, "good")] == [4]
    with closing(Catalogue(tmp_path / "index.db")) as catalogue:
        assert catalogue.verify() == []


STORY = (
    job("j1", "Zoe", 2),
    job("j2", by_id("c7", "Anna"), labels=("x", "y")),
    job("j3", "zoe", images=(PlannedImage("a", 1), PlannedImage("b", 2), PlannedImage("a", 3))),
    job("j1", "Zoe", 2),  # known by then
    job("j4", by_id("c7", "Anne", embedding="anne-v2")),
    job("j5", by_id("c7"), owner="bob"),  # another's character
    job("j6", by_id("c7", "Anna")),
    job("j2", digest="another"),
    job("j7", by_id("c8"), owner="new"),  # whose folder was never listed
    job("j8", images=(PlannedImage("half a pair: \ud800", 1),)),
    job("j9", "Zoe", images=(PlannedImage("a", 2**64),)),
    job("j10", by_id("c8"), labels=("x",)),
)
TABLES = ("owners", "characters", "jobs", "prompts", "images", "labels", "tallies", "shelf")


@pytest.mark.parametrize("at_once", [2, 5, len(STORY)])
async def test_jobs_taken_together_leave_what_jobs_taken_one_by_one_leave(tmp_path, at_once):
    async def taken(folder, size):
        folder.mkdir()
        async with open_index(folder) as ledger:
            await adopted(ledger, "bob")
            await ledger.adopt("me", "me", [asset("zoe", 1), asset("zoe", 3)])
            parts = [STORY[n : n + size] for n in range(0, len(STORY), size)]
            verdicts = [verdict for part in parts for verdict in await ledger.accept(part)]
            await adopted(ledger, "new")
        with closing(Catalogue(folder / "index.db")) as catalogue:
            assert catalogue.verify() == []
        found = "SELECT rowid FROM prompts_fts WHERE prompts_fts MATCH 'garden'"
        return verdicts, [rows(folder, f"SELECT * FROM {table}") for table in TABLES], rows(folder, found)

    alone = await taken(tmp_path / "alone", 1)
    assert [type(verdict).__name__[0] for verdict in alone[0]] == list("TTTDTDTDTDDT")
    assert len(alone[2]) == 6
    assert await taken(tmp_path / "together", at_once) == alone


@pytest.mark.parametrize("how", ["ABORT", "ROLLBACK"])
async def test_counters_that_cannot_be_paid_are_told_to_all_and_nothing_is_written(ledger, tmp_path, how):
    images = images_of(ledger, "a")
    before = counters(tmp_path)
    refusing = f"CREATE TRIGGER no BEFORE UPDATE ON tallies BEGIN SELECT RAISE({how}, 'no'); END"
    await ledger._writer.do(lambda transaction: transaction.execute(refusing))
    steps = [step(ledger, image, law.Submitting("pod", "t")) for image in images]
    told = await share(ledger, *steps, lambda: ledger.notes.jobs(["b"], "pod is down"))
    assert [type(error) for error in told] == [IndexTrouble] * 4
    assert len(set(map(id, told))) == 4
    assert str(told[3]).startswith(f"{tmp_path / 'index.db'}: it cannot be used (no)")
    assert images_of(ledger, "a") == images
    assert counters(tmp_path) == before
    await ledger._writer.do(lambda transaction: transaction.execute("DROP TRIGGER no"))
    assert all(await share(ledger, *steps))
    assert [grown for _, grown in counters(tmp_path)[1]] == [before[1][0][1] + 3, *(n for _, n in before[1][1:])]


def walk(image):
    """What happens to an image: an attempt that is lost, then a picture; or a doubt, then a placeholder."""
    sent, taken = law.Submitting("pod", f"t{image.row}"), law.Accepted(submission(image))
    kept = law.StoredAt(stored(image))
    if image.row % 2:
        got = law.Fetched(artifact(image.row), gpu_seconds=2.5)
        return [
            sent,
            taken,
            law.AttemptLost(FAULT, limit=3, gpu_seconds=1.5),
            replace(sent, ticket=f"u{image.row}"),
            taken,
            got,
            kept,
        ]
    doubt = law.Doubtful(FAULT, limit=3)
    return [sent, doubt, law.GaveUp(FAULT), law.Drawn(artifact(image.row)), kept]


COMMITS = st.lists(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=7, unique_by=lambda s: s[0]), max_size=9
)


@hypothesis.settings(
    max_examples=15, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(commits=COMMITS)
def test_whatever_shares_a_commit_counters_tell_what_counting_tells(tmp_path_factory, commits):
    trio.run(_counters_hold, tmp_path_factory.mktemp("index"), commits)


async def _counters_hold(folder, commits):
    async with index_at(folder) as ledger:
        images = [image for name in "abc" for image in images_of(ledger, name)]
        steps = [iter(walk(image)) for image in images]
        before = dict(counters(folder)[1]), dict(counters(folder)[2])
        for commit in commits:
            coming = [(n, fails, next(steps[n], None)) for n, fails in commit]
            results = await share(
                ledger,
                *((half if fails else step)(ledger, images[n], event) for n, fails, event in coming if event),
            )
            for (n, fails, event), result in zip([c for c in coming if c[2]], results, strict=True):
                if fails:
                    assert isinstance(result, ValueError)
                    images[n] = await ledger.record(images[n], event)
                else:
                    images[n] = result
        assert [ledger.image(image.row) for image in images] == images
    with closing(Catalogue(folder / "index.db")) as catalogue:
        assert catalogue.verify() == []
    counted = rows(
        folder,
        "SELECT sum(status = 'done'), sum(status = 'placeholder'), sum(attempts), sum(doubtful), sum(gpu_seconds) FROM images",
    )
    sums = "coalesce(sum({}), 0)".format
    figures = ", ".join(map(sums, ("done", "placeholder", "attempts", "doubtful", "gpu_seconds")))
    assert rows(folder, f"SELECT {figures} FROM days") == counted
    fetched = rows(folder, "SELECT count(*) FROM events WHERE event = 'Fetched'")
    assert rows(folder, "SELECT coalesce(sum(n), 0) FROM durations") == fetched
    for whose, table, then in (("character", "characters", before[0]), ("owner", "owners", before[1])):
        grown = {row: n - then[row] for row, n in rows(folder, f"SELECT row, revision FROM {table}")}
        recorded = dict(
            rows(
                folder,
                f"SELECT jobs.{whose}, count(*) FROM events JOIN images ON images.id = events.image "
                "JOIN jobs ON jobs.seq = images.job GROUP BY 1",
            )
        )
        assert {row: n for row, n in grown.items() if n} == recorded
