"""Opening the index for writing: made if missing, checked, copied and migrated if old."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from pipeline.errors import IndexTrouble
from pipeline.ledger import trouble
from pipeline.ledger.schema import APPLICATION_ID, migrations
from pipeline.tools.sqlite import CACHE_KIB, open_read_only

OLDEST_SQLITE = (3, 38, 0)  # STRICT tables, RETURNING, the ->> operator
BUSY_MS = 10_000  # how long another process may hold the write lock before a commit fails
WAL_PAGES = 4_000  # checkpoint about every 16 MB


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Return the one connection that writes, its schema up to date.

    Raises:
        IndexTrouble: it cannot be opened, is damaged, read-only, another program's, or a newer program's.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise IndexTrouble(f"{path}: needs SQLite {wanted} or newer, this Python has {sqlite3.sqlite_version}")
    try:
        _make_private(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    except OSError as error:
        raise IndexTrouble(f"{path}: {error.strerror}; make its folder writable for this user") from error
    except sqlite3.Error as error:
        raise trouble.in_words(path, error) from error
    try:
        _check_whose(connection, path)
        _set_up(connection, path)
        _migrate(connection, path)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise trouble.in_words(path, error) from error
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Return a connection that can only read, beside the writer's.

    Raises:
        sqlite3.Error: it cannot be opened, or is no database.
    """
    return open_read_only(path, busy_ms=BUSY_MS)


def knows_anything(path: Path) -> bool:
    """Tell whether an index has a job or a character.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    with closing(open_for_reading(path)) as connection:
        sql = "SELECT EXISTS (SELECT 1 FROM jobs) OR EXISTS (SELECT 1 FROM characters)"
        return bool(connection.execute(sql).fetchone()[0])


def _make_private(path: Path) -> None:
    """SQLite gives the files beside the index (-wal, -shm) the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _check_whose(connection: sqlite3.Connection, path: Path) -> None:
    """Before anything else is written to it; a new one is marked."""
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    elif connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise IndexTrouble(f"{path}: is another program's database; move it away or choose another `state` folder")


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise IndexTrouble(f"{path}: its file system cannot hold SQLite's write-ahead log; use a local disk")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    connection.execute("PRAGMA journal_size_limit = 67108864")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    db = Database(connection, execute_plugins=False)
    applied = [done.name for done in migrations.applied(db)]
    pending = [migration.name for migration in migrations.pending(db)]
    known = _names()
    if newer := [name for name in applied if name not in known]:
        raise IndexTrouble(f"{path}: was made by a newer version ({newer[-1]}); use that version, or restore a backup")
    if applied and pending:
        _keep_copy(connection, path.with_name(f"{path.name}.before-{pending[0]}"))
    if pending:
        migrations.apply(db)


def _names() -> set[str]:
    """All migrations that this version knows: those still pending for an empty database."""
    with closing(sqlite3.connect(":memory:")) as empty:
        return {migration.name for migration in migrations.pending(Database(empty, execute_plugins=False))}


def _keep_copy(connection: sqlite3.Connection, copy: Path) -> None:
    _make_private(copy)
    with closing(sqlite3.connect(copy)) as target:
        connection.backup(target)
