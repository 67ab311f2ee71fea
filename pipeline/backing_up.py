"""`pipeline backup`: one consistent copy of the index, also while the daemon writes to it."""

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.errors import IndexTrouble, UserError
from pipeline.ledger.opening import open_for_reading
from pipeline.ledger.schema import APPLICATION_ID
from pipeline.tools.files import fsync_folder, move_exclusively


class NotBackedUp(UserError):
    """The copy cannot be made there; nothing was written."""


def back_up(index: Path, target: Path) -> int:
    """Copy the index as it is at one moment into a new file, readable by its owner alone; return its bytes.

    The copy is one file without a write-ahead log, checked before it gets its name, and on the disk when this returns.

    Raises:
        NotBackedUp: something stands at `target`, or its folder cannot be written.
        IndexTrouble: the index is missing, damaged, or none of ours.
    """
    if os.path.lexists(target):
        raise _in_the_way(target)
    draft = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            _copy(index, draft)
            _flush(draft)
            move_exclusively(draft, target)
        finally:
            draft.unlink(missing_ok=True)
        fsync_folder(target.parent)
        return target.stat().st_size
    except FileExistsError:
        raise _in_the_way(target) from None
    except OSError as error:
        raise NotBackedUp(
            f"{target}: cannot be written ({error.strerror}); make the folder, or room in it, or choose another"
        ) from error


def _in_the_way(target: Path) -> NotBackedUp:
    return NotBackedUp(f"{target} is there already and is not replaced; name a new file")


def _copy(index: Path, draft: Path) -> None:
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


def _flush(path: Path) -> None:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
