"""The questions that stages and orders ask of the index, those of what is due answered from an index over that alone."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from pipeline import naming
from pipeline.errors import IllegalStep
from pipeline.ledger import trouble
from pipeline.ledger.rows import SELECT_IMAGE, Reader, Row
from pipeline.ledger.values import OwnerToAdopt, Turn
from pipeline.model import Image, Paused, State

Value = str | int | None

_LAST_START = """
SELECT max(events.at) FROM images JOIN events ON events.image = images.id
WHERE images.character = jobs.character AND events.event IN ('Submitting', 'Accepted')
AND images.number BETWEEN jobs.first_number AND jobs.first_number + jobs.quantity - 1"""
_TURN = f"""
SELECT id, priority, backends, stagger, planned,
CASE WHEN stagger > 0 AND started_at IS NOT NULL THEN ({_LAST_START}) END FROM jobs"""
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
PAUSES = "SELECT kind, name FROM pauses ORDER BY kind, name"


class Questions:
    """What the index is asked by those who work with it; answers are inline and cost microseconds.

    All methods raise IndexTrouble where it cannot be read.
    """

    def __init__(self, reading: sqlite3.Connection, path: Path) -> None:
        self._reading = reading
        self._path = path
        self._reader = Reader(self._rows)

    # -- what the stages ask

    def turns(self) -> list[Turn]:
        """All jobs with planned images, in arrival order."""
        return _turns(self._rows(TURNS))

    def turns_among(self, job_ids: Collection[str]) -> list[Turn]:
        """The turns of those of some jobs that have planned images, in arrival order."""
        return _turns(self._rows(TURNS_AMONG, _listed(job_ids)))

    def turn(self, job_id: str) -> Turn | None:
        """One job's turn; None where it has no planned image."""
        return next(iter(self.turns_among([job_id])), None)

    def turns_of(self, owner: str) -> list[Turn]:
        """The turns of one owner's jobs, in arrival order."""
        return _turns(self._rows(TURNS_OF, owner))

    def planned(self, job_id: str, limit: int, after_place: int = -1) -> list[Image]:
        """A job's planned images beyond `after_place`, in number order."""
        return self._images(PLANNED, job_id, after_place, limit)

    def at_backends(self) -> list[Image]:
        """What is, or may be, at a back end: nearest result deadline first, then what is unclear."""
        return self._images(AT_BACKENDS)

    def to_store(self, limit: int, skip: Collection[int] = ()) -> list[Image]:
        """Images that owe the storing stage a step, longest waiting first, without the rows in `skip`."""
        return self._images(TO_STORE, _listed(skip), limit)

    def spool_files(self) -> set[str]:
        """Files in the spool that a row still needs."""
        return {file for (file,) in self._rows(SPOOL_FILES)}

    def to_file(self, limit: int) -> list[str]:
        """Ended jobs whose result file is missing or tells something old."""
        return [job for (job,) in self._rows(TO_FILE, limit)]

    def result_version(self, job_id: str) -> int:
        """A number that grows with every step of the job's images; read it before the result."""
        return int(self._rows("SELECT version FROM jobs WHERE id = ?", job_id)[0][0])

    def ended_at(self, job_id: str) -> tuple[str, int] | None:
        """The file's name and the moment of the end, of a job with nothing left to do or to file; else None."""
        return next(iter(self._rows(ENDED_AT, job_id)), None)

    def owners_to_adopt(self) -> list[OwnerToAdopt]:
        """Owners whose jobs wait until the store was listed once under their folder."""
        return [OwnerToAdopt(owner, naming.slugify(owner)) for (owner,) in self._rows(OWNERS_TO_ADOPT)]

    def unnumbered(self, owner: str) -> list[str]:
        """Jobs of an owner that wait for the listing of the store, in arrival order."""
        return [job for (job,) in self._rows(UNNUMBERED, owner)]

    # -- what orders, and whoever accepts, ask

    def knows(self, job_id: str) -> bool:
        """Tell whether a job of this id was ever accepted."""
        return bool(self.known_among([job_id]))

    def known_among(self, job_ids: Collection[str]) -> set[str]:
        """Name those of some jobs that were ever accepted."""
        return {job for (job,) in self._rows(KNOWN_AMONG, _listed(job_ids))}

    def job_ended(self, job_id: str) -> bool:
        """Tell whether nothing of a known job is left to do, images being made again aside."""
        return bool(self._rows("SELECT 1 FROM jobs WHERE id = ? AND status IN ('done', 'cancelled')", job_id))

    def jobs_labelled(self, label: str) -> list[str]:
        """Jobs that carry a label, in arrival order, ended ones included."""
        return [job for (job,) in self._rows(LABELLED, label)]

    def image(self, row: int) -> Image:
        """Read an image by its row.

        Raises:
            IllegalStep: there is no such row.
        """
        found = self._images(f"{SELECT_IMAGE} WHERE images.id = ?", row)
        if not found:
            raise IllegalStep(f"{self._path}: there is no image row {row}")
        return found[0]

    def image_by_number(self, character_id: str, number: int) -> Image | None:
        """Read an image by what people call it."""
        sql = f"{SELECT_IMAGE} WHERE characters.id = ? AND images.number = ?"
        return next(iter(self._images(sql, character_id, number)), None)

    def images_where(
        self,
        *,
        job_id: str | None = None,
        character_id: str | None = None,
        label: str | None = None,
        states: Collection[State] = (),
        after_row: int = 0,
        limit: int = 1_000,
    ) -> list[Image]:
        """Images for a command to act on, in row order, a page at a time."""
        sql, values = _where(job_id, character_id, label, states)
        return self._images(sql, *values, after_row, limit)

    def owner_of(self, character_id: str) -> str | None:
        """Tell whose a character is; None: there is no such character."""
        sql = "SELECT owners.id FROM characters JOIN owners ON owners.row = characters.owner WHERE characters.id = ?"
        return next((owner for (owner,) in self._rows(sql, character_id)), None)

    def has_folder(self, owner: str) -> bool:
        """Tell whether the store was listed for an owner, so that numbers can be given out."""
        return bool(self._rows("SELECT 1 FROM owners WHERE id = ? AND slug IS NOT NULL", owner))

    def owner_slug_taken(self, slug: str) -> bool:
        """Tell whether a folder belongs to some owner already."""
        return bool(self._rows("SELECT 1 FROM owners WHERE slug = ?", slug))

    def folder_choices(self, owner: str) -> Iterator[str]:
        """Folders that an owner may have, best first, without end: `alice`, `alice-2` … as far as no owner has them."""
        candidates = (naming.with_suffix(naming.slugify(owner), n) for n in count(1))
        return (slug for slug in candidates if not self.owner_slug_taken(slug))

    def pauses(self) -> list[Paused]:
        """What people have paused."""
        return [Paused(kind, name) for kind, name in self._rows(PAUSES)]

    # -- inside

    def _rows(self, sql: str, *values: Value) -> list[Any]:
        try:
            return self._reading.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise trouble.in_words(self._path, error) from error

    def _images(self, sql: str, *values: Value) -> list[Image]:
        return [self._reader.image(row) for row in self._rows(sql, *values)]


def _turns(rows: Iterable[Row]) -> list[Turn]:
    """Make Turns of rows of TURNS."""
    return [
        Turn(job_id, priority, tuple(json.loads(backends)), stagger, planned, last_start)
        for job_id, priority, backends, stagger, planned, last_start in rows
    ]


def _where(
    job_id: str | None, character_id: str | None, label: str | None, states: Collection[State]
) -> tuple[str, Sequence[str]]:
    """The query of `images_where` and its values, but for the last two: the row to go on after, the limit."""
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


def _listed(names: Collection[str | int]) -> str:
    """Names or rows as one value, for `json_each`."""
    return orjson.dumps(list(names)).decode()
