"""The one place where an image's state is written, with all that follows from it in the same transaction."""

import dataclasses
from typing import Any

import orjson

from pipeline.errors import RepeatedOutput, StaleImage
from pipeline.ledger import figures, outbox
from pipeline.ledger.counters import tally, touch
from pipeline.ledger.reasons import UNLESS_PAUSED
from pipeline.ledger.rows import OWNER, changes
from pipeline.ledger.transaction import Transaction
from pipeline.lifecycle import ENDS, Event, Fetched, StoredAt, Submitting, status_of
from pipeline.model import Artifact, Fault, Image, State, Stored, Submission

_TRIED = frozenset({State.SUBMITTING, State.UNCLEAR})
_TAKEN = frozenset({State.SUBMITTED, State.FETCHED})


def record(transaction: Transaction, before: Image, after: Image, event: Event, now: int) -> Image:
    """Write what `event` made of an image, and return it as it was written.

    Raises:
        StaleImage: the row is not as `before` any more.
        RepeatedOutput: another image of the job has the pixels just fetched.
    """
    changed = changes(before, after)
    if isinstance(event, StoredAt):
        if before.created_at is None:
            # What the store keeps beside the bytes counts, so that an index made anew from it tells the same.
            moment = min(event.stored.created_at or now, now)
            after = after._replace(created_at=_first_stored(transaction, before, moment))
            changed["created_at"] = changed["shown_at"] = after.created_at
        changed["color"] = before.artifact.color if before.artifact else None
    changed["updated_at"] = now
    job, character, owner = _update(transaction, before, changed)
    if isinstance(event, Fetched):
        _refuse_repeated(transaction, before, job, event.artifact.pixels)
    transaction.execute(
        "INSERT INTO events (image, n, at, event, detail) "
        "SELECT ?, coalesce(max(n), 0) + 1, ?, ?, ? FROM events WHERE image = ?",
        (before.row, now, type(event).__name__, detail(event), before.row),
    )
    left, reached = status_of(before.state, before.standing), status_of(after.state, after.standing)
    tally(transaction, character, left.value, -1)
    tally(transaction, character, reached.value, 1)
    if job is not None:
        _count(transaction, job, _Step(event, before.state, after.state, left.value, reached.value), now)
    figures.count(transaction, before, after, event, now)
    touch(transaction, character, owner)
    return after


def _first_stored(transaction: Transaction, image: Image, now: int) -> int:
    """Never less than any image of the character has, whatever the clock does."""
    return int(
        transaction.execute(
            "UPDATE characters SET newest_at = max(newest_at, ?) WHERE id = ? RETURNING newest_at",
            (now, image.character_id),
        ).fetchall()[0][0]
    )


def _update(transaction: Transaction, image: Image, changed: dict[str, Any]) -> tuple[int | None, int, int]:
    sets = ", ".join(f"{name} = ?" for name in changed)
    found: list[tuple[int | None, int, int]] = transaction.execute(
        f"UPDATE images SET {sets} WHERE id = ? AND state = ? AND ticket IS ? RETURNING job, character, {OWNER}",
        (*changed.values(), image.row, image.state.value, image.ticket),
    ).fetchall()
    if not found:
        raise StaleImage(f"{image.public_id} is no longer {image.state}: somebody recorded another step meanwhile")
    return found[0]


def _refuse_repeated(transaction: Transaction, image: Image, job: int | None, pixels: str) -> None:
    same = transaction.execute(
        "SELECT number FROM images WHERE job = ? AND spool_pixels = ? AND id <> ? LIMIT 1", (job, pixels, image.row)
    ).fetchone()
    if same:
        raise RepeatedOutput(same[0])


@dataclasses.dataclass(frozen=True, slots=True)
class _Step:
    event: Event
    left: State
    reached: State
    old_status: str
    new_status: str


def _count(transaction: Transaction, job: int, step: _Step, now: int) -> None:
    """Keep the job's counters, and what follows from them: its status, its moments, whether its result is due."""
    planned = (step.reached is State.PLANNED) - (step.left is State.PLANNED)
    sets = ["version = version + 1", "planned = planned + ?"]
    if step.old_status != step.new_status:
        sets += [f"{step.old_status} = {step.old_status} - 1", f"{step.new_status} = {step.new_status} + 1"]
    starts = isinstance(step.event, Submitting)
    if starts:
        sets.append("started_at = coalesce(started_at, ?)")
    if step.left in _TRIED and step.reached in _TAKEN:  # a mere try ends no waiting
        sets.append(f"reason = {UNLESS_PAUSED}")
    ((queued, running, cancelled, started, status, finished, reason),) = transaction.execute(
        f"UPDATE jobs SET {', '.join(sets)} WHERE seq = ? "
        "RETURNING queued, running, cancelled, started_at, status, finished_at, reason",
        (planned, *((now,) if starts else ()), job),
    ).fetchall()
    if queued or running:
        now_is = "running" if running or (started is not None and reason is None) else "queued"
    else:
        now_is = "cancelled" if cancelled else "done"
    ended = now_is in {"done", "cancelled"}
    if now_is != status or (ended and step.reached in ENDS):
        transaction.execute(
            "UPDATE jobs SET status = ?, finished_at = ?, filed = 0 WHERE seq = ?",
            (now_is, (finished or now) if ended else None, job),
        )
    if ended and now_is != status:
        outbox.ended(transaction, job, now)
    elif ended and step.reached in ENDS and step.left not in ENDS:
        outbox.made_again(transaction, job, now)


def detail(event: Event) -> str:
    """What the history of an image tells of a step, as JSON: no bytes, no addresses of results."""
    told: dict[str, Any] = {}
    for field in dataclasses.fields(event):
        match getattr(event, field.name):
            case Fault(code, message):
                told |= {"code": code, "message": message}
            case Submission() as submission:
                told |= {"remote_id": submission.remote_id, "base_url": submission.base_url}
            case Artifact() as artifact:
                told |= {"file": artifact.file, "md5": artifact.md5, "bytes": artifact.bytes}
            case Stored() as stored:
                told |= {"version": stored.version, "md5": stored.md5, "bytes": stored.bytes}
            case None:
                pass
            case plain:
                told[field.name] = plain
    return orjson.dumps(told).decode()
