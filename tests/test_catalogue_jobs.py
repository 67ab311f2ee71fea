"""Jobs as the outside sees them, the summary, and the check of what must hold."""

import re
import sqlite3
from pathlib import Path

import pytest

from pipeline import lifecycle as law
from pipeline.catalogue import overview, success
from pipeline.errors import IndexTrouble
from pipeline.model import Fault, LaneState, OnFailure, PlannedImage, Recipe
from tests.support.index import (
    START,
    adopted,
    artifact,
    by_id,
    fetch,
    give_up,
    images_of,
    job,
    make,
    open_index,
    stored,
)


async def test_a_result_has_exactly_the_promised_shape(ledger, catalogue, clock):
    said = job(
        "a",
        by_id("123", "Mary", embedding="mary-v2"),
        recipe=Recipe(style="anime"),
        prompt=("in a garden", "at the harbour"),
        labels=("spring",),
        images=tuple(PlannedImage(prompt, 7 + n) for n, prompt in enumerate(["g", "h", "g", "h"])),
    )
    await ledger.accept([said])
    clock.at += 1
    one, two, three, four = images_of(ledger, "a")
    sent = await ledger.record(one, law.Submitting("xl", "t"))
    sent = await ledger.record(sent, law.Doubtful(Fault("no_answer", "reset"), limit=3))
    sent = await ledger.record(sent, law.Submitting("xl", "t2"))
    got = await ledger.record(sent, law.Fetched(artifact(1), gpu_seconds=12.1, used_embedding=True))
    await ledger.record(got, law.StoredAt(stored(one, path="/images/1.png")))
    await give_up(ledger, two)
    await ledger.record(three, law.Cancelled())
    await ledger.record(four, law.Submitting("xl", "t4"))
    result = catalogue.result("a")
    place = "me/characters/mary/images/mary_image_"
    assert result == {
        "jobId": "a",
        "status": "running",
        "reason": None,
        "characterId": "123",
        "imageUrl": f"http://x/{place}1.png",
        "imageUrls": [f"http://x/{place}1.png", f"http://x/{place}2.png"],
        "requestedCount": 4,
        "generatedCount": 1,
        "placeholderCount": 1,
        "failedCount": 0,
        "cancelledCount": 1,
        "runningCount": 1,
        "queuedCount": 0,
        "maybePaidTwice": 1,
        "gpuSeconds": 12.1,
        "usedEmbedding": True,
        "prompt": ["in a garden", "at the harbour"],
        "style": "anime",
        "labels": ["spring"],
        "createdAt": "2025-07-28T10:00:00.000Z",
        "startedAt": "2025-07-28T10:00:00.001Z",
        "finishedAt": None,
        "images": [
            {
                "number": 1,
                "filename": "mary_image_1",
                "status": "done",
                "url": f"http://x/{place}1.png",
                "path": "/images/1.png",
                "publicId": f"{place}1",
                "prompt": "g",
                "seed": 7,
                "backend": "xl",
                "attempts": 1,
                "gpuSeconds": 12.1,
                "error": None,
            },
            {
                "number": 2,
                "filename": "mary_image_2",
                "status": "placeholder",
                "url": f"http://x/{place}2.png",
                "path": None,
                "publicId": f"{place}2",
                "prompt": "h",
                "seed": 8,
                "backend": None,
                "attempts": 0,
                "gpuSeconds": 0.0,
                "error": {"code": "timed_out", "message": "it took too long"},
            },
            {
                "number": 3,
                "filename": "mary_image_3",
                "status": "cancelled",
                "url": None,
                "path": None,
                "publicId": f"{place}3",
                "prompt": "g",
                "seed": 9,
                "backend": None,
                "attempts": 0,
                "gpuSeconds": 0.0,
                "error": None,
            },
            {
                "number": 4,
                "filename": "mary_image_4",
                "status": "running",
                "url": None,
                "path": None,
                "publicId": f"{place}4",
                "prompt": "h",
                "seed": 10,
                "backend": "xl",
                "attempts": 0,
                "gpuSeconds": 0.0,
                "error": None,
            },
        ],
    }
    assert list(result)[:6] == ["jobId", "status", "reason", "characterId", "imageUrl", "imageUrls"]
    in_a_list = overview(catalogue.job("a"))
    assert in_a_list == {key: result[key] for key in in_a_list}
    assert catalogue.result("nothing") is None
    assert catalogue.file("a") == "a.yaml"
    with pytest.raises(IndexTrouble, match="knows no job nothing"):
        catalogue.file("nothing")


async def test_success_is_false_where_a_job_ended_without_a_real_image(ledger, catalogue):
    await ledger.accept([job("a"), job("b", quantity=2), job("c", on_failure=OnFailure.FAIL)])
    await give_up(ledger, images_of(ledger, "a")[0])
    one, two = images_of(ledger, "b")
    await give_up(ledger, one)
    assert [success(catalogue.result(name)) for name in "abc"] == [False, True, True]
    await make(ledger, two)
    await ledger.record(images_of(ledger, "c")[0], law.GaveUp(Fault("bad", "no")))
    assert [success(catalogue.result(name)) for name in "abc"] == [False, True, False]
    assert catalogue.result("c")["imageUrl"] is None


async def test_a_job_not_numbered_yet_has_its_counts_and_its_reason(tmp_path, catalogue):
    async with open_index(tmp_path) as ledger:
        await ledger.accept([job("a", quantity=3, owner="bob")])
        result = catalogue.result("a")
        assert (result["status"], result["queuedCount"], result["images"]) == ("queued", 3, [])
        assert result["reason"] == "waits until the store has listed what owner bob already has there"
        assert catalogue.images_of(catalogue.job("a")) == []
        assert catalogue.summary().retrying == 0


async def test_the_reason_is_the_lanes_where_none_was_noted(ledger, catalogue):
    await ledger.accept([job("a", backends=("pod", "xl"))])
    assert catalogue.job("a").reason == "waits for its turn at pod or xl"
    await ledger.notes.lane(LaneState("pod", "down", 2, 0, reason="proxy 404"))
    assert catalogue.job("a").reason == "waits for its turn at pod or xl"
    await ledger.notes.lane(LaneState("xl", "paused", 3, 1))
    assert catalogue.job("a").reason == "pod: proxy 404; xl: not ready"
    await ledger.notes.lane(LaneState("xl", "ready", 3, 1, waiting=4, typical=11.5, next_try=5))
    assert catalogue.job("a").reason == "waits for its turn at pod or xl"
    assert catalogue.lanes() == [
        LaneState("pod", "down", 2, 0, 0, None, "proxy 404", None),
        LaneState("xl", "ready", 3, 1, 4, 11.5, None, 5),
    ]


async def test_jobs_are_listed_latest_first_by_owner_status_and_label(ledger, catalogue):
    await ledger.accept([job("a", labels=("x",)), job("b"), job("c", "eve", owner="bob"), job("d", labels=("x", "y"))])
    await make(ledger, images_of(ledger, "a")[0])

    def ids(owner, **conditions):
        page = catalogue.jobs(owner, **conditions)
        assert page.total == len(page.rows)
        return [row.id for row in page.rows]

    assert ids(None) == ["d", "c", "b", "a"]
    assert ids("me") == ["d", "b", "a"]
    assert ids("me", statuses=("done", "cancelled")) == ["a"]
    assert ids("me", label="x") == ["d", "a"]
    assert ids("nobody") == []
    first = catalogue.jobs("me", limit=2)
    await ledger.accept([job("e")])
    second = catalogue.jobs("me", limit=2, after=first.next)
    assert ([row.id for row in first.rows], [row.id for row in second.rows], second.next) == (["d", "b"], ["a"], None)
    assert (first.total, second.total) == (3, 4)


async def test_unfinished_jobs_come_running_ones_first(ledger, catalogue):
    await ledger.accept([job("a"), job("b"), job("c"), job("d")])
    await make(ledger, images_of(ledger, "a")[0])
    await fetch(ledger, images_of(ledger, "c")[0])
    assert [row.id for row in catalogue.unfinished(9)] == ["c", "b", "d"]
    assert [row.id for row in catalogue.unfinished(1)] == ["c"]


async def test_the_summary_is_the_whole_index_in_a_few_numbers(ledger, catalogue, clock):
    await ledger.accept([job("a", quantity=4), job("b", "john"), job("c")])
    one, two, three, four = images_of(ledger, "a")
    await make(ledger, one)
    two = await give_up(ledger, two)
    await ledger.record(two, law.Retried())
    await fetch(ledger, three)
    await ledger.record(four, law.Submitting("pod", "t"))
    await make(ledger, images_of(ledger, "c")[0], tag=99)
    summary = catalogue.summary(now=START)
    assert {status: n for status, n in summary.images.items() if n} == {
        "done": 2,
        "placeholder": 1,
        "running": 2,
        "queued": 1,
    }
    assert (summary.jobs_running, summary.jobs_queued, summary.retrying) == (1, 1, 1)
    assert (summary.to_store, summary.spool_bytes, summary.oldest_waiting) == (1, 1234, START)
    assert [(day.backend, day.done, day.placeholder) for day in summary.today] == [("", 0, 1), ("pod", 2, 0)]
    assert catalogue.summary().today == ()
    assert catalogue.owner_revision("me") == catalogue.owner_revision(None) > 0
    assert (catalogue.owner_revision("nobody"), catalogue.whose("nobody")) == (0, None)


async def test_an_empty_index_has_answers_too(tmp_path, catalogue):
    async with open_index(tmp_path):
        pass
    assert catalogue.summary(now=START).oldest_waiting is None
    assert (catalogue.verify(), catalogue.lanes(), catalogue.owner_revision(None)) == ([], [], 0)


# -- verify: every kind of damage, planted by hand

DAMAGES = [
    ("UPDATE images SET state = 'sleeping' WHERE number = 1", {"unknown_state"}),
    ("UPDATE images SET standing = 'done' WHERE number = 1", {"unknown_state"}),
    ("UPDATE images SET standing = 'failed' WHERE number = 1", {"wrong_state"}),
    ("UPDATE images SET status = 'queued' WHERE number = 1", {"wrong_status", "wrong_tally", "wrong_count"}),
    ("UPDATE images SET number = 9 WHERE number = 4", {"gap", "wrong_name", "job_numbers"}),
    ("UPDATE images SET number = -1 WHERE number = 1", {"gap", "wrong_name", "job_numbers"}),
    ("DELETE FROM events; DELETE FROM images WHERE number = 4", {"gap", "wrong_tally", "job_numbers"}),
    ("DELETE FROM events; DELETE FROM images", {"gap", "wrong_tally", "job_numbers", "wrong_job_status"}),
    ("UPDATE characters SET highest = 9", {"gap"}),
    ("UPDATE images SET public_id = 'me/elsewhere' WHERE number = 2", {"wrong_name"}),
    ("UPDATE characters SET slug = 'maria'", {"wrong_name"}),
    ("UPDATE owners SET slug = NULL", {"wrong_name"}),
    ("UPDATE images SET url = NULL WHERE number = 1", {"not_stored"}),
    ("UPDATE images SET created_at = NULL WHERE number = 1", {"not_stored"}),
    ("UPDATE images SET shown_at = 5 WHERE number = 1", {"wrong_moment"}),
    ("UPDATE characters SET newest_at = 5", {"wrong_moment"}),
    ("UPDATE tallies SET n = n + 1 WHERE status = 'done'", {"wrong_tally"}),
    ("DELETE FROM tallies", {"wrong_tally"}),
    ("UPDATE jobs SET done = done + 1", {"wrong_count"}),
    ("UPDATE jobs SET planned = 0", {"wrong_count"}),
    ("UPDATE jobs SET status = 'done'", {"wrong_job_status"}),
    ("UPDATE jobs SET first_number = 2", {"job_numbers"}),
    ("UPDATE jobs SET first_number = NULL", {"lost_plan"}),
    ("UPDATE images SET remote_id = NULL WHERE number = 3", {"lost_trace"}),
    ("UPDATE images SET ticket = (SELECT ticket FROM images WHERE number = 3) WHERE number = 4", {"shared_ticket"}),
    ("UPDATE images SET job = 77 WHERE number = 1", {"orphan"}),
]


@pytest.mark.parametrize(("damage", "kinds"), DAMAGES, ids=[case[0] for case in DAMAGES])
async def test_verify_finds_and_names_what_was_damaged(tmp_path, catalogue, damage, kinds):
    async with open_index(tmp_path) as ledger:
        await adopted(ledger)
        await ledger.accept([job("a", quantity=5)])
        one, two, three, four, _ = images_of(ledger, "a")
        await make(ledger, one)
        await give_up(ledger, two)
        sent = await ledger.record(three, law.Submitting("pod", "t3"))
        await ledger.record(sent, law.Accepted(law.Submission("r", "http://pod", 1, 2)))
        await ledger.record(four, law.Submitting("pod", "t4"))
    assert catalogue.verify() == []
    connection = sqlite3.connect(tmp_path / "index.db")
    connection.executescript(damage)
    connection.close()
    found = catalogue.verify()
    assert {problem.kind for problem in found} == kinds
    assert all(problem.subject and problem.message for problem in found)


async def test_verify_finds_a_number_given_twice(tmp_path, catalogue):
    async with open_index(tmp_path) as ledger:
        await adopted(ledger)
        await ledger.accept([job("a", quantity=3)])
    connection = sqlite3.connect(tmp_path / "index.db", isolation_level=None)
    connection.executescript("""
        PRAGMA writable_schema = 1;
        UPDATE sqlite_master SET sql = replace(sql, 'UNIQUE (character, number)', 'CHECK (number > 0)') WHERE name = 'images';
        DELETE FROM sqlite_master WHERE name = 'sqlite_autoindex_images_2';
    """)
    connection.close()
    connection = sqlite3.connect(tmp_path / "index.db")
    connection.execute("UPDATE images SET number = 2 WHERE number = 3")
    connection.commit()
    connection.execute("VACUUM")
    connection.close()
    assert {"repeated_number", "gap"} <= {problem.kind for problem in catalogue.verify()}


async def test_verify_says_when_the_file_itself_is_damaged(tmp_path, catalogue):
    async with open_index(tmp_path) as ledger:
        await adopted(ledger)
        await ledger.accept([job(f"job-{n}", quantity=50) for n in range(20)])
    path = tmp_path / "index.db"
    data = bytearray(path.read_bytes())
    pages = len(data) // 4096
    for page in range(pages // 2, pages - 2):
        data[4096 * page : 4096 * page + 64] = b"\x5a" * 64
    path.write_bytes(data)
    assert {problem.kind for problem in catalogue.verify()} == {"damaged"}


# -- the view that outsiders may rely on


async def test_the_gallery_view_shows_what_docs_promise(ledger, tmp_path, clock):
    await ledger.accept([job("a", recipe=Recipe(style="anime", negative_prompt="rain"), labels=("x",))])
    clock.at += 123
    await make(ledger, images_of(ledger, "a")[0])
    connection = sqlite3.connect(tmp_path / "index.db")
    connection.row_factory = sqlite3.Row
    [row] = connection.execute("SELECT * FROM gallery")
    connection.close()
    assert dict(row) == {
        "owner": "me",
        "character_id": "mary",
        "character": "mary",
        "number": 1,
        "filename": "mary_image_1",
        "public_id": "me/characters/mary/images/mary_image_1",
        "status": "done",
        "retrying": 0,
        "url": "http://x/me/characters/mary/images/mary_image_1.png",
        "path": None,
        "created_at": "2025-07-28T10:00:00.123Z",
        "updated_at": "2025-07-28T10:00:00.123Z",
        "prompt": "in a garden",
        "negative_prompt": "rain",
        "seed": 7,
        "style": "anime",
        "model": None,
        "steps": None,
        "cfg_scale": None,
        "sampler_name": None,
        "backend": "pod",
        "attempts": 1,
        "maybe_paid_twice": 0,
        "gpu_seconds": 2.5,
        "width": 64,
        "height": 96,
        "format": "png",
        "bytes": 1234,
        "color": "#7a6a58",
        "favorite": 0,
        "labels": '["x"]',
        "error_code": None,
        "error_message": None,
        "job_id": "a",
    }


async def test_the_documented_queries_run(ledger, tmp_path):
    await ledger.accept([job("a", labels=("spring",)), job("b")])
    await make(ledger, images_of(ledger, "a")[0])
    docs = (Path(__file__).parent.parent / "docs" / "index.md").read_text()
    shell = re.findall(r'sqlite-utils query \S+ "(.+?)" --table', docs)
    plain = re.findall(r"```sql\n(.+?)```", docs, re.DOTALL)
    statements = [*shell, *(line for block in plain for line in block.strip().split("\n"))]
    assert len(statements) >= 5
    connection = sqlite3.connect(tmp_path / "index.db")
    answers = {sql: connection.execute(sql).fetchall() for sql in statements}
    columns = [column[0] for column in connection.execute("SELECT * FROM gallery").description]
    connection.close()
    assert next(rows for sql, rows in answers.items() if "spring" in sql)[0][0] == "mary_image_1"
    assert set(columns) <= set(re.findall(r"`(\w+)`", docs))
