"""What people decide about what the index holds: pauses, favourites, and jobs cancelled before they have numbers.

A pause is kept over restarts, and told to the jobs that wait because of it.
"""

from pipeline.ledger import outbox
from pipeline.ledger.counters import touch, touch_owner
from pipeline.ledger.reasons import PAUSED, say
from pipeline.ledger.rows import OWNER
from pipeline.ledger.transaction import Transaction
from pipeline.model import Paused


def pause(transaction: Transaction, what: Paused, now: int) -> bool:
    """Keep a pause, and say so on the jobs it holds; false where it was there already."""
    added = transaction.execute(
        "INSERT INTO pauses (kind, name, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
        (what.kind, what.name, now),
    ).fetchall()
    if what.kind == "backend":
        transaction.execute("UPDATE lanes SET state = 'paused', reason = ? WHERE name = ?", (what.reason, what.name))
    else:
        say(transaction, what.reason, f"iif(:name = '', id NOT IN {PAUSED}, id = :name)", name=what.name)
    return bool(added)


def resume(transaction: Transaction, what: Paused) -> bool:
    """Forget a pause; false where there was none."""
    gone = transaction.execute(
        "DELETE FROM pauses WHERE kind = ? AND name = ? RETURNING 1", (what.kind, what.name)
    ).fetchall()
    if what.kind == "backend":
        transaction.execute(
            "UPDATE lanes SET state = 'ready', reason = NULL WHERE name = ? AND state = 'paused'", (what.name,)
        )
    everything = transaction.execute("SELECT 1 FROM pauses WHERE kind = 'all'").fetchone()
    say(transaction, Paused("all").reason if everything else None, "reason = :before", before=what.reason)
    return bool(gone)


def favorite(transaction: Transaction, row: int, *, chosen: bool) -> None:
    """Set or clear a favourite mark."""
    changed = transaction.execute(
        f"UPDATE images SET favorite = :chosen WHERE id = :row AND favorite <> :chosen RETURNING character, {OWNER}",
        {"chosen": int(chosen), "row": row},
    ).fetchall()
    for character, owner in changed:
        touch(transaction, character, owner)


def withdraw(transaction: Transaction, job_id: str, now: int) -> bool:
    """Cancel a job without numbers: there is no row to hold, so only the job tells of it."""
    changed = transaction.execute(
        "UPDATE jobs SET status = 'cancelled', plan = NULL, queued = 0, cancelled = quantity, reason = NULL, "
        "finished_at = ?, version = version + 1 WHERE id = ? AND plan IS NOT NULL RETURNING owner, seq",
        (now, job_id),
    ).fetchall()
    for owner, job in changed:
        outbox.ended(transaction, job, now)
        touch_owner(transaction, owner)
    return bool(changed)
