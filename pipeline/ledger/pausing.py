"""Pauses in the index: kept over restarts, and told to the jobs that wait because of them."""

import sqlite3
from collections.abc import Sequence

from pipeline.ledger.values import Pause

PAUSES = "SELECT kind, name FROM pauses ORDER BY kind, name"
_UNFINISHED = "status IN ('queued', 'running')"


def pause(connection: sqlite3.Connection, what: Pause, now: int) -> bool:
    """Keep a pause, and say so on the jobs it holds; false where it was there already."""
    added = connection.execute(
        "INSERT INTO pauses (kind, name, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
        (what.kind, what.name, now),
    ).fetchall()
    if what.kind != "backend":
        _tell(
            connection,
            "UPDATE jobs SET reason = ?1, version = version + 1, status = iif(running > 0, 'running', 'queued') "
            f"WHERE {_UNFINISHED} AND (?2 = '' OR id = ?2) AND reason IS NOT ?1 RETURNING owner",
            (what.reason, what.name),
        )
    return bool(added)


def resume(connection: sqlite3.Connection, what: Pause) -> bool:
    """Forget a pause; false where there was none."""
    gone = connection.execute(
        "DELETE FROM pauses WHERE kind = ? AND name = ? RETURNING 1", (what.kind, what.name)
    ).fetchall()
    _tell(
        connection,
        "UPDATE jobs SET reason = NULL, version = version + 1, "
        "status = iif(running > 0 OR started_at IS NOT NULL, 'running', 'queued') "
        f"WHERE {_UNFINISHED} AND reason = ? RETURNING owner",
        (what.reason,),
    )
    return bool(gone)


def _tell(connection: sqlite3.Connection, update: str, values: Sequence[str]) -> None:
    owners = set(connection.execute(update, values).fetchall())
    connection.executemany("UPDATE owners SET revision = revision + 1 WHERE row = ?", owners)
