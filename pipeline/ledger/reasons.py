"""What unfinished jobs are said to wait for; with it goes whether they count as running or as queued."""

from pipeline.ledger.counters import touch_owner
from pipeline.ledger.transaction import Transaction

PAUSED = "(SELECT name FROM pauses WHERE kind = 'job')"
UNLESS_PAUSED = f"iif(id IN {PAUSED}, reason, NULL)"  # nothing waited for any more, but for what a person has paused

_SAY = """
UPDATE jobs SET reason = :reason, version = version + 1,
    status = iif(running > 0 OR (started_at IS NOT NULL AND :reason IS NULL), 'running', 'queued')
WHERE status IN ('queued', 'running') AND reason IS NOT :reason AND"""


def say(transaction: Transaction, reason: str | None, those: str, **values: str) -> None:
    """Say of the unfinished jobs for which the condition `those` holds what they wait for; None: for nothing.

    `values` are the condition's, by name. A job that waits with nothing under way counts as queued again.
    """
    for (owner,) in transaction.execute(f"{_SAY} {those} RETURNING owner", {"reason": reason, **values}).fetchall():
        touch_owner(transaction, owner)
