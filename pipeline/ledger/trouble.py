"""What SQLite says, as a sentence that names the file and the remedy."""

import sqlite3
from pathlib import Path

from pipeline.errors import IndexTrouble

_REMEDIES = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space; work goes on by itself"),
    sqlite3.SQLITE_READONLY: ("it is read-only", "make the file and its folder writable for this user"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "see that its folder exists and is writable for this user"),
    sqlite3.SQLITE_PERM: ("access is denied", "make the file and its folder writable for this user"),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", "put a backup in its place, or move it away and run `pipeline reindex`"),
    sqlite3.SQLITE_NOTADB: ("it is no index", "put a backup in its place, or move it away and run `pipeline reindex`"),
    sqlite3.SQLITE_BUSY: ("another process keeps it locked", "end the program that has the file open for writing"),
    sqlite3.SQLITE_IOERR: ("the disk refuses to read or write it", "look at the disk; work goes on by itself"),
}


def in_words(path: Path, error: sqlite3.Error) -> IndexTrouble:
    """Say what is wrong with the index at `path` and what mends it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    what, remedy = _REMEDIES.get(code, ("it cannot be used", "run `pipeline verify`"))
    return IndexTrouble(f"{path}: {what} ({error}); {remedy}")
