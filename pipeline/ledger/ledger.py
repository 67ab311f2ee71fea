"""The ledger's one door: whoever wants to know what is due, or to record what happened, comes to this class."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import trio

from pipeline.ledger import steering, trouble
from pipeline.ledger.adopting import adopt
from pipeline.ledger.intake import accept
from pipeline.ledger.notes import Notes
from pipeline.ledger.opening import open_for_reading, open_for_writing
from pipeline.ledger.outbox import Outbox
from pipeline.ledger.questions import Questions
from pipeline.ledger.steps import record
from pipeline.ledger.taking_over import Newcomer, take_over
from pipeline.ledger.values import Verdict
from pipeline.ledger.writer import Writer
from pipeline.lifecycle import Event, advance
from pipeline.model import Asset, Image, Job, Paused, Stored
from pipeline.tools import clock as wall
from pipeline.tools import threads
from pipeline.tools.threads import RunSync

CHARACTERS_KNOWN = 1_000  # whose latest moments are remembered at most
_FILED = "UPDATE jobs SET filed = 1 WHERE id = ? AND version = coalesce(?, version)"


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
        with closing(_reading(path)) as reading:
            yield Ledger(Writer(connection, path, run_sync), reading, path, clock)
    finally:
        with trio.CancelScope(shield=True):
            await run_sync(_close, connection)


def _reading(path: Path) -> sqlite3.Connection:
    try:
        return open_for_reading(path)
    except sqlite3.Error as error:
        raise trouble.in_words(path, error) from error


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


class Ledger(Questions):
    """The only writer of the index, which answers questions too. Writes return once they are on disk.

    Besides what each says, all methods raise IndexTrouble where nothing could be written.
    """

    def __init__(self, writer: Writer, reading: sqlite3.Connection, path: Path, clock: wall.Clock) -> None:
        super().__init__(reading, path)
        self._writer = writer
        self._clock = clock
        self._newest: dict[str, int] = {}  # the latest moment at which an image was stored, by character
        self.notes = Notes(writer, clock)
        self.outbox = Outbox(writer, self._rows)

    async def accept(self, jobs: Sequence[Job]) -> list[Verdict]:
        """Take jobs in arrival order, in one transaction; a verdict each."""
        return await self._writer.do(lambda transaction: accept(transaction, jobs, self._clock()))

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

    async def filed(self, job_id: str, version: int | None = None) -> None:
        """The result file tells what the index told, at `version` where it is given: a later step keeps it due."""
        await self._writer.do(lambda transaction: transaction.execute(_FILED, (job_id, version)))

    async def favorite(self, image: Image, *, chosen: bool) -> None:
        """Set or clear an image's favourite mark."""
        await self._writer.do(lambda transaction: steering.favorite(transaction, image.row, chosen=chosen))

    async def pause(self, what: Paused) -> bool:
        """Keep a pause, for the next start as well; false where it was paused already."""
        return await self._writer.do(lambda transaction: steering.pause(transaction, what, self._clock()))

    async def resume(self, what: Paused) -> bool:
        """Forget a pause; false where there was none."""
        return await self._writer.do(lambda transaction: steering.resume(transaction, what))

    async def withdraw(self, job_id: str) -> bool:
        """Cancel a job that was never numbered; false where it has numbers, so its images are to be cancelled."""
        return await self._writer.do(lambda transaction: steering.withdraw(transaction, job_id, self._clock()))

    def _remember_newest(self, character_id: str, moment: int) -> None:
        """Remember the latest moment of a character, so that it need not be read for each image."""
        if len(self._newest) >= CHARACTERS_KNOWN:
            self._newest.clear()
        self._newest[character_id] = max(moment, self._newest.get(character_id, 0))
