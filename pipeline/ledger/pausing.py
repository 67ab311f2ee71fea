"""Pauses in the index: kept over restarts, and told to the jobs that wait because of them."""

import sqlite3
from collections.abc import Sequence

from pipeline.ledger.values import Pause

PAUSES = "SELECT kind, name FROM pauses ORDER BY kind, name"
_UNFINISHED = "status IN ('queued', 'running')"
_PAUSED = "SELECT name FROM pauses WHERE kind = 'job'"


def pause(connection: sqlite3.Connection, what: Pause, now: int) -> bool:
    """Keep a pause, and say so on the jobs it holds; false where it was there already."""
    added = connection.execute(
        "INSERT INTO pauses (kind, name, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
        (what.kind, what.name, now),
    ).fetchall()
    if what.kind == "backend":
        connection.execute("UPDATE lanes SET state = 'paused', reason = ? WHERE name = ?", (what.reason, what.name))
    else:
        _tell(
            connection,
            "UPDATE jobs SET reason = ?1, version = version + 1, status = iif(running > 0, 'running', 'queued') "
            f"WHERE {_UNFINISHED} AND reason IS NOT ?1 AND iif(?2 = '', id NOT IN ({_PAUSED}), id = ?2) "
            "RETURNING owner",
            (what.reason, what.name),
        )
    return bool(added)


def resume(connection: sqlite3.Connection, what: Pause) -> bool:
    """Forget a pause; false where there was none."""
    gone = connection.execute(
        "DELETE FROM pauses WHERE kind = ? AND name = ? RETURNING 1", (what.kind, what.name)
    ).fetchall()
    if what.kind == "backend":
        connection.execute(
            "UPDATE lanes SET state = 'ready', reason = NULL WHERE name = ? AND state = 'paused'", (what.name,)
        )
    everything = connection.execute("SELECT 1 FROM pauses WHERE kind = 'all'").fetchone()
    _tell(
        connection,
        "UPDATE jobs SET reason = ?1, version = version + 1, "
        "status = iif(running > 0 OR (started_at IS NOT NULL AND ?1 IS NULL), 'running', 'queued') "
        f"WHERE {_UNFINISHED} AND reason = ?2 RETURNING owner",
        (Pause("all").reason if everything else None, what.reason),
    )
    return bool(gone)


def _tell(connection: sqlite3.Connection, update: str, values: Sequence[str | None]) -> None:
    owners = set(connection.execute(update, values).fetchall())
    connection.executemany("UPDATE owners SET revision = revision + 1 WHERE row = ?", owners)
