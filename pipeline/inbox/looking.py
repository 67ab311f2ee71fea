"""What lies in the folder: names and dates, nothing opened."""

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.inbox.names import is_job_file
from pipeline.inbox.reading import Stamp


class Arrival(NamedTuple):
    """A file that may be a job; sorts as jobs arrive: by date, then name."""

    mtime_ns: int
    name: str
    claimed: bool  # lies in `active/` already
    stamp: Stamp
    ctime_ns: int  # changes with permissions too

    @property
    def key(self) -> str:
        """Name it among all files of both folders."""
        return f"active/{self.name}" if self.claimed else self.name


def place_of(arrival: Arrival, jobs: Path) -> str:
    """Tell where a file lies before anything is done to it."""
    return f"{jobs}/{arrival.key}"


def list_names(folder: Path) -> list[str]:
    """Name the job files of a folder, regular files only; links and everything else are not even asked about."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if is_job_file(entry.name) and entry.is_file(follow_symlinks=False)]


def look_at(folder: Path, names: Collection[str], *, claimed: bool) -> Iterator[Arrival]:
    """Ask for the dates of files; those that have vanished, or are no regular files, are left out."""
    for name in names:
        try:
            status = os.lstat(f"{folder}/{name}")
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            yield Arrival(status.st_mtime_ns, name, claimed, Stamp.of(status), status.st_ctime_ns)
