"""The folders of a person's jobs, and the few operations by which files move between them."""

import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from watchdog.observers.api import BaseObserver

from pipeline.inbox.names import first_free, numbered, split
from pipeline.inbox.watching import make_observer
from pipeline.naming import EXTENSIONS
from pipeline.tools.files import fsync_folder, make_folder, move_exclusively, write_durably

_ERROR = ".error.txt"
_SUFFIX = len(_ERROR)  # bytes kept free, so that a file and its error text always get the same stem

# What ails the whole folder, not one file: the rest of the pass would meet it too.
EVERYWHERE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EXDEV}
)


def _write(path: Path, data: bytes) -> None:
    write_durably(path, data, replace=True)


@dataclass(frozen=True, slots=True)
class Disk:
    """What the inbox does to folders; one value, so that a test can compose a world that ends between any two steps."""

    make_folder: Callable[[Path], None] = make_folder
    # Not yet flushed: `flush` does that for many at once. Texts, since to make a Path costs a fifth of a rename.
    rename: Callable[[str, str], None] = move_exclusively
    flush: Callable[[Path], None] = fsync_folder
    write: Callable[[Path, bytes], None] = _write
    observer: Callable[[], BaseObserver] = make_observer
    leases: bool | None = None  # whether leases are believed; None: on file systems that no other machine writes to


@dataclass(frozen=True, slots=True)
class Folders:
    """`jobs/` and those of its folders that the inbox fills."""

    jobs: Path
    active: Path = field(init=False)
    rejected: Path = field(init=False)
    duplicate: Path = field(init=False)
    done: Path = field(init=False)

    def __post_init__(self) -> None:
        for name in ("active", "rejected", "duplicate", "done"):
            object.__setattr__(self, name, self.jobs / name)

    def make(self, disk: Disk) -> bool:
        """Make what is missing; true where `jobs` itself was."""
        missing = not self.jobs.is_dir()
        for folder in (self.jobs, self.active, self.rejected, self.duplicate, self.done):
            disk.make_folder(folder)
        return missing


def set_aside(disk: Disk, source: Path, folder: Path, name: str) -> Path:
    """Move a file into a folder under its name or the next free one; flushed.

    Raises:
        OSError: it stays where it is.
    """
    stem, extension = split(name)

    def place(n: int) -> Path:
        return folder / (numbered(stem, n, longest_suffix=_SUFFIX) + extension)

    target = _move(disk, source, place, lambda n: os.path.lexists(place(n)))
    _flush(disk, (folder, source.parent))
    return target


def reject(disk: Disk, source: Path, folder: Path, name: str, reason: str) -> Path:
    """Move a file that is no job into `rejected`, its reason written first, under the same stem.

    A reason without its file was left by a crash in between, or by whoever took the file out to mend it: it gives way.

    Raises:
        OSError: the file stays where it is.
    """
    stem, extension = split(name)
    text = reason.rstrip("\n").encode("utf-8", "backslashreplace") + b"\n"

    def place(n: int, end: str) -> Path:
        return folder / (numbered(stem, n, longest_suffix=_SUFFIX) + end)

    def taken(n: int) -> bool:
        return any(os.path.lexists(place(n, end)) for end in EXTENSIONS) or _is_no_file(place(n, _ERROR))

    def prepared(n: int) -> Path:
        disk.write(place(n, _ERROR), text)
        return place(n, extension)

    target = _move(disk, source, prepared, taken)
    _flush(disk, (folder, source.parent))
    return target


def _move(disk: Disk, source: Path, place: Callable[[int], Path], taken: Callable[[int], bool]) -> Path:
    while True:
        target = place(first_free(taken))
        try:
            disk.rename(str(source), str(target))
        except FileExistsError:  # somebody else put a file there since we looked
            continue
        return target


def _is_no_file(path: Path) -> bool:
    return os.path.lexists(path) and (path.is_symlink() or not path.is_file())


def _flush(disk: Disk, folders: Iterable[Path]) -> None:
    for folder in folders:
        disk.flush(folder)
