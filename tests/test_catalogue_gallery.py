"""Pages, cursors and filters of a character's images, and the lists of characters and jobs."""

import base64
import contextlib
import gc
import shutil
import sqlite3
import threading

import hypothesis
import pytest
import trio
from hypothesis import strategies as st

from pipeline import lifecycle as law
from pipeline.catalogue import BadCursor, Catalogue, Filter
from pipeline.errors import IndexTrouble
from pipeline.model import Fault, OnFailure, PlannedImage, Recipe, Stored
from tests.support.index import (
    START,
    HandClock,
    adopted,
    artifact,
    asset,
    give_up,
    handles_of,
    images_of,
    job,
    make,
    open_index,
    stored,
)

EVERYTHING = ("queued", "running", "done", "placeholder", "failed", "cancelled", "removed")


def numbers(page):
    return [row.number for row in page.rows]


async def test_a_row_tells_all_that_a_gallery_shows(ledger, catalogue, clock):
    recipe = Recipe(832, 1216, "rain", "anime", "m.safetensors", 28, 4.5, "euler", embedding="e")
    await ledger.accept([job("a", recipe=recipe, labels=("spring",), images=(PlannedImage("by the sea", 5),))])
    planned = images_of(ledger, "a")[0]
    [waiting] = catalogue.page("mary", Filter(("queued",))).rows
    assert (waiting.stored, waiting.created_at, waiting.width, waiting.height) == (None, None, 832, 1216)
    clock.at += 7
    await ledger.favorite(planned, chosen=True)
    image = await make(ledger, planned)
    [row] = catalogue.page("mary").rows
    assert row.stored == stored(image)
    expected = {
        "character_id": "mary",
        "public_id": "me/characters/mary/images/mary_image_1",
        "number": 1,
        "filename": "mary_image_1",
        "status": "done",
        "retrying": False,
        "created_at": START + 7,
        "updated_at": START + 7,
        "width": 64,
        "height": 96,
        "color": "#7a6a58",
        "prompt": "by the sea",
        "seed": 5,
        "backend": "pod",
        "gpu_seconds": 2.5,
        "attempts": 1,
        "doubtful": 0,
        "used_embedding": 0,
        "labels": ("spring",),
        "chosen": 1,
        "fault": None,
        "job_id": "a",
    }
    assert {name: getattr(row, name) for name in expected} == expected
    told = {"negative_prompt": "rain", "style": "anime", "model": "m.safetensors", "steps": 28, "cfg_scale": 4.5}
    assert {**row.recipe, **told, "sampler_name": "euler"} == row.recipe
    assert catalogue.image("mary", 1) == row
    assert catalogue.recipe("a")["embedding"] == "e"
    assert (catalogue.image("mary", 2), catalogue.image("john", 1), catalogue.recipe("b")) == (None, None, None)


async def test_newest_first_by_date_then_number_and_what_is_not_stored_before_all(ledger, catalogue, clock):
    await ledger.accept([job("a", quantity=7)])
    images = images_of(ledger, "a")
    for n in (2, 5, 4):
        await make(ledger, images[n - 1])  # stored in the same millisecond
    clock.at += 1
    await give_up(ledger, images[0])
    await ledger.record(images[2], law.Submitting("pod", "t"))
    assert numbers(catalogue.page("mary", Filter(EVERYTHING))) == [7, 6, 3, 1, 5, 4, 2]
    assert numbers(catalogue.page("mary")) == [1, 5, 4, 2]
    assert numbers(catalogue.page("mary", Filter(("running", "queued")))) == [7, 6, 3]
    assert catalogue.page("nobody") is None


async def test_an_image_made_again_stays_in_its_place(ledger, catalogue, clock):
    await ledger.accept([job("a", quantity=2)])
    one, two = images_of(ledger, "a")
    one = await give_up(ledger, one)
    clock.at += 5
    await make(ledger, two)
    clock.at += 5
    one = await ledger.record(one, law.Retried())
    shown = catalogue.page("mary").rows[1]
    assert (shown.number, shown.status, shown.retrying, shown.stored.version) == (1, "placeholder", True, "1")
    assert shown.error == Fault("timed_out", "it took too long")
    sent = await ledger.record(one, law.Submitting("pod", "t"))
    got = await ledger.record(sent, law.Fetched(artifact(4)))
    clock.at += 5
    await ledger.record(got, law.StoredAt(stored(one, "2")))
    shown = catalogue.page("mary").rows[1]
    assert (shown.number, shown.status, shown.retrying, shown.stored.version) == (1, "done", False, "2")
    assert (shown.created_at, shown.updated_at, shown.error) == (START, START + 15, None)


async def test_an_error_is_told_only_where_it_is_final(ledger, catalogue):
    await ledger.accept([job("a", quantity=2, on_failure=OnFailure.FAIL)])
    one, two = images_of(ledger, "a")
    await ledger.record(one, law.GaveUp(Fault("lost", "it vanished")))
    sent = await ledger.record(two, law.Submitting("pod", "t"))
    await ledger.record(sent, law.Refused(Fault("busy", "429")))
    two, one = catalogue.page("mary", Filter(EVERYTHING)).rows
    assert (one.status, one.error, two.fault, two.error) == (
        "failed",
        Fault("lost", "it vanished"),
        Fault("busy", "429"),
        None,
    )


async def test_an_adopted_image_tells_what_its_asset_told(ledger, catalogue):
    await ledger.adopt("bob", "bob", [asset("mary", 2, owner_slug="bob", prompt="old", seed=3, color="#000001")])
    await ledger.accept([job("a", owner="bob")])
    new, old, gap = (
        catalogue.page("mary", Filter(EVERYTHING)).rows[0],
        *catalogue.page("mary", Filter(("done", "removed"))).rows[::-1],
    )
    assert (new.number, new.status) == (3, "queued")
    assert (old.number, old.prompt, old.seed, old.color, old.job_id, old.labels) == (2, "old", 3, "#000001", None, ())
    assert (gap.number, gap.status, gap.width, gap.stored, gap.prompt) == (1, "removed", 0, None, None)


# -- filters

FILTERS = [
    (Filter(), [6, 5, 4, 2, 1]),
    (Filter(("done",)), [6, 5, 4, 1]),
    (Filter(("done", "done", "placeholder")), [6, 5, 4, 2, 1]),
    (Filter(EVERYTHING), [3, 6, 5, 4, 2, 1]),
    (Filter(EVERYTHING, job="a"), [3, 2, 1]),
    (Filter(job="a"), [2, 1]),
    (Filter(job="nothing"), []),
    (Filter(label="sea"), [6, 5, 4]),
    (Filter(label="sea", job="a"), []),
    (Filter(label="none"), []),
    (Filter(since=START + 40), [6, 5, 4]),
    (Filter(EVERYTHING, since=START + 40), [6, 5, 4]),
    (Filter(until=START + 40), [2, 1]),
    (Filter(EVERYTHING, since=START + 20, until=START + 50), [4, 2]),
    (Filter(seed=8), [5, 2]),
    (Filter(favorite=True), [5]),
    (Filter(("placeholder",), favorite=True), []),
    (Filter(favorite=False), [6, 4, 2, 1]),
    (Filter(q="harbour"), [6, 5, 4]),
    (Filter(q="HARB"), [6, 5, 4]),
    (Filter(q="the harb mist"), []),
    (Filter(q="mist harbour"), [6, 5, 4]),
    (Filter(q="cafe"), [6, 5, 4]),
    (Filter(q='" OR 1 NEAR( -*'), []),
    (Filter(q="garden OR harbour"), []),
    (Filter(q=" -- "), [6, 5, 4, 2, 1]),
    (Filter(q="花园"), [6, 5, 4]),
    (Filter(q="里的猫 harb"), [6, 5, 4]),
    (Filter(q="花园 猫 garden"), []),
    (Filter(q="花园 狗"), []),
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The folder of an index with something for each filter."""
    folder = tmp_path_factory.mktemp("filled")
    trio.run(_fill, folder, HandClock())
    return folder


async def _fill(folder, clock):
    harbour = "Café at the harbour, mist, 美丽的花园里的猫"
    images = tuple(PlannedImage(harbour, 7 + n) for n in range(3))
    async with open_index(folder, clock) as ledger:
        await adopted(ledger)
        await ledger.accept([job("a", quantity=3), job("b", images=images, labels=("sea", "spring"))])
        await ledger.accept([job("c", "john", images=images, labels=("sea",))])
        for image in (*images_of(ledger, "a"), *images_of(ledger, "b"), *images_of(ledger, "c")):
            clock.at = START + 10 * image.number
            if image.public_id.endswith("mary_image_2"):
                await give_up(ledger, image)
            elif not image.public_id.endswith("mary_image_3"):
                await make(ledger, image)
            if image.number == 5:
                await ledger.favorite(image, chosen=True)


@pytest.mark.parametrize(("wanted", "expected"), FILTERS, ids=str)
def test_filters(filled, wanted, expected):
    with contextlib.closing(Catalogue(filled / "index.db")) as catalogue:
        page = catalogue.page("mary", wanted)
        assert numbers(page) == expected
        assert page.total == len(expected)
        assert page.next is None
        assert walk(catalogue, "mary", wanted, limit=2) == expected


def walk(catalogue, character, wanted, limit):
    seen, after = [], None
    while True:
        page = catalogue.page(character, wanted, limit=limit, after=after)
        seen += numbers(page)
        after = page.next
        if after is None:
            return seen
        assert len(page.rows) == limit


# -- cursors


async def test_a_cursor_is_not_shifted_by_what_arrives(ledger, catalogue, clock):
    await ledger.accept([job("a", quantity=12)])
    images = images_of(ledger, "a")
    for image in images[:6]:
        clock.at += 1
        await make(ledger, image)
    first = catalogue.page("mary", limit=3)
    for image in images[6:]:
        clock.at += 1
        await make(ledger, image)
    await ledger.record(ledger.image(images[2].row), law.Removed())
    assert numbers(first) == [6, 5, 4]
    assert walk_on(catalogue, first.next) == [2, 1]


def walk_on(catalogue, after):
    return numbers(catalogue.page("mary", limit=9, after=after))


def b64(text):
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "ä",
        "!!!!",
        b64("{}"),
        b64("[1]"),
        b64("[1,2,3]"),
        b64('[1,"2"]'),
        b64("[1,true]"),
        b64("[1,1e3]"),
        b64(f"[1,{2**70}]"),
        b64("[" * 5_000),
    ],
)
async def test_a_cursor_that_was_never_given_out_is_refused(ledger, catalogue, cursor):
    await ledger.accept([job("a")])
    for ask in (
        lambda: catalogue.page("mary", after=cursor),
        lambda: catalogue.jobs("me", after=cursor if cursor != b64("[1]") else "x"),
        lambda: catalogue.characters("me", after=cursor if cursor != b64("[1]") else "x"),
    ):
        with pytest.raises(BadCursor, match="is no cursor"):
            ask()


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(
    fates=st.lists(st.tuples(st.sampled_from(["make", "give up", "leave"]), st.integers(0, 2)), max_size=12),
    statuses=st.sets(st.sampled_from(EVERYTHING), min_size=1),
    limit=st.integers(1, 5),
)
def test_pages_together_are_the_whole_in_order(tmp_path_factory, fates, statuses, limit):
    trio.run(_pages_hold, tmp_path_factory.mktemp("index"), fates, tuple(statuses), limit)


async def _pages_hold(folder, fates, statuses, limit):
    clock = HandClock()
    async with open_index(folder, clock) as ledger:
        await adopted(ledger)
        await ledger.accept([job("a", quantity=max(len(fates), 1))])
        images = images_of(ledger, "a")
        for image, (fate, pause) in zip(images, fates, strict=False):
            clock.at += pause
            if fate != "leave":
                await (make if fate == "make" else give_up)(ledger, image)
        expected = sorted(
            (
                (image.created_at or 2**60, image.number)
                for image in images_of(ledger, "a")
                if law.status_of(image.state, image.standing) in statuses
            ),
            reverse=True,
        )
    catalogue = Catalogue(folder / "index.db")
    assert walk(catalogue, "mary", Filter(statuses), limit) == [number for _, number in expected]
    catalogue.close()


# -- the cost of pages


async def test_pages_and_totals_are_read_from_indexes(ledger, tmp_path):
    await ledger.accept([job("a", quantity=3)])
    statements = []
    catalogue = Catalogue(tmp_path / "index.db")
    with catalogue._snapshots.snapshot() as connection:
        connection.set_trace_callback(statements.append)
        catalogue.page("mary", Filter(("done",), job="a", label="x"), limit=2, after=b64("[5,5]"))
        connection.set_trace_callback(None)
        plans = {
            sql: [step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
            for sql in statements
            if "FROM images" in sql
        }
    catalogue.close()
    (keys,) = (plan for sql, plan in plans.items() if "shown_at DESC" in sql)
    (total,) = (plan for sql, plan in plans.items() if "count(*)" in sql)
    assert any("COVERING INDEX images_page (character=? AND status=? AND (shown_at" in step for step in keys), keys
    assert not any("TEMP B-TREE FOR ORDER BY" in step for step in keys), keys
    assert any("COVERING INDEX images_page" in step for step in total), total


# -- characters, media, walks


async def test_characters_are_listed_with_counts(ledger, catalogue):
    await ledger.accept([job("a", "Mary", 2), job("b", "John"), job("c", "Eve", owner="bob")])
    await make(ledger, images_of(ledger, "a")[0])
    page = catalogue.characters("me", limit=1)
    assert ([row.id for row in page.rows], page.total) == (["john"], 2)
    page = catalogue.characters("me", limit=1, after=page.next)
    [mary] = page.rows
    assert (mary.name, mary.owner, mary.slug, dict(mary.counts), mary.newest_at) == (
        "Mary",
        "me",
        "mary",
        {"done": 1, "queued": 1},
        START,
    )
    assert page.next is None
    everybody = catalogue.characters(None)
    assert [row.id for row in everybody.rows] == ["eve", "john", "mary"]
    assert everybody.rows[0].newest_at is None
    assert catalogue.characters("nobody").total == 0
    assert catalogue.character("mary") == mary
    assert catalogue.character("nobody") is None


async def test_media_are_found_by_public_id_alone(ledger, catalogue):
    await ledger.accept([job("a", quantity=2)])
    one, two = images_of(ledger, "a")
    assert catalogue.media(one.public_id) is None
    image = await ledger.record(one, law.Submitting("pod", "t"))
    image = await ledger.record(image, law.Fetched(artifact(4)))
    kept = stored(one, path="/images/x.png")
    image = await ledger.record(image, law.StoredAt(kept))
    found = catalogue.media(one.public_id)
    assert found == ("me", kept)
    await make(ledger, two, tag=9)
    assert catalogue.media(two.public_id) is None  # kept elsewhere, there is no file
    await ledger.record(image, law.Removed())
    assert catalogue.media(one.public_id) is None


async def test_all_that_is_stored_can_be_walked_in_batches(ledger, catalogue):
    await ledger.accept([job("a", quantity=5)])
    images = images_of(ledger, "a")
    for image in images[1:]:
        await make(ledger, image)
    assert [row.number for row in catalogue.stored_images(batch=3)] == [2, 3, 4, 5]
    assert [row.number for row in catalogue.stored_images(batch=2)] == [2, 3, 4, 5]
    assert isinstance(next(catalogue.stored_images()).stored, Stored)


# -- the file itself


def test_a_missing_index_is_told(tmp_path):
    with pytest.raises(IndexTrouble, match=r"index\.db: there is no index .*`pipeline run` makes one"):
        Catalogue(tmp_path / "index.db").jobs(None)


@pytest.mark.parametrize("ask", [lambda c: c.summary(), lambda c: c.version()])
def test_an_unreadable_index_is_told(tmp_path, ask):
    (tmp_path / "index.db").write_text("jobs: jobs\n" * 1_000)
    with pytest.raises(IndexTrouble, match=r"index\.db: cannot be "):
        ask(Catalogue(tmp_path / "index.db"))
    (tmp_path / "index.db").unlink()
    (tmp_path / "index.db").mkdir()
    with pytest.raises(IndexTrouble, match=r"index\.db: cannot be "):
        ask(Catalogue(tmp_path / "index.db"))


async def test_an_index_put_back_from_a_backup_is_noticed(ledger, catalogue, tmp_path):
    await ledger.accept([job("a")])
    copy = sqlite3.connect(tmp_path / "copy")
    with catalogue._snapshots.snapshot() as connection:
        connection.backup(copy)
    copy.close()
    await ledger.accept([job("b")])
    before = catalogue.version()
    assert catalogue.job("b") is not None
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (tmp_path / name).unlink()
    shutil.move(tmp_path / "copy", tmp_path / "index.db")
    assert catalogue.job("b") is None
    assert catalogue.job("a") is not None
    assert catalogue.version() != before


async def test_the_version_changes_with_every_commit_and_only_then(ledger, catalogue):
    first = catalogue.version()
    assert catalogue.version() == first
    await ledger.accept([job("a")])
    assert catalogue.version() != first


async def test_every_thread_reads_on_a_connection_of_its_own(ledger, catalogue):
    await ledger.accept([job("a")])
    catalogue.job("a")
    seen = []

    def look():
        seen.append(catalogue.job("a").id)
        catalogue.close()
        catalogue.close()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["a"] * 4
    assert catalogue.job("a").id == "a"


async def test_a_snapshot_within_another_is_the_same_one(ledger, catalogue):
    with catalogue._snapshots.snapshot():
        assert catalogue.job("a") is None
        await ledger.accept([job("a")])
        assert catalogue.job("a") is None
    assert catalogue.job("a") is not None


async def test_a_catalogue_among_garbage_closes_its_connection(tmp_path):
    async with open_index(tmp_path):
        pass
    left = [Catalogue(tmp_path / "index.db")]
    left[0].summary()
    left.append(left)  # as an error holds its traceback, and the frame in there the error
    assert handles_of(tmp_path / "index.db")
    del left
    gc.collect()  # from Python 3.13 on, one that the search finds before it is closed warns, and a warning fails the test
    assert not handles_of(tmp_path / "index.db")
