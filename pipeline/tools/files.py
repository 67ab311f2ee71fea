"""Writing that survives a power cut, and renaming that never replaces: the one place that knows how.

A file counts as written when its bytes are flushed, it has its final name, and the folder is flushed.
Temporary names begin with a dot and end in `.tmp`, so nothing that scans a folder takes them for finished.
"""

import contextlib
import ctypes
import errno
import os
import re
import secrets
from pathlib import Path

_AT_FDCWD = -100  # linux/fcntl.h
_RENAME_NOREPLACE = 1  # linux/fs.h
_NO_SUCH_RENAME = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}  # the kernel or the file system does not know it
_DRAFT = re.compile(r"\.[0-9a-f]{16}\.tmp")
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # glibc 2.28, musl 1.2.6


def write_durably(path: Path, data: bytes, *, replace: bool, mode: int = 0o666) -> None:
    """Write a whole file under its final name, or leave nothing of it to be seen.

    Args:
        path: the final name; its folder must exist.
        data: what the file will hold.
        replace: whether an earlier file of that name gives way, atomically.
        mode: permissions of the new file, before the umask; 0o600 for secrets.

    Raises:
        FileExistsError: something stands there and `replace` is false.
        OSError: disk full, read-only, folder missing; nothing half-written is left.
    """
    draft = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            draft.replace(path)
        else:
            move_exclusively(draft, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the first error is the one worth telling
            draft.unlink()
        if isinstance(error, OSError):  # what could not be written, whatever its draft was called
            error.filename, error.filename2 = os.fspath(path), None
        raise
    fsync_folder(path.parent)


def sweep_drafts(folder: Path) -> None:
    """Remove what a crash left half-written; only while nobody is writing there.

    Raises:
        OSError: the folder cannot be read, or a draft not removed; a missing folder holds none.
    """
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if _DRAFT.fullmatch(entry.name):
                Path(entry.path).unlink()


def rename_exclusive(src: Path, dst: Path) -> None:
    """Rename durably within one file system; an existing `dst`, a dangling link included, is never replaced.

    Raises:
        FileExistsError: something stands at `dst`; `src` is still where it was.
        FileNotFoundError: `src` has vanished.
        OSError: whatever else the file system says.
    """
    move_exclusively(src, dst)
    fsync_folder(dst.parent)
    if src.parent != dst.parent:
        fsync_folder(src.parent)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make_folder(path: Path, *, mode: int = 0o777) -> None:
    """Create a folder and its parents durably; one that exists already is left as it is."""
    if path.is_dir():
        return
    make_folder(path.parent, mode=mode)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=mode)
        fsync_folder(path.parent)


def move_exclusively(src: Path | str, dst: Path | str) -> None:
    """Rename in one step that fails where something stands at `dst`; the folders are left for the caller to flush.

    A second link and an unlink would leave both names after a crash in between, and a job file found under two
    names would be two jobs. Where the system has no such rename, an empty file reserves the name first.
    """
    if _renameat2 is not None:
        if _renameat2(_AT_FDCWD, os.fsencode(src), _AT_FDCWD, os.fsencode(dst), _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in _NO_SUCH_RENAME:
            raise OSError(code, os.strerror(code), str(src), None, str(dst))
    _reserve_and_rename(Path(src), Path(dst))


def _reserve_and_rename(src: Path, dst: Path) -> None:
    src.lstat()  # a vanished source must not leave a reservation behind
    os.close(os.open(dst, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW))
    src.replace(dst)
