"""Read-only connections: one a thread, opened anew where the file was replaced."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import finalize

from pipeline.errors import IndexTrouble
from pipeline.tools.sqlite import open_read_only

BUSY_MS = 5_000
_REMEDY = "put a backup in its place, or move it away and run `pipeline reindex`"


class Snapshots:
    """Hands out snapshots of the index; writers go on meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mine = threading.local()

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Several queries that see the same moment; keep it short, nested ones share it.

        Raises:
            IndexTrouble: the file is missing, unreadable, damaged, or no index.
        """
        connection = self._connection()
        nested = connection.in_transaction
        try:
            if not nested:
                connection.execute("BEGIN")
            yield connection
        except sqlite3.Error as error:
            raise IndexTrouble(f"{self.path}: cannot be read ({error}); {_REMEDY}") from error
        finally:
            if not nested and connection.in_transaction:
                connection.execute("ROLLBACK")

    def version(self) -> int:
        """A number that changes with every commit, also when the file is replaced; it means nothing else."""
        connection = self._connection()
        try:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            raise IndexTrouble(f"{self.path}: cannot be read ({error}); put a backup in its place") from error
        return int(self._mine.opened << 32) + int(version)

    def close(self) -> None:
        """Close this thread's connection."""
        self._mine.held = None

    def _connection(self) -> sqlite3.Connection:
        try:
            inode = self.path.stat().st_ino
        except OSError as error:
            self.close()
            raise IndexTrouble(
                f"{self.path}: there is no index ({error.strerror}); `pipeline run` makes one, "
                "`pipeline reindex` brings back a lost one"
            ) from error
        known: _Held | None = getattr(self._mine, "held", None)
        if known is not None and known.inode == inode:
            return known.connection
        self.close()
        try:
            # Not for one thread alone: whoever clears up after a thread closes its connection.
            opened = open_read_only(self.path, busy_ms=BUSY_MS, one_thread=False)
        except sqlite3.Error as error:
            unopened = isinstance(error, sqlite3.OperationalError)  # else it was, and is no index
            remedy = "see that its disk has room, and that this user may write beside it" if unopened else _REMEDY
            raise IndexTrouble(f"{self.path}: cannot be opened ({error}); {remedy}") from error
        self._mine.held = _Held(opened, inode)
        self._mine.opened = getattr(self._mine, "opened", 0) + 1
        return opened


class _Held:
    """A thread's connection, closed when the thread ends or whoever asked goes, whichever comes first."""

    def __init__(self, connection: sqlite3.Connection, inode: int) -> None:
        self.connection = connection
        self.inode = inode
        # Not `__del__`: where both are garbage of one search, the connection may go first, and Python 3.13 warns of that.
        finalize(self, connection.close).atexit = False
