"""The questions that the stages ask, each answered from an index over what is due alone."""

import json
from collections.abc import Collection, Iterable, Sequence

from pipeline.ledger.rows import SELECT_IMAGE, Row
from pipeline.ledger.values import Turn
from pipeline.model import State

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
WHERE images.state IN ('fetched', 'given_up', 'drawn') AND images.id NOT IN (SELECT value FROM json_each(?))
ORDER BY images.updated_at, images.id LIMIT ?"""
# All three states are named so that the index of what waits for the store answers it.
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
