"""What each back end did, day by day, counted in the transaction that records it: figures that only grow."""

from datetime import UTC, datetime

from pipeline.ledger.transaction import Transaction
from pipeline.lifecycle import AttemptLost, Event, Fetched, GaveUp
from pipeline.model import DURATION_BOUNDS, Image, State

_ENDED_BY_WORK = (State.DONE, State.PLACEHOLDER, State.FAILED)
_GROWS = ("done", "placeholder", "failed", "attempts", "attempts_failed", "doubtful", "gpu_seconds")
_DAY = (
    f"INSERT INTO days ({', '.join(_GROWS)}, day, backend) VALUES ({', '.join('?' * len(_GROWS))}, ?, ?) "
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in _GROWS)}"
)
_DURATION = (
    "INSERT INTO durations (n, seconds, backend, bound) VALUES (?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET n = n + excluded.n, seconds = seconds + excluded.seconds"
)


def count(transaction: Transaction, before: Image, after: Image, event: Event, now: int) -> None:
    """Add what a recorded step of an image was worth to the figures of its back end and of the present day (UTC)."""
    grown = (
        *(after.state is ended for ended in _ENDED_BY_WORK),
        after.attempts - before.attempts,
        isinstance(event, AttemptLost) or (isinstance(event, GaveUp) and event.paid),
        after.doubtful - before.doubtful,
        after.gpu_seconds - before.gpu_seconds,
    )
    if any(grown):
        day = datetime.fromtimestamp(now / 1000, UTC).date().isoformat()
        transaction.owe(_DAY, (day, before.backend or ""), *grown)
    if isinstance(event, Fetched):
        _count_duration(transaction, before, now)


def _count_duration(transaction: Transaction, image: Image, now: int) -> None:
    """From the submission to the picture, the back end's queue included."""
    ((began,),) = transaction.execute(
        "SELECT coalesce(max(at), ?) FROM events WHERE image = ? AND event = 'Submitting'", (now, image.row)
    ).fetchall()
    seconds = max(now - began, 0) / 1000
    bound = next(bound for bound in DURATION_BOUNDS if seconds <= bound)
    transaction.owe(_DURATION, (image.backend or "", bound), 1, seconds)
