"""The cellar: bytes that were paid for lie here, durably, until a store has them.

A file is named by the row it belongs to; what no row needs is swept at start. `kept` holds bytes that no store
would take: nothing but a person, or a retry, takes them out again.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

import trio

from pipeline.errors import SpoolTrouble
from pipeline.tools.files import fsync_folder, make_folder, write_durably
from pipeline.tools.room import ALLOWANCE, Room
from pipeline.tools.threads import RunSync

FRESH = 16 << 20  # bytes of what was just written and is likely to be read next, kept in memory beside the file
T = TypeVar("T")


class Spool:
    """A folder of picture files, its running total, and the room that all stages share for bytes in memory.

    Args:
        folder: made where it is missing; nothing else may live in it.
        kept: where bytes go that no store would take.
        limit: bytes waiting for the store beyond which nothing new should be submitted.
        memory: bytes that all holds of `room` may have in memory at once.
        run_sync: runs a blocking call; tests under a virtual clock pass an inline one.

    Raises:
        SpoolTrouble: the folders cannot be made or read.
    """

    def __init__(
        self,
        folder: Path,
        kept: Path,
        *,
        limit: int = 10_000_000_000,
        memory: int = ALLOWANCE,
        run_sync: RunSync = trio.to_thread.run_sync,
    ) -> None:
        self.folder = folder
        self.kept_folder = kept
        self.limit = limit
        self._run_sync = run_sync
        self.room = Room(memory)
        self._fresh = _Fresh(FRESH)
        with _telling("opened", folder):
            for place in (folder, kept):
                make_folder(place, mode=0o700)
            self._sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder) if entry.is_file()}
        self._total = sum(self._sizes.values())

    @property
    def total(self) -> int:
        """Bytes that wait for the store."""
        return self._total

    @property
    def full(self) -> bool:
        """Whether nothing new should be submitted until the store has taken some."""
        return self._total >= self.limit

    async def write(self, name: str, data: bytes) -> None:
        """Keep bytes durably; when this returns they survive a power cut, when it raises nothing is to be seen.

        Raises:
            SpoolTrouble: disk full, read-only; waiting for room helps.
        """
        path = self._path(name)
        with _telling("written", path):
            await self._run_sync(_write, path, data)
        self._count(name, len(data))

    async def write_examined(self, name: str, data: bytes, examine: Callable[[bytes], T]) -> T:
        """Keep bytes that pass an examination, and return what it found.

        Both happen in one thread: to change threads in between costs as much as the writing.

        Raises:
            SpoolTrouble: as `write` does.
            Exception: what `examine` raised; nothing is kept.
        """
        path = self._path(name)
        with _telling("written", path):
            found: T = await self._run_sync(_write_examined, path, data, examine)
        self._count(name, len(data))
        self._fresh.put(name, data)
        return found

    async def read(self, name: str) -> bytes:
        """Return the bytes kept under `name`.

        Raises:
            SpoolTrouble: not readable, or `lost`.
        """
        path = self._path(name)
        data = self._fresh.take(name)
        if data is None:
            with _telling("read", path):
                data = await self._run_sync(path.read_bytes)
        return data

    async def drop(self, name: str) -> None:
        """Forget a file whose bytes the store has; one that is gone already is no error."""
        path = self._path(name)
        with _telling("removed", path):
            await self._run_sync(_unlink, path)
        self._count(name, 0)

    async def keep(self, name: str) -> None:
        """Put a file aside for good: no store would take these bytes, and they were paid for.

        Raises:
            SpoolTrouble: it could not be moved, or is `lost`.
        """
        with _telling("moved to kept", self._path(name)):
            await self._run_sync(_move, self._path(name), self.kept_folder / name)
        self._count(name, 0)

    async def bring_back(self, name: str) -> None:
        """Take a kept file into the spool again, to be uploaded once more.

        Raises:
            SpoolTrouble: it could not be moved, or is `lost`.
        """
        with _telling("moved back from kept", self.kept_folder / name):
            size: int = await self._run_sync(_move, self.kept_folder / name, self._path(name))
        self._count(name, size)

    async def discard(self, name: str) -> None:
        """Delete a kept file for good; one that is gone already is no error."""
        with _telling("removed", self.kept_folder / name):
            await self._run_sync(_unlink, self.kept_folder / self._path(name).name)

    async def kept(self) -> dict[str, int]:
        """Return name and size of every file put aside."""
        with _telling("listed", self.kept_folder):
            sizes: dict[str, int] = await self._run_sync(_sizes, self.kept_folder)
        return sizes

    async def sweep(self, needed: Collection[str]) -> list[str]:
        """Remove what no row needs and what a crash left half-written; only for the start, before anything writes.

        Returns:
            The names that were removed.
        """
        with _telling("swept", self.folder):
            present: dict[str, int] = await self._run_sync(_sizes, self.folder)
            unneeded = sorted(present.keys() - set(needed))
            for name in unneeded:
                await self._run_sync(_unlink, self.folder / name)
                self._count(name, 0)
        return unneeded

    def _path(self, name: str) -> Path:
        if name.startswith(".") or "/" in name or "\0" in name or not name:
            raise ValueError(f"{name!r} is no name for a spool file")
        return self.folder / name

    def _count(self, name: str, size: int) -> None:
        self._total += size - self._sizes.pop(name, 0)
        self._fresh.take(name)
        if size:
            self._sizes[name] = size


class _Fresh:
    """The newest files' bytes, up to a bound: a picture that is stored at once need not be read from the disk first."""

    def __init__(self, allowance: int) -> None:
        self._allowance = allowance
        self._held = 0
        self._data: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        self.take(name)
        self._data[name] = data
        self._held += len(data)
        while self._held > self._allowance:
            self.take(next(iter(self._data)))

    def take(self, name: str) -> bytes | None:
        data = self._data.pop(name, None)
        self._held -= len(data or b"")
        return data


@contextlib.contextmanager
def _telling(what: str, path: Path) -> Iterator[None]:
    """Translate what the file system says."""
    try:
        yield
    except FileNotFoundError as error:
        raise SpoolTrouble(f"{path} could not be {what}: it is not there", lost=True) from error
    except OSError as error:
        message = f"{path} could not be {what}: {error.strerror}; make room or mend the permissions, it is tried again"
        raise SpoolTrouble(message) from error


def _write(path: Path, data: bytes) -> None:
    make_folder(path.parent, mode=0o700)
    write_durably(path, data, replace=True, mode=0o600)


def _write_examined(path: Path, data: bytes, examine: Callable[[bytes], T]) -> T:
    found = examine(data)
    _write(path, data)
    return found


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _move(src: Path, dst: Path) -> int:
    """Move durably; where a crash came after the move and before it was recorded, it is done already."""
    if not src.exists() and dst.exists():
        return dst.stat().st_size
    size = src.stat().st_size
    make_folder(dst.parent, mode=0o700)
    src.replace(dst)
    fsync_folder(dst.parent)
    return size


def _sizes(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {
            entry.name: entry.stat(follow_symlinks=False).st_size
            for entry in entries
            if not entry.is_dir(follow_symlinks=False)
        }
