"""The ledger's one door: whoever wants to know what is due, or to record what happened, asks this class."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import orjson
import trio

from pipeline import clock as wall
from pipeline import naming, threads
from pipeline.errors import IllegalStep
from pipeline.ledger import due, steering, trouble
from pipeline.ledger.adopting import adopt
from pipeline.ledger.intake import accept
from pipeline.ledger.notes import Notes
from pipeline.ledger.opening import open_for_reading, open_for_writing
from pipeline.ledger.outbox import Outbox
from pipeline.ledger.rows import SELECT_IMAGE, Reader
from pipeline.ledger.steps import record
from pipeline.ledger.taking_over import Newcomer, take_over
from pipeline.ledger.values import OwnerToAdopt, Pause, Turn, Verdict
from pipeline.ledger.writer import Writer
from pipeline.lifecycle import Event, advance
from pipeline.model import Asset, Image, Job, State, Stored
from pipeline.threads import RunSync

T = TypeVar("T")
Value = str | int | None

CHARACTERS_KNOWN = 1_000  # whose latest moments are remembered at most


@asynccontextmanager
async def open_ledger(
    path: Path, *, clock: wall.Clock = wall.now, run_sync: RunSync = threads.run_sync
) -> AsyncIterator["Ledger"]:
    """Open the index for writing, made or migrated as needed; one process at a time does so.

    Raises:
        IndexTrouble: it cannot be used; the message names the file and the remedy.
    """
    connection = await run_sync(open_for_writing, path)
    try:
        reading = open_for_reading(path)
        try:
            yield Ledger(Writer(connection, path, run_sync), reading, path, clock)
        finally:
            reading.close()
    finally:
        with trio.CancelScope(shield=True):
            await run_sync(_close, connection)


def _close(connection: sqlite3.Connection) -> None:
    """Leave one file behind, and the statistics that keep queries quick; neither is worth an error."""
    try:
        connection.execute("PRAGMA analysis_limit = 400")
        connection.execute("PRAGMA optimize")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error:
        return
    finally:
        connection.close()


def _listed(names: Collection[str | int]) -> str:
    """Names or rows as one value, for `json_each`."""
    return orjson.dumps(list(names)).decode()


class Ledger:
    """The only writer of the index. Reads are inline and cost microseconds; writes return once they are on disk."""

    def __init__(self, writer: Writer, reading: sqlite3.Connection, path: Path, clock: wall.Clock) -> None:
        self._writer = writer
        self._reading = reading
        self._path = path
        self._clock = clock
        self._reader = Reader(self._rows)
        self._newest: dict[str, int] = {}  # the latest moment at which an image was stored, by character
        self.notes = Notes(writer, clock)
        self.outbox = Outbox(writer, self._rows)

    # -- intake and adoption

    async def accept(self, jobs: Sequence[Job]) -> list[Verdict]:
        """Take jobs in arrival order, in one transaction; a verdict each."""
        return await self._writer.do(lambda transaction: accept(transaction, jobs, self._clock()))

    def jobs_labelled(self, label: str) -> list[str]:
        """Jobs that carry a label, in arrival order, ended ones included."""
        return [job for (job,) in self._rows(due.LABELLED, label)]

    def job_ended(self, job_id: str) -> bool:
        """Tell whether nothing of a known job is left to do, images being made again aside."""
        return bool(self._rows("SELECT 1 FROM jobs WHERE id = ? AND status IN ('done', 'cancelled')", job_id))

    def ended_at(self, job_id: str) -> tuple[str, int] | None:
        """The file's name and the moment of the end, of a job with nothing left to do or to file; else None."""
        return next(iter(self._rows(due.ENDED_AT, job_id)), None)

    def knows(self, job_id: str) -> bool:
        """Tell whether a job of this id was ever accepted."""
        return bool(self.known_among([job_id]))

    def known_among(self, job_ids: Collection[str]) -> set[str]:
        """Name those of some jobs that were ever accepted."""
        return {job for (job,) in self._rows(due.KNOWN_AMONG, _listed(job_ids))}

    def owners_to_adopt(self) -> list[OwnerToAdopt]:
        """Owners whose jobs wait until the store was listed once under their folder."""
        return [OwnerToAdopt(owner, naming.slugify(owner)) for (owner,) in self._rows(due.OWNERS_TO_ADOPT)]

    def owner_slug_taken(self, slug: str) -> bool:
        """Tell whether a folder belongs to some owner already."""
        return bool(self._rows("SELECT 1 FROM owners WHERE slug = ?", slug))

    def has_folder(self, owner: str) -> bool:
        """Tell whether the store was listed for an owner, so that numbers can be given out."""
        return bool(self._rows("SELECT 1 FROM owners WHERE id = ? AND slug IS NOT NULL", owner))

    def owner_of(self, character_id: str) -> str | None:
        """Tell whose a character is; None: there is no such character."""
        sql = "SELECT owners.id FROM characters JOIN owners ON owners.row = characters.owner WHERE characters.id = ?"
        return next((owner for (owner,) in self._rows(sql, character_id)), None)

    def folder_choices(self, owner: str) -> Iterator[str]:
        """Folders that an owner may have, best first, without end: `alice`, `alice-2` … as far as no owner has them."""
        candidates = (naming.with_suffix(naming.slugify(owner), n) for n in count(1))
        return (slug for slug in candidates if not self.owner_slug_taken(slug))

    async def adopt(self, owner: str, slug: str, assets: Sequence[Asset]) -> None:
        """Fix an owner's folder with what the store's listing found in it, and number the waiting jobs.

        Raises:
            IllegalStep: the owner has a folder already, or the folder another owner.
        """
        await self._writer.do(lambda transaction: adopt(transaction, owner, slug, assets, self._clock()))
        self._newest.clear()

    async def take_over(self, newcomer: Newcomer, found: Sequence[Stored]) -> list[int]:
        """Give a character images that stand elsewhere in the store the next numbers, in the order given.

        Those that the index knows already are left out, so it may be repeated. The character is made at first sight.

        Returns:
            The numbers that were given out.

        Raises:
            NotTaken: the character belongs to another owner.
            IllegalStep: the owner's folder was never listed.
        """
        numbers = await self._writer.do(lambda transaction: take_over(transaction, newcomer, found, self._clock()))
        self._newest.clear()
        return numbers

    # -- what is due

    def turns(self) -> list[Turn]:
        """All jobs with planned images, in arrival order."""
        return due.turns(self._rows(due.TURNS))

    def turns_among(self, job_ids: Collection[str]) -> list[Turn]:
        """The turns of those of some jobs that have planned images, in arrival order."""
        return due.turns(self._rows(due.TURNS_AMONG, _listed(job_ids)))

    def turn(self, job_id: str) -> Turn | None:
        """One job's turn; None where it has no planned image."""
        return next(iter(self.turns_among([job_id])), None)

    def turns_of(self, owner: str) -> list[Turn]:
        """The turns of one owner's jobs, in arrival order."""
        return due.turns(self._rows(due.TURNS_OF, owner))

    def unnumbered(self, owner: str) -> list[str]:
        """Jobs of an owner that wait for the listing of the store, in arrival order."""
        return [job for (job,) in self._rows(due.UNNUMBERED, owner)]

    def planned(self, job_id: str, limit: int, after_place: int = -1) -> list[Image]:
        """A job's planned images beyond `after_place`, in number order."""
        return self._images(due.PLANNED, job_id, after_place, limit)

    def at_backends(self) -> list[Image]:
        """What is, or may be, at a back end: nearest result deadline first, then what is unclear."""
        return self._images(due.AT_BACKENDS)

    def to_store(self, limit: int, skip: Collection[int] = ()) -> list[Image]:
        """Images that owe the storing stage a step, longest waiting first, without the rows in `skip`."""
        return self._images(due.TO_STORE, _listed(skip), limit)

    def to_file(self, limit: int) -> list[str]:
        """Ended jobs whose result file is missing or tells something old."""
        return [job for (job,) in self._rows(due.TO_FILE, limit)]

    def result_version(self, job_id: str) -> int:
        """A number that grows with every step of the job's images; read it before the result."""
        return int(self._rows("SELECT version FROM jobs WHERE id = ?", job_id)[0][0])

    async def filed(self, job_id: str, version: int | None = None) -> None:
        """The result file tells what the index told, at `version` where it is given: a later step keeps it due."""
        await self._execute(
            "UPDATE jobs SET filed = 1 WHERE id = ?1 AND version = coalesce(?2, version)", job_id, version
        )

    def spool_files(self) -> set[str]:
        """Files in the spool that a row still needs."""
        return {file for (file,) in self._rows(due.SPOOL_FILES)}

    # -- the law

    async def record(self, image: Image, event: Event) -> Image:
        """Write what happened to an image, and return it as it is now.

        Raises:
            IllegalStep: the image's state does not allow this event.
            StaleImage: the row has moved on since `image` was read.
            RepeatedOutput: another image of the job has the pixels just fetched; nothing is written.
            IndexTrouble: nothing is written.
        """
        after = advance(image, event)
        written = await self._writer.do(lambda transaction: record(transaction, image, after, event, self._clock()))
        if image.created_at is None and written.created_at is not None:
            self._remember_newest(image.character_id, written.created_at)
        return written

    def stored_moment(self, image: Image) -> int:
        """The `created_at` that an image gets if it is stored now, for stores that keep it beside the bytes."""
        if image.created_at is not None:
            return image.created_at
        if image.character_id not in self._newest:
            ((newest,),) = self._rows("SELECT newest_at FROM characters WHERE id = ?", image.character_id)
            self._remember_newest(image.character_id, newest)
        return max(self._newest[image.character_id], self._clock())

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

    def images_of(self, job_id: str) -> list[Image]:
        """All images of a job in number order; none while it is not numbered."""
        return self._images(due.OF_JOB, job_id)

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
        sql, values = due.where(job_id, character_id, label, states)
        return self._images(sql, *values, after_row, limit)

    # -- what people decide

    async def favorite(self, image: Image, *, chosen: bool) -> None:
        """Set or clear an image's favourite mark."""
        await self._writer.do(lambda transaction: steering.favorite(transaction, image.row, chosen=chosen))

    def pauses(self) -> list[Pause]:
        """What people have paused."""
        return [Pause(kind, name) for kind, name in self._rows(steering.PAUSES)]

    async def pause(self, what: Pause) -> bool:
        """Keep a pause, for the next start as well; false where it was paused already."""
        return await self._writer.do(lambda transaction: steering.pause(transaction, what, self._clock()))

    async def resume(self, what: Pause) -> bool:
        """Forget a pause; false where there was none."""
        return await self._writer.do(lambda transaction: steering.resume(transaction, what))

    async def withdraw(self, job_id: str) -> bool:
        """Cancel a job that was never numbered; false where it has numbers, so its images are to be cancelled."""
        return await self._writer.do(lambda transaction: steering.withdraw(transaction, job_id, self._clock()))

    # -- inside

    def _remember_newest(self, character_id: str, moment: int) -> None:
        """Remember the latest moment of a character, so that it need not be read for each image."""
        if len(self._newest) >= CHARACTERS_KNOWN:
            self._newest.clear()
        self._newest[character_id] = max(moment, self._newest.get(character_id, 0))

    async def _execute(self, sql: str, *values: Value) -> None:
        await self._writer.do(lambda transaction: transaction.execute(sql, values))

    def _rows(self, sql: str, *values: Value) -> list[Any]:
        return self._guarded(lambda: self._reading.execute(sql, values).fetchall())

    def _images(self, sql: str, *values: Value) -> list[Image]:
        return [self._reader.image(row) for row in self._rows(sql, *values)]

    def _guarded(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except sqlite3.Error as error:
            raise trouble.in_words(self._path, error) from error
