"""What each back end did, day by day, counted in the transaction that records it: figures that only grow."""

import sqlite3
from datetime import UTC, datetime

from pipeline.lifecycle import AttemptLost, Event, Fetched, GaveUp
from pipeline.model import DURATION_BOUNDS, Image, State

_ENDED_BY_WORK = (State.DONE, State.PLACEHOLDER, State.FAILED)


def count(connection: sqlite3.Connection, before: Image, after: Image, event: Event, now: int) -> None:
    """Add what a recorded step of an image was worth to the figures of its back end and of the present day (UTC)."""
    grown = {
        "attempts": after.attempts - before.attempts,
        "attempts_failed": int(isinstance(event, AttemptLost) or (isinstance(event, GaveUp) and event.paid)),
        "doubtful": after.doubtful - before.doubtful,
        "gpu_seconds": after.gpu_seconds - before.gpu_seconds,
    }
    if after.state in _ENDED_BY_WORK:
        grown[after.state.value] = 1
    grown = {name: more for name, more in grown.items() if more}
    if grown:
        day = datetime.fromtimestamp(now / 1000, UTC).date().isoformat()
        connection.execute(
            f"INSERT INTO days (day, backend, {', '.join(grown)}) VALUES (?, ?, {', '.join('?' * len(grown))}) "
            f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in grown)}",
            (day, before.backend or "", *grown.values()),
        )
    if isinstance(event, Fetched):
        _count_duration(connection, before, now)


def _count_duration(connection: sqlite3.Connection, image: Image, now: int) -> None:
    """From the submission to the picture, the back end's queue included."""
    ((began,),) = connection.execute(
        "SELECT coalesce(max(at), ?) FROM events WHERE image = ? AND event = 'Submitting'", (now, image.row)
    ).fetchall()
    seconds = max(now - began, 0) / 1000
    bound = next(bound for bound in DURATION_BOUNDS if seconds <= bound)
    connection.execute(
        "INSERT INTO durations (backend, bound, n, seconds) VALUES (?, ?, 1, ?) "
        "ON CONFLICT DO UPDATE SET n = n + 1, seconds = seconds + excluded.seconds",
        (image.backend or "", bound, seconds),
    )
