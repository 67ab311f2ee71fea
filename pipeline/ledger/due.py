"""The questions that the stages ask, each answered from an index over what is due alone."""

import json
from collections.abc import Collection, Iterable, Sequence

from pipeline.ledger import outbox
from pipeline.ledger.numbering import touch, touch_owner
from pipeline.ledger.rows import OWNER, SELECT_IMAGE, Row
from pipeline.ledger.transaction import Transaction
from pipeline.ledger.values import Turn
from pipeline.model import LaneState, State, Trouble

_TURN = "SELECT id, seq, priority, backends, stagger, planned FROM jobs"
TURNS = f"{_TURN} WHERE planned > 0 ORDER BY seq"
TURNS_AMONG = f"{_TURN} WHERE id IN (SELECT value FROM json_each(?)) AND +planned > 0 ORDER BY seq"
TURNS_OF = f"{_TURN} WHERE planned > 0 AND +owner = (SELECT row FROM owners WHERE id = ?) ORDER BY seq"
OWNERS_TO_ADOPT = """
SELECT id FROM owners WHERE slug IS NULL
AND EXISTS (SELECT 1 FROM jobs WHERE jobs.owner = owners.row AND plan IS NOT NULL) ORDER BY row"""
LABELLED = "SELECT id FROM jobs WHERE seq IN (SELECT job FROM labels WHERE label = ?) ORDER BY seq"
KNOWN_AMONG = "SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each(?))"
UNNUMBERED = """
SELECT jobs.id FROM owners JOIN jobs ON jobs.owner = owners.row AND plan IS NOT NULL
WHERE owners.id = ? ORDER BY seq"""
PLANNED = f"""{SELECT_IMAGE}
WHERE images.state = 'planned' AND images.job = (SELECT seq FROM jobs WHERE id = ?)
AND images.number > jobs.first_number + ? ORDER BY images.number LIMIT ?"""
# The names of the few come first: joined at once, all images were gone through as soon as there were statistics.
AT_BACKENDS = f"""{SELECT_IMAGE}
WHERE images.id IN (SELECT id FROM images WHERE state IN ('submitting', 'unclear', 'submitted'))
ORDER BY images.remote_id IS NULL, coalesce(images.expires_at, images.deadline), images.id"""
TO_STORE = f"""{SELECT_IMAGE}
WHERE images.state IN ('fetched', 'given_up', 'drawn') ORDER BY images.updated_at, images.id LIMIT ?"""
SPOOL_FILES = """
SELECT spool_file FROM images WHERE state IN ('fetched', 'given_up', 'drawn') AND state <> 'given_up'
AND spool_file IS NOT NULL"""
TO_FILE = """
SELECT id FROM jobs WHERE filed = 0 AND status IN ('done', 'cancelled') ORDER BY finished_at LIMIT ?"""
ENDED_AT = """
SELECT file, finished_at FROM jobs WHERE id = ? AND status IN ('done', 'cancelled')
AND filed = 1 AND planned = 0 AND finished_at IS NOT NULL"""
OF_JOB = f"""{SELECT_IMAGE}
JOIN jobs AS wanted ON wanted.id = ? AND images.character = wanted.character AND images.job = wanted.seq
AND images.number BETWEEN wanted.first_number AND wanted.first_number + wanted.quantity - 1 ORDER BY images.number"""


def turns(rows: Iterable[Row]) -> list[Turn]:
    """Make Turns of rows of TURNS."""
    return [
        Turn(job_id, seq, priority, tuple(json.loads(backends)), stagger, planned)
        for job_id, seq, priority, backends, stagger, planned in rows
    ]


def where(
    job_id: str | None, character_id: str | None, label: str | None, states: Collection[State]
) -> tuple[str, Sequence[str]]:
    """The query of `Ledger.images_where` and its values, but for the last two: the row to go on after, the limit."""
    conditions: list[str] = []
    values: list[str] = []
    if job_id is not None:
        conditions.append("images.job = (SELECT seq FROM jobs WHERE id = ?)")
        conditions.append("images.character = (SELECT character FROM jobs WHERE id = ?)")
        values += [job_id, job_id]
    if character_id is not None:
        conditions.append("images.character = (SELECT row FROM characters WHERE id = ?)")
        values.append(character_id)
    if label is not None:
        conditions.append("images.job IN (SELECT job FROM labels WHERE label = ?)")
        values.append(label)
    if states:
        conditions.append(f"images.state IN ({', '.join('?' * len(states))})")
        values += [state.value for state in states]
    conditions.append("images.id > ?")
    return f"{SELECT_IMAGE} WHERE {' AND '.join(conditions)} ORDER BY images.id LIMIT ?", values


def note(transaction: Transaction, job_ids: Collection[str], reason: str | None) -> None:
    """Keep what unfinished jobs wait for; a job that waits with nothing under way counts as queued again.

    A job that a person has paused goes on saying so.
    """
    for job_id in job_ids:
        changed = transaction.execute(
            "UPDATE jobs SET reason = ?1, version = version + 1, status = CASE "
            "WHEN running > 0 OR (started_at IS NOT NULL AND ?1 IS NULL) THEN 'running' ELSE 'queued' END "
            "WHERE id = ?2 AND status IN ('queued', 'running') AND reason IS NOT ?1 "
            "AND id NOT IN (SELECT name FROM pauses WHERE kind = 'job') RETURNING owner",
            (reason, job_id),
        ).fetchall()
        for (owner,) in changed:
            touch_owner(transaction, owner)


def note_lane(transaction: Transaction, lane: LaneState, now: int) -> None:
    """Write what `status` shows of a back end."""
    transaction.execute(
        "INSERT OR REPLACE INTO lanes (name, state, slots, busy, waiting, typical, reason, next_try, noted_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            lane.name,
            lane.state,
            lane.slots,
            lane.busy,
            lane.waiting,
            lane.typical,
            lane.reason,
            lane.next_try,
            now,
        ),
    )


def forget_notes(transaction: Transaction, configured: Collection[str]) -> None:
    """Forget back ends that are configured no more, and what an earlier run said that numbered jobs wait for."""
    changed = transaction.execute(
        "UPDATE jobs SET reason = NULL, version = version + 1, status = iif(started_at IS NULL, 'queued', 'running') "
        "WHERE planned > 0 AND reason IS NOT NULL AND status IN ('queued', 'running') "
        "AND id NOT IN (SELECT name FROM pauses WHERE kind = 'job') RETURNING owner"
    ).fetchall()
    for owner in {owner for (owner,) in changed}:
        touch_owner(transaction, owner)
    transaction.execute(
        "DELETE FROM lanes WHERE name NOT IN (SELECT value FROM json_each(?))", (json.dumps([*configured]),)
    )


def note_troubles(transaction: Transaction, troubles: Collection[Trouble], now: int) -> None:
    """Write all that is in trouble now, each since when it has been; what is not named is over."""
    transaction.execute(
        "DELETE FROM troubles WHERE what NOT IN (SELECT value FROM json_each(?))",
        (json.dumps([trouble.what for trouble in troubles]),),
    )
    transaction.executemany(
        "INSERT INTO troubles (what, reason, since, next_try) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET reason = excluded.reason, next_try = excluded.next_try",
        [(trouble.what, trouble.reason, now, trouble.next_try) for trouble in troubles],
    )


def favorite(transaction: Transaction, row: int, *, chosen: bool) -> None:
    """Set or clear a favourite mark."""
    changed = transaction.execute(
        f"UPDATE images SET favorite = ?1 WHERE id = ?2 AND favorite <> ?1 RETURNING character, {OWNER}",
        (int(chosen), row),
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
