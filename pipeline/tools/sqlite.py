"""How an SQLite file is opened to be read; what is asked of it, `ledger/` and `catalogue/` know."""

import sqlite3
from pathlib import Path

CACHE_KIB = 16_384  # of pages that a connection keeps


def open_read_only(path: Path, *, busy_ms: int, one_thread: bool = True) -> sqlite3.Connection:
    """Return a connection that cannot write, beside whoever does.

    Args:
        path: of a file that is there.
        busy_ms: how long it waits where another process holds the file.
        one_thread: whether other threads are refused.

    Raises:
        sqlite3.Error: it cannot be opened, or is no database; nothing is left open.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        cached_statements=256,
        check_same_thread=one_thread,
    )
    try:
        connection.execute(f"PRAGMA busy_timeout = {busy_ms}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
