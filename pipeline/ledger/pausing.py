"""Pauses in the index: kept over restarts, and told to the jobs that wait because of them."""

from collections.abc import Sequence

from pipeline.ledger.numbering import touch_owner
from pipeline.ledger.transaction import Transaction
from pipeline.ledger.values import Pause

PAUSES = "SELECT kind, name FROM pauses ORDER BY kind, name"
_UNFINISHED = "status IN ('queued', 'running')"
_PAUSED = "SELECT name FROM pauses WHERE kind = 'job'"


def pause(transaction: Transaction, what: Pause, now: int) -> bool:
    """Keep a pause, and say so on the jobs it holds; false where it was there already."""
    added = transaction.execute(
        "INSERT INTO pauses (kind, name, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
        (what.kind, what.name, now),
    ).fetchall()
    if what.kind == "backend":
        transaction.execute("UPDATE lanes SET state = 'paused', reason = ? WHERE name = ?", (what.reason, what.name))
    else:
        _tell(
            transaction,
            "UPDATE jobs SET reason = ?1, version = version + 1, status = iif(running > 0, 'running', 'queued') "
            f"WHERE {_UNFINISHED} AND reason IS NOT ?1 AND iif(?2 = '', id NOT IN ({_PAUSED}), id = ?2) "
            "RETURNING owner",
            (what.reason, what.name),
        )
    return bool(added)


def resume(transaction: Transaction, what: Pause) -> bool:
    """Forget a pause; false where there was none."""
    gone = transaction.execute(
        "DELETE FROM pauses WHERE kind = ? AND name = ? RETURNING 1", (what.kind, what.name)
    ).fetchall()
    if what.kind == "backend":
        transaction.execute(
            "UPDATE lanes SET state = 'ready', reason = NULL WHERE name = ? AND state = 'paused'", (what.name,)
        )
    everything = transaction.execute("SELECT 1 FROM pauses WHERE kind = 'all'").fetchone()
    _tell(
        transaction,
        "UPDATE jobs SET reason = ?1, version = version + 1, "
        "status = iif(running > 0 OR (started_at IS NOT NULL AND ?1 IS NULL), 'running', 'queued') "
        f"WHERE {_UNFINISHED} AND reason = ?2 RETURNING owner",
        (Pause("all").reason if everything else None, what.reason),
    )
    return bool(gone)


def _tell(transaction: Transaction, update: str, values: Sequence[str | None]) -> None:
    for (owner,) in transaction.execute(update, values).fetchall():
        touch_owner(transaction, owner)
