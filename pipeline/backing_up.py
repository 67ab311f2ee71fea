"""`pipeline backup`: one consistent copy of the index, also while the daemon writes to it."""

import os
import secrets
from pathlib import Path

from pipeline.errors import UserError
from pipeline.ledger.copying import copy_index
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
        file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            copy_index(index, draft)
            os.fsync(file)
            move_exclusively(draft, target)
        finally:
            os.close(file)
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
