"""One daemon at a time: an advisory lock on a folder, with the holder's name inside for the next one to read.

The lock is the kernel's (`flock`): it ends with its process, whatever the file says. So a file left over from a
crash is harmless, and the file itself is never deleted (deleting it would let two processes hold two files).
"""

import contextlib
import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import NamedTuple

import orjson

from pipeline.errors import ConfigError, HeldElsewhere
from pipeline.tools.files import make_folder

LOCK_NAME = ".pipeline.lock"
_PLATE = 4096  # bytes
_TROUBLE = 600  # characters, of at most six bytes each
_TRIES = 5
_BETWEEN_TRIES = 0.01  # seconds
_BETWEEN_LOOKS = 0.05  # seconds, while a command is waited for


class Holder(NamedTuple):
    """Who holds a folder."""

    pid: int
    process: str
    since: str  # RFC 3339
    trouble: str = ""  # what it has trouble with
    brief: bool = False  # it is a command, which lets go by itself


class Plate:
    """The words in the lock file of whoever holds it.

    They always fill the same bytes, so new words can be said while the disk is full and the index can say nothing.
    """

    def __init__(self, lock: int, process: str, *, brief: bool) -> None:
        self._lock = lock
        self._process = process
        self._brief = brief
        self._said: str | None = None
        self._since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    def say(self, trouble: str) -> None:
        """Tell whoever looks what there is trouble with; empty: nothing."""
        if trouble == self._said:
            return
        self._said = trouble
        told = {"pid": os.getpid(), "process": self._process[:80], "since": self._since, "brief": self._brief}
        told["trouble"] = trouble[:_TROUBLE]
        # A full disk must not keep the daemon from starting: the lock holds without the words.
        with contextlib.suppress(OSError):
            os.pwrite(self._lock, orjson.dumps(told).ljust(_PLATE - 1)[: _PLATE - 1] + b"\n", 0)
            os.ftruncate(self._lock, _PLATE)


def holder(folder: Path, name: str = LOCK_NAME) -> Holder | None:
    """Tell who holds a folder at this moment; None: nobody, or the folder is not there."""
    try:
        lock = os.open(folder / name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _signature(lock) or Holder(0, "another process", "")
    finally:
        os.close(lock)
    return None


@contextlib.contextmanager
def hold(
    folder: Path, name: str = LOCK_NAME, *, process: str | None = None, brief: bool = False, patience: float = 0.0
) -> Iterator["Plate"]:
    """Hold a folder against every other process (and every other holder in this one) while the block runs.

    Args:
        folder: made where it is missing.
        name: the lock file's name in it.
        process: what the next one is told about the holder; default: the command as it was called, without arguments
            that might hold a secret.
        brief: whether this holder is a command that lets go by itself.
        patience: seconds that such a command is waited for.

    Raises:
        HeldElsewhere: another process has it; the message names it.
        ConfigError: the lock file cannot be made there.
    """
    path = folder / name
    lock = _open(folder, path)
    try:
        _lock(folder, path, lock, patience)
        plate = Plate(lock, process or _own_command(), brief=brief)
        plate.say("")
        yield plate
    finally:
        os.close(lock)  # this also lets go; the words stay and are overwritten by the next holder


def _lock(folder: Path, path: Path, lock: int, patience: float) -> None:
    """Take the lock; tried for a moment, since somebody may just be asking who holds it."""
    deadline = time.monotonic() + patience
    for tries in count(1):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise ConfigError(f"{path}: cannot be locked ({error.strerror}); use a local folder") from error
            if tries >= _TRIES and not (time.monotonic() < deadline and _lets_go(lock)):
                raise HeldElsewhere(_told(folder, lock)) from error
            time.sleep(_BETWEEN_TRIES if tries < _TRIES else _BETWEEN_LOOKS)
        else:
            return


def _lets_go(lock: int) -> bool:
    said = _signature(lock)
    return said is not None and said.brief


def _open(folder: Path, path: Path) -> int:
    try:
        make_folder(folder)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise ConfigError(
            f"{path}: the lock file cannot be opened ({error.strerror}); "
            "the folder must be a directory that this user may write to"
        ) from error


def _own_command() -> str:
    words = [Path(sys.argv[0] or "pipeline").name.replace("__main__.py", "pipeline"), *sys.argv[1:2]]
    return " ".join(word for word in words if not word.startswith("-"))


def _told(folder: Path, lock: int) -> str:
    remedy = "stop it, or use another folder"
    told = _signature(lock)
    if told is None:
        return f"{folder} is held by another process that has not said its name; {remedy}"
    return f"{folder} is held by process {told.pid} ({told.process}) since {told.since}; {remedy}"


def _signature(lock: int) -> Holder | None:
    try:
        said = orjson.loads(os.pread(lock, _PLATE, 0))
        words = (str(said["process"])[:80], str(said["since"])[:40], str(said.get("trouble", "")))
        return Holder(int(said["pid"]), *words, brief=said.get("brief") is True)
    except (ValueError, KeyError, TypeError):
        return None
