"""Grouped commits: while one commit is under way, all writes that arrive wait together and share the next one."""

import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import trio

from pipeline.errors import IndexTrouble
from pipeline.ledger import trouble
from pipeline.ledger.transaction import Transaction, begin, database_failed
from pipeline.tools.threads import RunSync

T = TypeVar("T")


class _Entry(Generic[T]):
    """One write: its work, then its result or its error."""

    __slots__ = ("error", "finished", "leads", "taken", "value", "wake", "work")

    def __init__(self, work: Callable[[Transaction], T]) -> None:
        self.work = work
        self.wake = trio.Event()  # finished, or promoted to lead the next commit
        self.taken = False
        self.leads = False
        self.finished = False
        self.value: T | None = None
        self.error: Exception | None = None


class Writer:
    """Runs functions on the one writing connection, several in a transaction, of which none spoils another."""

    def __init__(self, connection: sqlite3.Connection, path: Path, run_sync: RunSync) -> None:
        self._connection = connection
        self._path = path
        self._run_sync = run_sync
        self._inode = path.stat().st_ino
        self._waiting: deque[_Entry[Any]] = deque()
        self._busy = False

    async def do(self, work: Callable[[Transaction], T]) -> T:
        """Return what `work(transaction)` returns, once it is on disk.

        It may be called twice, the first time for nothing, and does nothing but write to the transaction.

        A cancelled caller whose write no commit has taken yet leaves nothing behind; one that was taken is carried
        to its end, and the result is returned.

        Raises:
            IndexTrouble: nothing was written, neither this nor what shared the commit.
            Exception: what `work` raised; its own writes are undone, those that shared the commit stand.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        entry = _Entry(work)
        self._waiting.append(entry)
        if self._busy:
            await self._wait(entry)
        if not entry.finished:
            self._busy = True
            with trio.CancelScope(shield=True):
                await self._lead()
        if entry.error is not None:
            raise entry.error
        return entry.value  # type: ignore[return-value]  # set together with `finished`

    async def _wait(self, entry: _Entry[Any]) -> None:
        try:
            await entry.wake.wait()
        except trio.Cancelled:
            if not entry.taken:
                self._waiting.remove(entry)
                if entry.leads:
                    self._promote()
                raise
            # As with a thread that cannot be abandoned: what happens anyway is waited for and told.
            with trio.CancelScope(shield=True):
                await entry.wake.wait()

    async def _lead(self) -> None:
        batch = list(self._waiting)
        self._waiting.clear()
        for entry in batch:
            entry.taken = True
        try:
            await self._run_sync(self._commit, batch)
        except BaseException as error:
            for entry in batch:
                entry.error = IndexTrouble(f"{self._path}: the write was given up ({error!r}); look at the log")
            raise
        finally:
            for entry in batch:
                entry.finished = True
                entry.wake.set()
            self._promote()

    def _promote(self) -> None:
        """Let the longest waiting write lead the next commit."""
        self._busy = bool(self._waiting)
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].wake.set()

    def _commit(self, batch: list[_Entry[Any]]) -> None:
        try:
            self._still_ours()
            try:
                with begin(self._connection) as transaction:
                    for entry in batch:
                        entry.value = entry.work(transaction)
            except Exception as error:
                if database_failed(error):
                    raise
                # Somebody's write failed. That is rare, so only now all is begun anew with a savepoint for each.
                with begin(self._connection) as transaction:
                    for entry in batch:
                        self._apart(transaction, entry)
        except Exception as error:  # noqa: BLE001  # whatever it is, every caller is told
            for entry in batch:
                entry.error = self._told(error)

    def _apart(self, transaction: Transaction, entry: _Entry[Any]) -> None:
        """Do one write; what spoils only this one is kept for its caller, what spoils the transaction is raised."""
        try:
            with transaction.savepoint():
                entry.value = entry.work(transaction)
        except Exception as error:
            if transaction.spoilt_by(error):
                raise
            entry.error = error

    def _told(self, error: Exception) -> IndexTrouble:
        """A fresh exception for each caller, since each adds its own traceback."""
        told = trouble.in_words(self._path, error) if isinstance(error, sqlite3.Error) else IndexTrouble(str(error))
        told.__cause__ = error
        return told

    def _still_ours(self) -> None:
        try:
            inode = self._path.stat().st_ino
        except OSError:
            inode = -1
        if inode != self._inode:
            raise IndexTrouble(
                f"{self._path}: was deleted or replaced while in use; end this process, "
                "put the file or a backup back (or run `pipeline reindex`), and start again"
            )
