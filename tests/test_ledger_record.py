"""Recording: what one step writes beside the state, and what is refused."""

import json
import sqlite3

import pytest

from pipeline import lifecycle as law
from pipeline.errors import IllegalStep, RepeatedOutput, StaleImage
from pipeline.ledger import questions
from pipeline.ledger.rows import KEPT, SELECT_IMAGE, Reader
from pipeline.lifecycle import advance
from pipeline.model import Fault, LaneState, OnFailure, Paused, PlannedImage, Recipe, State
from tests.support.index import (
    START,
    artifact,
    fetch,
    give_up,
    images_of,
    job,
    make,
    send,
    stored,
    submission,
)

FAULT = Fault("timed_out", "it took too long")


def walk(image):
    """Every event of the law once, with the image it leads to, from one planned image on."""
    sent = law.Submitting("pod", "t1")
    taken = law.Accepted(submission(image))
    got = law.Fetched(artifact("7"), gpu_seconds=2.5, used_embedding=True)
    kept = law.StoredAt(stored(image))
    return [
        sent,
        law.Refused(FAULT),
        sent,
        law.AcceptanceLost(FAULT),
        law.Doubtful(FAULT, limit=3),
        sent,
        law.Absent(limit=3),
        sent,
        taken,
        law.AttemptLost(FAULT, limit=3, gpu_seconds=1.0),
        law.GaveUp(FAULT),
        law.Drawn(artifact("8")),
        kept,
        law.Retried(),
        law.Cancelled(),
        law.Retried(artifact("9")),
        law.Rejected(FAULT, conflict=True),
        law.Retried(),
        sent,
        taken,
        got,
        law.StoredAt(stored(image, "2", path="/images/x.png", type="authenticated")),
        law.Removed(),
    ]


async def test_every_step_is_written_as_the_law_says_and_reads_back_equal(ledger, catalogue):
    await ledger.accept([job("a", quantity=2)])
    image, _ = images_of(ledger, "a")
    events = walk(image)
    for event in events:
        expected = advance(image, event)
        image = await ledger.record(image, event)
        assert ledger.image(image.row) == image
        assert (image.state, image.standing, image.attempts) == (expected.state, expected.standing, expected.attempts)
        assert catalogue.verify() == [], event
    steps = catalogue.history(image.row)
    assert [step.event for step in steps] == [type(event).__name__ for event in events]


async def test_the_history_tells_each_step_without_results_addresses(ledger, catalogue, clock):
    await ledger.accept([job("a")])
    image = await make(ledger, images_of(ledger, "a")[0])
    clock.at += 5
    await ledger.record(image, law.Removed())
    told = [(step.event, step.at - START, dict(step.detail)) for step in catalogue.history(image.row)]
    assert told == [
        ("Submitting", 0, {"backend": "pod", "ticket": f"ticket-{image.row}-0"}),
        ("Accepted", 0, {"remote_id": f"remote-{image.row}", "base_url": "http://pod"}),
        (
            "Fetched",
            0,
            {
                "file": f"{image.row}.img",
                "md5": f"{image.row:032}",
                "bytes": 1234,
                "gpu_seconds": 2.5,
                "used_embedding": False,
            },
        ),
        ("StoredAt", 0, {"version": "1", "md5": "0" * 32, "bytes": 1234}),
        ("Removed", 5, {}),
    ]


async def test_a_fault_is_told_in_the_history(ledger, catalogue):
    await ledger.accept([job("a")])
    image = await send(ledger, images_of(ledger, "a")[0])
    await ledger.record(image, law.AttemptLost(FAULT, limit=2))
    assert dict(catalogue.history(image.row)[-1].detail) == {
        "code": "timed_out",
        "message": "it took too long",
        "limit": 2,
        "gpu_seconds": 0.0,
    }


async def test_an_image_that_has_moved_on_is_not_written_twice(ledger):
    await ledger.accept([job("a")])
    planned = images_of(ledger, "a")[0]
    await ledger.record(planned, law.Submitting("pod", "t1"))
    with pytest.raises(StaleImage, match="mary_image_1 is no longer planned"):
        await ledger.record(planned, law.Submitting("pod", "t2"))
    assert ledger.image(planned.row).ticket == "t1"


async def test_the_same_state_under_another_ticket_is_stale_too(ledger):
    await ledger.accept([job("a")])
    first = await ledger.record(images_of(ledger, "a")[0], law.Submitting("pod", "t1"))
    again = await ledger.record(first, law.Refused(FAULT))
    await ledger.record(again, law.Submitting("pod", "t2"))
    with pytest.raises(StaleImage):
        await ledger.record(first, law.Accepted(submission(first)))


async def test_what_the_law_forbids_is_not_written(ledger, catalogue):
    await ledger.accept([job("a")])
    image = images_of(ledger, "a")[0]
    with pytest.raises(IllegalStep):
        await ledger.record(image, law.StoredAt(stored(image)))
    assert ledger.image(image.row) == image
    assert catalogue.history(image.row) == []


async def test_the_same_pixels_twice_in_a_job_are_refused_and_nothing_is_written(ledger):
    await ledger.accept([job("a", quantity=2), job("b")])
    one, two = images_of(ledger, "a")
    await make(ledger, one, tag=5)
    at_backend = await send(ledger, two)
    with pytest.raises(RepeatedOutput, match="the same pixels as image 1 of this job") as caught:
        await ledger.record(at_backend, law.Fetched(artifact(5)))
    assert "image 1 of this job" in str(caught.value)
    assert ledger.image(two.row) == at_backend
    other_job = await make(ledger, images_of(ledger, "b")[0], tag=5)
    assert other_job.state is State.DONE


async def test_created_at_never_goes_back_within_a_character(ledger, clock):
    await ledger.accept([job("a", quantity=3), job("b", "john")])
    one, two, three = images_of(ledger, "a")
    one = await make(ledger, one)
    clock.at -= 3_600_000
    assert ledger.stored_moment(two) == START
    two = await give_up(ledger, two)
    john = await make(ledger, images_of(ledger, "b")[0])
    clock.at = START + 10
    three = await make(ledger, three)
    assert (one.created_at, two.created_at, three.created_at) == (START, START, START + 10)
    assert john.created_at == START - 3_600_000
    clock.at = START + 99
    assert ledger.stored_moment(two) == START
    two = await ledger.record(two, law.Retried())
    two = await make(ledger, two, tag=77)
    assert two.created_at == START


async def test_a_job_tells_how_far_it_is(ledger, catalogue, clock):
    await ledger.accept([job("a", quantity=3)])
    seen = []

    def look():
        row = catalogue.job("a")
        counts = {status: n for status, n in row.counts.items() if n}
        moments = [at and at - START for at in (row.started_at, row.finished_at)]
        seen.append((row.status, counts, moments, ledger.turn("a") and ledger.turn("a").planned, ledger.to_file(9)))

    look()
    one, two, three = images_of(ledger, "a")
    clock.at = START + 1
    one = await send(ledger, one)
    look()
    clock.at = START + 2
    one = await ledger.record(one, law.Fetched(artifact(1)))
    await ledger.record(one, law.StoredAt(stored(one)))
    look()
    two = await give_up(ledger, two)
    clock.at = START + 3
    await ledger.record(three, law.Cancelled())
    look()
    await ledger.filed("a", ledger.result_version("a"))
    clock.at = START + 4
    two = await ledger.record(two, law.Retried())
    look()
    two = await fetch(ledger, two, tag=2)
    await ledger.record(two, law.StoredAt(stored(two, "2")))
    look()
    assert seen == [
        ("queued", {"queued": 3}, [None, None], 3, []),
        ("running", {"running": 1, "queued": 2}, [1, None], 2, []),
        ("running", {"done": 1, "queued": 2}, [1, None], 2, []),
        ("cancelled", {"done": 1, "placeholder": 1, "cancelled": 1}, [1, 3], None, ["a"]),
        ("cancelled", {"done": 1, "placeholder": 1, "cancelled": 1}, [1, 3], 1, []),
        ("cancelled", {"done": 2, "cancelled": 1}, [1, 3], None, ["a"]),
    ]


async def test_a_job_without_cancelled_images_ends_done_and_stays_so_while_one_is_made_again(ledger, catalogue):
    await ledger.accept([job("a", on_failure=OnFailure.FAIL)])
    image = await ledger.record(images_of(ledger, "a")[0], law.GaveUp(FAULT))
    assert (image.state, catalogue.job("a").status) == (State.FAILED, "done")
    image = await ledger.record(image, law.Retried())
    assert (catalogue.job("a").status, catalogue.summary().retrying) == ("done", 1)
    image = await send(ledger, image)
    assert (catalogue.job("a").status, catalogue.summary().retrying) == ("done", 0)
    await ledger.filed("a")
    await ledger.record(image, law.GaveUp(FAULT, paid=True))
    assert ledger.to_file(9) == ["a"]


async def test_a_result_written_of_an_older_state_stays_due(ledger):
    await ledger.accept([job("a", quantity=2)])
    one, two = images_of(ledger, "a")
    await make(ledger, one)
    image = await make(ledger, two)
    version = ledger.result_version("a")
    await ledger.record(image, law.Removed())
    await ledger.filed("a", version)
    assert ledger.to_file(9) == ["a"]
    await ledger.filed("a", ledger.result_version("a"))
    assert ledger.to_file(9) == []


async def test_a_job_is_known_once_it_was_accepted(ledger):
    await ledger.accept([job("b")])
    assert (ledger.knows("b"), ledger.knows("nothing")) == (True, False)


async def test_due_work_is_found_in_the_order_it_is_wanted(ledger, clock):
    await ledger.accept([job("a", quantity=9, priority=5, stagger=1.5, backends=("pod", "xl"))])
    images = images_of(ledger, "a")
    [turn] = ledger.turns()
    assert (turn.job_id, turn.priority, turn.stagger, turn.backends, turn.planned) == ("a", 5, 1.5, ("pod", "xl"), 9)
    assert [image.number for image in ledger.planned("a", 3)] == [1, 2, 3]
    assert [image.number for image in ledger.planned("a", 3, after_place=6)] == [8, 9]
    at = {}
    for image, expires in zip(images[:3], (300, None, 100), strict=True):
        sent = await ledger.record(image, law.Submitting("pod", f"t{image.number}"))
        where = law.Accepted(submission(image))
        where = law.Accepted(type(where.submission)("r", "http://pod", START, START + 200, expires and START + expires))
        at[image.number] = await ledger.record(sent, where)
    unclear = await ledger.record(images[3], law.Submitting("pod", "t4"))
    assert [image.number for image in ledger.at_backends()] == [3, 2, 1, 4]
    clock.at += 1
    three = await ledger.record(at[3], law.Fetched(artifact(3)))
    clock.at += 1
    five = await ledger.record(images[4], law.GaveUp(FAULT))
    clock.at += 1
    await ledger.record(at[1], law.Fetched(artifact(1)))
    assert [image.number for image in ledger.to_store(9)] == [3, 5, 1]
    assert [image.number for image in ledger.to_store(1, skip={three.row})] == [5]
    assert ledger.spool_files() == {"3.img", "1.img"}
    await ledger.record(five, law.Drawn(artifact(50)))
    assert ledger.spool_files() == {"3.img", "1.img", "50.img"}
    assert ledger.image(unclear.row).state is State.SUBMITTING
    assert ledger.turn("nothing") is None


async def test_images_are_selected_for_commands(ledger):
    await ledger.accept(
        [
            job("a", quantity=3, labels=("spring",)),
            job("b", "john", quantity=2, labels=("spring", "sea")),
            job("c", quantity=1),
        ]
    )
    await give_up(ledger, images_of(ledger, "a")[1])

    def found(**conditions):
        return [image.filename for image in ledger.images_where(**conditions)]

    assert found(job_id="a") == ["mary_image_1", "mary_image_2", "mary_image_3"]
    assert found(label="sea") == ["john_image_1", "john_image_2"]
    assert found(label="spring", character_id="mary", states=[State.PLACEHOLDER]) == ["mary_image_2"]
    assert found(character_id="mary", states=[State.PLANNED, State.DONE]) == [
        "mary_image_1",
        "mary_image_3",
        "mary_image_4",
    ]
    first = ledger.images_where(limit=4)
    assert found(after_row=first[-1].row) == ["john_image_2", "mary_image_4"]


async def test_a_missing_image_is_told(ledger):
    assert ledger.image_by_number("mary", 1) is None
    with pytest.raises(IllegalStep, match="there is no image row 7"):
        ledger.image(7)


def revisions(catalogue):
    return catalogue.whose("mary").revision, catalogue.owner_revision("me"), catalogue.whose("john").revision


async def test_revisions_grow_with_whatever_an_answer_shows(ledger, catalogue):
    await ledger.accept([job("a", quantity=2), job("b", "john")])
    image = images_of(ledger, "a")[0]
    seen = [revisions(catalogue)]

    async def grows(write):
        await write
        seen.append(revisions(catalogue))
        (mary, me, john), (mary_now, me_now, john_now) = seen[-2:]
        return mary_now > mary, me_now > me, john_now > john

    assert await grows(ledger.record(image, law.Submitting("pod", "t"))) == (True, True, False)
    assert await grows(ledger.favorite(image, chosen=True)) == (True, True, False)
    assert await grows(ledger.favorite(image, chosen=True)) == (False, False, False)
    assert await grows(ledger.notes.jobs(["b"], "pod is down")) == (False, True, False)
    assert await grows(ledger.notes.jobs(["b"], "pod is down")) == (False, False, False)
    assert await grows(ledger.accept([job("c", "Mary")])) == (True, True, False)
    assert await grows(ledger.notes.lane(LaneState("pod", "ready", 2, 1))) == (False, False, False)


async def test_a_note_tells_what_a_job_waits_for_until_it_goes_on(ledger, catalogue):
    await ledger.accept([job("a", quantity=2)])
    one, two = images_of(ledger, "a")
    await ledger.notes.jobs(["a"], "pod is down")
    assert (catalogue.job("a").status, catalogue.job("a").reason) == ("queued", "pod is down")
    one = await make(ledger, one)
    assert (catalogue.job("a").status, catalogue.job("a").reason) == ("running", None)
    await ledger.notes.jobs(["a"], "paused")
    assert (catalogue.job("a").status, catalogue.job("a").reason) == ("queued", "paused")
    await ledger.notes.jobs(["a"], None)
    assert (catalogue.job("a").status, catalogue.job("a").reason) == ("running", None)
    await make(ledger, two)
    await ledger.notes.jobs(["a"], "pod is down")
    assert (catalogue.job("a").status, catalogue.job("a").reason) == ("done", None)


async def test_a_paused_job_waits_for_its_pause_whatever_of_it_is_taken_meanwhile(ledger, catalogue):
    await ledger.accept([job("a", quantity=2)])
    image = await ledger.record(images_of(ledger, "a")[0], law.Submitting("pod", "t"))
    pause = Paused("job", "a")
    await ledger.pause(pause)
    image = await ledger.record(image, law.Fetched(artifact(1)))
    await ledger.record(image, law.StoredAt(stored(image)))
    assert (catalogue.job("a").status, catalogue.job("a").reason) == ("queued", pause.reason)
    await ledger.resume(pause)
    assert (catalogue.job("a").status, catalogue.job("a").reason) == ("running", None)


async def test_recipes_of_few_jobs_are_kept_parsed(ledger, tmp_path):
    picture = Recipe(params={"picture": "x" * (KEPT // 3)})
    await ledger.accept([job(name, recipe=picture) for name in "abc"])
    connection = sqlite3.connect(tmp_path / "index.db")
    a, b, c = connection.execute(SELECT_IMAGE).fetchall()
    asked = []

    def ask(sql, seq):
        asked.append(seq)
        return connection.execute(sql, (seq,)).fetchall()

    reader = Reader(ask)
    for row in (a, b, a, c, c, a):
        assert reader.image(row).recipe == picture
    assert asked == [1, 2, 3, 1]
    connection.close()


async def test_a_days_work_is_counted_by_back_end(ledger, catalogue, clock):
    await ledger.accept([job("a", quantity=3)])
    one, two, three = images_of(ledger, "a")
    await make(ledger, one)
    await give_up(ledger, two)
    clock.at += 86_400_000
    await make(ledger, three)
    first = [(day.backend, day.done, day.placeholder, day.gpu_seconds) for day in catalogue.summary(now=START).today]
    assert first == [("", 0, 1, 0.0), ("pod", 1, 0, 2.5)]
    [second] = catalogue.summary(now=clock.at).today
    assert (second.backend, second.done, second.gpu_seconds) == ("pod", 1, 2.5)


async def test_due_questions_are_answered_from_indexes_over_what_is_due(ledger, tmp_path):
    connection = sqlite3.connect(tmp_path / "index.db")
    for sql, values, index in (
        (questions.TURNS, (), "jobs_planned"),
        (questions.TURNS_OF, ("me",), "jobs_planned"),
        (questions.PLANNED, ("a", -1, 5), "images_planned"),
        (questions.AT_BACKENDS, (), "images_at_backend"),
        (questions.TO_STORE, ("[7]", 5), "images_to_store"),
        (questions.SPOOL_FILES, (), "images_to_store"),
        (questions.TO_FILE, (5,), "jobs_to_file"),
        (questions.OWNERS_TO_ADOPT, (), "jobs_unnumbered"),
        (questions.UNNUMBERED, ("me",), "jobs_unnumbered"),
    ):
        plan = [step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
        assert any(index in step for step in plan), (sql, plan)
        assert not any(step.startswith(("SCAN images", "SCAN jobs")) and "INDEX" not in step for step in plan), plan
    connection.close()


async def test_a_recipe_is_kept_as_sparse_json(ledger, tmp_path):
    await ledger.accept([job("a", recipe=Recipe(steps=0, cfg_scale=0.0), images=(PlannedImage("x", 1),))])
    connection = sqlite3.connect(tmp_path / "index.db")
    [kept] = connection.execute("SELECT recipe FROM jobs").fetchone()
    connection.close()
    assert json.loads(kept) == {"width": 1024, "height": 1536, "steps": 0, "cfg_scale": 0.0}
    assert images_of(ledger, "a")[0].recipe == Recipe(steps=0, cfg_scale=0.0)


async def test_a_store_whose_clock_is_ahead_dates_nothing_in_the_future(ledger, clock):
    await ledger.accept([job("a")])
    image = await fetch(ledger, ledger.planned("a", 1)[0])
    kept = stored(image)._replace(created_at=clock() + 3_600_000)
    assert (await ledger.record(image, law.StoredAt(kept))).created_at == clock()
