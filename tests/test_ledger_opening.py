"""Opening an index: new, old, newer, damaged, another program's."""

import re
import sqlite3
import stat
from contextlib import closing

import pytest
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from benchmarks.seed_index import seed
from pipeline.catalogue import Catalogue
from pipeline.errors import IndexTrouble
from pipeline.ledger import open_ledger, opening, questions, schema, trouble
from pipeline.ledger.opening import open_for_reading, open_for_writing
from pipeline.tools.clock import NOT_YET
from tests.support.index import adopted, handles_of, images_of, job, make, open_index


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index.db"


async def test_an_index_that_goes_while_it_is_opened_is_told_in_words(path):
    async def and_then_it_is_gone(work, *args):
        made = work(*args)
        path.unlink(missing_ok=True)
        return made

    with pytest.raises(IndexTrouble, match="it cannot be opened"):
        async with open_ledger(path, run_sync=and_then_it_is_gone):
            pass


def test_a_new_index_is_durable_private_and_marked(path):
    connection = open_for_writing(path)
    settings = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "application_id")
    }
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO owners (id) VALUES ('me')")
    connection.execute("COMMIT")
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    connection.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "application_id": 0x504C_4958}
    assert modes == {0o600}


async def test_closing_leaves_one_file_that_opens_again(tmp_path):
    async with open_index(tmp_path) as ledger:
        await adopted(ledger)
        await ledger.accept([job("a", quantity=3)])
    assert [file.name for file in tmp_path.iterdir()] == ["index.db"]
    async with open_index(tmp_path) as ledger:
        assert len(images_of(ledger, "a")) == 3


def test_the_reading_connection_cannot_write(path):
    open_for_writing(path).close()
    reading = open_for_reading(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly") as caught:
        reading.execute("INSERT INTO owners (id) VALUES ('me')")
    reading.close()
    told = str(trouble.in_words(path, caught.value))
    assert told.startswith(f"{path}: it is read-only")
    assert "make the file and its folder writable" in told


def test_what_cannot_be_read_is_not_left_open(path):
    path.write_text("jobs: jobs\n" * 1_000)
    with pytest.raises(sqlite3.DatabaseError) as held:  # and with it its traceback, and what the frames in there hold
        open_for_reading(path)
    assert not handles_of(path), held


def tear(path):
    open_for_writing(path).close()
    data = bytearray(path.read_bytes())
    data[100:3_000] = b"\xff" * 2_900
    path.write_bytes(data)


def foreign(path):
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE photos (id)")
    other.close()


def newer(path):
    connection = open_for_writing(path)
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('pipeline', 'm999_later', '')"
    )
    connection.close()


def unmarked(path):
    connection = open_for_writing(path)
    connection.execute("PRAGMA application_id = 7")
    connection.close()


DAMAGED = [
    ("text", lambda path: path.write_text("jobs: jobs\n" * 1_000), "it is no index"),
    ("a torn page", tear, "it is damaged"),
    ("another program's database", foreign, "is another program's database"),
    ("a newer version's index", newer, r"was made by a newer version \(m999_later\)"),
    ("the mark of another program", unmarked, "is another program's database"),
    ("a folder", lambda path: path.mkdir(), "make its folder writable"),
]


@pytest.mark.parametrize(("spoil", "told"), [case[1:] for case in DAMAGED], ids=[case[0] for case in DAMAGED])
async def test_what_is_no_usable_index_is_refused_with_file_and_remedy(tmp_path, path, spoil, told):
    spoil(path)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(IndexTrouble, match=told) as caught:
        async with open_index(tmp_path):
            pass
    assert str(path) in str(caught.value)
    assert before is None or path.read_bytes() == before


async def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(IndexTrouble, match=r"nowhere/index\.db: No such file or directory; make its folder"):
        async with open_index(tmp_path / "nowhere"):
            pass


def test_an_old_sqlite_is_told_before_anything_is_made(path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    with pytest.raises(IndexTrouble, match=r"needs SQLite 3\.38\.0 or newer, this Python has"):
        open_for_writing(path)
    assert not path.exists()


def test_an_older_index_is_migrated_and_a_copy_kept(path, monkeypatch):
    old = open_for_writing(path)
    old.execute("INSERT INTO owners (id) VALUES ('me')")
    old.close()
    extended = Migrations("pipeline")
    extended._migrations = list(schema.migrations._migrations)

    @extended(name="m999_likes")
    def likes(db):
        db.conn.execute("ALTER TABLE images ADD COLUMN likes INTEGER NOT NULL DEFAULT 0")

    monkeypatch.setattr(opening, "migrations", extended)
    connection = open_for_writing(path)
    assert connection.execute("SELECT count(likes), (SELECT id FROM owners) FROM images").fetchone() == (0, "me")
    connection.close()
    copy = path.with_name("index.db.before-m999_likes")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    kept = sqlite3.connect(copy)
    assert kept.execute("SELECT id FROM owners").fetchone() == ("me",)
    assert "likes" not in [column[1] for column in kept.execute("PRAGMA table_info(images)")]
    kept.close()


A_JOB_AT_WORK = [  # in the words of the first schema, which no later one takes back
    ("owners", {"id": "me", "slug": "me", "adopted_at": 1}),
    ("characters", {"id": "mary", "owner": 1, "name": "Mary", "wish": "mary", "slug": "mary", "highest": 3, "created_at": 1}),
    ("jobs", {
        "id": "a", "own_id": 1, "digest": "d", "file": "a.yaml", "owner": 1, "character": 1, "prompt": '"x"', "recipe": "{}",
        "backends": '["pod"]', "labels": "[]", "stagger": 0, "priority": 0, "on_failure": "placeholder", "quantity": 3,
        "first_number": 1, "planned": 3, "queued": 3, "created_at": 1,
    }),
    ("prompts", {"character": 1, "text": "x"}),
    *(("images", {
        "job": 1, "character": 1, "number": n, "public_id": f"me/characters/mary/images/mary_image_{n}", "prompt": 1,
        "seed": n, "state": "planned", "status": "queued", "shown_at": NOT_YET, "updated_at": 1,
    }) for n in (1, 2, 3)),
    ("tallies", {"character": 1, "status": "queued", "n": 3}),
]  # fmt: skip


def made_by(path, steps):
    """An index as the program made it that knew only the first `steps` migrations."""
    older = Migrations("pipeline")
    older._migrations = schema.migrations._migrations[:steps]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        older.apply(Database(connection))
        for table, row in A_JOB_AT_WORK:
            connection.execute(
                f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()]
            )


@pytest.mark.parametrize("steps", range(1, len(schema.migrations._migrations)))
async def test_the_index_of_each_earlier_version_opens_and_goes_on_with_a_copy_kept(tmp_path, path, steps):
    made_by(path, steps)
    async with open_index(tmp_path) as ledger:
        for image in ledger.planned("a", 3):
            await make(ledger, image)
        await ledger.accept([job("b", quantity=2)])
        assert [image.number for image in images_of(ledger, "b")] == [4, 5]
    with closing(Catalogue(path)) as catalogue:
        assert catalogue.verify() == []
        assert [row.number for row in catalogue.page("mary").rows] == [3, 2, 1]
    (copy,) = tmp_path.glob("index.db.before-*")
    assert copy.name.endswith(schema.migrations._migrations[steps].name)
    with closing(sqlite3.connect(copy)) as kept:
        assert kept.execute("SELECT state, count(*) FROM images GROUP BY state").fetchall() == [("planned", 3)]


def test_a_migration_that_fails_changes_nothing(path, monkeypatch):
    open_for_writing(path).close()
    extended = Migrations("pipeline")
    extended._migrations = list(schema.migrations._migrations)

    @extended(name="m999_broken")
    def broken(db):
        db.conn.execute("DROP TABLE days")
        db.conn.execute("no such statement")

    monkeypatch.setattr(opening, "migrations", extended)
    with pytest.raises(IndexTrouble, match="it cannot be used"):
        open_for_writing(path)
    monkeypatch.undo()
    connection = open_for_writing(path)
    assert "days" in Database(connection).table_names()
    connection.close()


def test_what_is_due_is_found_without_a_look_at_what_is_done(tmp_path):
    seed(tmp_path, images=2_000, characters=20, unfinished=20, big=200)  # with the statistics of `PRAGMA optimize`
    connection = sqlite3.connect(tmp_path / "index.db")
    for question in (
        questions.AT_BACKENDS,
        questions.TO_STORE,
        questions.TURNS,
        questions.TO_FILE,
        questions.SPOOL_FILES,
    ):
        values = (10,) * question.count("?")
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {question}", values)]
        of_all = [
            step for step in steps if re.match(r"SCAN (characters|images(?! USING (COVERING )?INDEX images_))", step)
        ]
        assert not of_all, steps
    connection.close()
