"""A copy of the index as it is at one moment, whatever its writer commits meanwhile."""

import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.errors import IndexTrouble
from pipeline.ledger.opening import open_for_reading
from pipeline.ledger.schema import APPLICATION_ID


def copy_index(index: Path, draft: Path) -> None:
    """Copy the index as it is at one moment into `draft`, one file without a write-ahead log.

    Raises:
        IndexTrouble: the index is missing, damaged, or none of ours.
    """
    if not index.is_file():
        raise IndexTrouble(f"{index}: there is no index to back up; is this the right configuration?")
    try:
        with closing(open_for_reading(index)) as source, closing(sqlite3.connect(draft)) as copy:
            if source.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise IndexTrouble(f"{index}: is another program's database; nothing was copied")
            source.backup(copy)  # in one step: a snapshot, whatever the daemon commits meanwhile
            copy.execute("PRAGMA journal_mode = DELETE")
            verdict = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise IndexTrouble(f"{index}: is damaged ({verdict}), so its copy would be; see docs/backup.md")
    except sqlite3.Error as error:
        raise IndexTrouble(
            f"{index}: cannot be copied ({error}); see `pipeline verify`, and that there is room"
        ) from error
