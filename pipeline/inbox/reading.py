"""Reading a dropped file once its writer is done with it: never more than a job may hold, never waiting for anybody.

A read lease (`fcntl(2)`, F_SETLEASE) is refused with EAGAIN while any process has the file open for writing: an
exact answer, where it is to be had (Linux, local file systems, own files or CAP_LEASE). It is held while the file is
read, so no writer comes in between. A writer that opens the file meanwhile waits until we close it, and the kernel
signals us: by default with SIGIO, which would end the process, so the lease asks for SIGURG, which nobody has to
handle.
"""

import errno
import fcntl
import os
import signal
import stat
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from pipeline.model import LARGEST_FILE

_MOST = LARGEST_FILE + 1  # bytes: one too many, so that the parser sees that it is too large
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_GONE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENOTDIR, errno.EISDIR})


class Stamp(NamedTuple):
    """What stays equal as long as nobody has written to a file or put another one in its place."""

    size: int
    mtime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Take the stamp from a `stat` answer."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


class Left(Enum):
    """Why a file was not read, where waiting is all there is to do."""

    GONE = "gone"  # vanished, or something other than a regular file stands there now
    OPEN = "open"  # a process has it open for writing


@dataclass(frozen=True, slots=True)
class Reading:
    """A whole file as it was at one moment."""

    data: bytes
    stamp: Stamp
    sure: bool  # no process had it open for writing


def read(path: str, *, leases: bool) -> Reading | Left:
    """Read a file whole, up to one byte more than a job may have.

    Raises:
        OSError: it is there and cannot be read (permissions, a broken disk, no file descriptors left).
    """
    try:
        file = os.open(path, _OPEN)
    except OSError as error:
        if error.errno in _GONE:
            return Left.GONE
        raise
    try:
        return _read_open(file, leases=leases)
    finally:
        os.close(file)


def _read_open(file: int, *, leases: bool) -> Reading | Left:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        return Left.GONE
    written = _ask_for_writers(file) if leases else None
    if written:
        return Left.OPEN
    before, size = Stamp.of(status), min(status.st_size, _MOST)
    data = _read_bytes(file, size)
    if Stamp.of(os.fstat(file)) != before or len(data) != size:
        return Left.OPEN
    return Reading(data, before, sure=written is False)


def _ask_for_writers(file: int) -> bool | None:
    """Tell whether a process has the file open for writing; None where the system does not tell."""
    try:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    except AttributeError:  # not Linux
        return None
    return False


def _read_bytes(file: int, most: int) -> bytes:
    parts: list[bytes] = []
    while most and (part := os.read(file, most)):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)
