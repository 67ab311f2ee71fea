"""An inbox over real folders and a real index, with ways to look at what became of the files."""

import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.inbox.disk import Disk, Folders
from pipeline.inbox.door import Inbox
from pipeline.inbox.intake import Outside
from pipeline.ledger import Ledger, open_ledger
from pipeline.spec.keys import Rules
from pipeline.tools.clock import now
from tests.support.waiting import inline

LEASED = Disk(leases=True)
FOLDERS = ("active", "rejected", "duplicate", "done")


def spec(prompt: str = "a garden", *, character: str = "Mary", **keys: object) -> str:
    return "".join(f"{key}: {value}\n" for key, value in {"character": character, "prompt": prompt, **keys}.items())


@dataclass
class Stand:
    jobs: Path
    index: Path
    ledger: Ledger
    inbox: Inbox
    accepted: list[str] = field(default_factory=list)

    def put(self, name: str, text: str | bytes = spec()) -> Path:
        """A file as a careful program drops it: whole, by renaming."""
        path = self.jobs / name
        draft = path.with_name(".draft")
        draft.write_bytes(text if isinstance(text, bytes) else text.encode())
        draft.rename(path)
        return path

    def waiting(self) -> list[str]:
        return names(self.jobs)

    def lies_in(self, folder: str) -> list[str]:
        return names(self.jobs / folder)

    def prompts(self) -> list[str]:
        """The prompts of all accepted jobs, in arrival order."""
        with reading(self.index) as rows:
            return [prompt.strip('"') for (prompt,) in rows.execute("SELECT prompt FROM jobs ORDER BY seq")]

    def ids(self) -> list[str]:
        with reading(self.index) as rows:
            return [job for (job,) in rows.execute("SELECT id FROM jobs ORDER BY seq")]


@contextmanager
def reading(index: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(index)
    try:
        yield connection
    finally:
        connection.close()


def names(folder: Path) -> list[str]:
    """What a person sees in a folder: no dotfiles, no folders."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir())


@asynccontextmanager
async def open_stand(
    folder: Path, *, run_sync=inline, register=lambda ledger: ledger, clock=now, disk=LEASED, **options
) -> AsyncIterator[Stand]:
    jobs, index = folder / "jobs", folder / "index.db"
    jobs.mkdir(exist_ok=True)
    accepted: list[str] = []
    async with open_ledger(index, run_sync=run_sync) as ledger:
        outside = Outside(Folders(jobs), register(ledger), accepted.extend, clock, run_sync, disk)
        inbox = Inbox(outside, **{"rules": Rules()} | options)
        yield Stand(jobs, index, ledger, inbox, accepted)


@contextmanager
def someone_writing(path: Path, text: str) -> Iterator[None]:
    """A writer that has the file open and has got no further than `text`."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, text.encode())
        yield
    finally:
        os.close(file)
