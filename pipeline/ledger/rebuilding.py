"""An index made anew from what a store holds and what ended jobs have left; a file of its own until it is whole.

What the listing finds is collected first; then characters are restored one after the other, each in a transaction.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline import naming
from pipeline.ledger import trouble
from pipeline.ledger.characters import find_or_make, owner_row
from pipeline.ledger.collecting import Finds
from pipeline.ledger.counters import tally, touch
from pipeline.ledger.numbering import insert_image, remember_prompts
from pipeline.ledger.opening import open_for_writing
from pipeline.ledger.rows import job_columns, stored_columns
from pipeline.ledger.transaction import Transaction, begin
from pipeline.model import Asset, Fault, Job, Status
from pipeline.tools.clock import NOT_YET, rfc3339

_FILLED = ("events", "labels", "images", "prompts", "tallies", "jobs", "characters", "owners")


@dataclass(frozen=True, slots=True)
class ImageTold:
    """What a result file tells of one image."""

    status: Status
    prompt: str | None
    seed: int | None
    backend: str | None = None
    attempts: int = 0
    gpu_seconds: float = 0.0
    doubtful: int = 0
    used_embedding: bool = False
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class JobTold:
    """A job that has ended, as its files tell of it; `images` by number, contiguous, empty for one never numbered."""

    seq: int
    job: Job
    images: Mapping[int, ImageTold]
    quantity: int
    created_at: int
    started_at: int | None
    finished_at: int | None
    cancelled: bool
    filed: bool


@dataclass(frozen=True, slots=True)
class CharacterTold:
    """A character with the folder that holds its images."""

    id: str
    name: str
    wish: str
    owner: str
    owner_folder: str
    slug: str
    embedding: str | None
    created_at: int


@contextmanager
def open_rebuild(path: Path, store: str, now: int) -> Iterator["Rebuild"]:
    """Open the file in which an index is made anew; one left by a try at the same store is gone on with.

    Raises:
        IndexTrouble: it cannot be written.
    """
    connection = open_for_writing(path)
    try:
        yield Rebuild(connection, store, now)
    except sqlite3.Error as error:
        raise trouble.in_words(path, error) from error
    finally:
        connection.close()


class Rebuild:
    """Collects what is found, then makes rows of it; nobody else looks at the file meanwhile."""

    def __init__(self, connection: sqlite3.Connection, store: str, now: int) -> None:
        self._connection = connection
        self.finds = Finds(connection, store, now)

    def begin(self) -> None:
        """Throw away the rows of an earlier try; what was collected stays."""
        with begin(self._connection) as transaction:
            for table in _FILLED:
                transaction.execute(f"DELETE FROM {table}")
            transaction.execute("INSERT INTO prompts_fts (prompts_fts) VALUES ('rebuild')")

    def restore(self, character: CharacterTold, jobs: Sequence[JobTold], now: int) -> dict[str, int]:
        """Make a character's rows, numbers 1 to the highest that any asset or job tells of; counts by status."""
        with begin(self._connection) as transaction:
            owner = owner_row(transaction, character.owner)
            transaction.execute(
                "UPDATE owners SET slug = ?, adopted_at = ? WHERE row = ?", (character.owner_folder, now, owner)
            )
            columns = ("id", "name", "wish", "slug", "embedding", "created_at")
            row = transaction.insert(
                "characters", {"owner": owner, **{name: getattr(character, name) for name in columns}}
            )
            for told in jobs:
                _insert_job(transaction, told, owner, row)
            touch(transaction, row, owner)
            return self._fill(transaction, character, row, jobs, now)

    def restore_unnumbered(self, told: JobTold, character_id: str, default_owner: str, now: int) -> None:
        """Keep a job that was cancelled before it had numbers: its id stays known."""
        with begin(self._connection) as transaction:
            character = find_or_make(
                transaction, character_id, owner=None, default_owner=told.job.owner or default_owner, now=now
            )
            _insert_job(transaction, told, character.owner, character.row)

    def finish(self) -> None:
        """Drop what was only collected, and leave one file."""
        self.finds.drop()
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _fill(
        self, transaction: Transaction, character: CharacterTold, row: int, jobs: Sequence[JobTold], now: int
    ) -> dict[str, int]:
        found = self.finds.assets(character.owner_folder, character.slug)
        assets = {number: asset for number, asset in found.items() if asset.status is not Status.REMOVED}
        told = {number: (job, image) for job in jobs for number, image in job.images.items()}
        highest = max((*found, *told), default=0)
        texts = _prompts(assets, told)
        prompts = dict(zip(texts, remember_prompts(transaction, [(row, text) for text in texts]), strict=True))
        counts: dict[str, int] = {}
        by_job: dict[tuple[int, str], int] = {}
        newest, reindexed = 0, json.dumps({"reindexed": rfc3339(now)})
        for number in range(1, highest + 1):
            job, image = told.get(number, (None, None))
            asset = assets.get(number)
            if asset is not None and job is not None and not _of_job(asset, job.job.id, image):
                asset = None
            values = _columns(character, number, asset, image, now)
            text = _prompt(asset, image)
            values |= {"character": row, "prompt": None if text is None else prompts[text]}
            status = str(values["status"])
            if job is not None:
                values["job"] = job.seq
                by_job[job.seq, status] = by_job.get((job.seq, status), 0) + 1
            insert_image(transaction, values, "Reindexed", now, detail=reindexed)
            counts[status] = counts.get(status, 0) + 1
            newest = max(newest, int(str(values.get("created_at") or 0)))
        transaction.execute("UPDATE characters SET highest = ?, newest_at = ? WHERE row = ?", (highest, newest, row))
        for (seq, status), n in by_job.items():
            transaction.execute(f"UPDATE jobs SET {Status(status).value} = ? WHERE seq = ?", (n, seq))
        for status, n in counts.items():
            tally(transaction, row, status, n)
        return counts


def _insert_job(transaction: Transaction, told: JobTold, owner: int, character: int) -> None:
    job = told.job
    values = {
        **job_columns(job, job.recipe),
        "seq": told.seq,
        "owner": owner,
        "character": character,
        "quantity": told.quantity,
        "first_number": min(told.images, default=None),
        "status": "cancelled" if told.cancelled else "done",
        "queued": 0,
        "cancelled": 0 if told.images else told.quantity,
        "created_at": told.created_at,
        "started_at": told.started_at,
        "finished_at": told.finished_at,
        "filed": int(told.filed),
        "version": 1,
    }
    transaction.insert("jobs", values)
    for label in set(job.labels):
        transaction.insert("labels", {"character": character, "label": label, "job": told.seq})


def _of_job(asset: Asset, job_id: str, told: ImageTold | None) -> bool:
    """Whether an asset is the image that its job tells of; what stands there by another's hand is a conflict."""
    if asset.job_id is None:
        return told is None or told.status in {Status.DONE, Status.PLACEHOLDER}
    return asset.job_id == job_id


def _prompt(asset: Asset | None, told: ImageTold | None) -> str | None:
    """A result tells the prompt whole, a store cuts it to what fits."""
    if told is not None and told.prompt:
        return told.prompt
    return asset.prompt if asset is not None else None


def _prompts(assets: Mapping[int, Asset], told: Mapping[int, tuple[JobTold, ImageTold]]) -> Collection[str]:
    said = (image.prompt for _, image in told.values())
    found = (asset.prompt for asset in assets.values())
    return dict.fromkeys(text for texts in (said, found) for text in texts if text)


def _columns(
    character: CharacterTold, number: int, asset: Asset | None, told: ImageTold | None, now: int
) -> dict[str, object]:
    """What an image's row tells: the store knows best what stands there, the result how it was made."""
    if asset is not None:
        status, created, seed = asset.status, asset.stored.created_at or now, asset.seed
        public_id, color = asset.stored.public_id, asset.color
    else:
        status, created, seed = _without_asset(told), None, None
        public_id, color = naming.public_id(character.owner_folder, character.slug, number), None
    values: dict[str, object] = {
        "number": number,
        "public_id": public_id,
        "seed": seed if seed is not None or told is None else told.seed,
        "state": status.value,
        "status": status.value,
        "shown_at": NOT_YET if created is None else created,
        "created_at": created,
        "updated_at": created or now,
        "color": color,
        **stored_columns(asset.stored if asset is not None else None),
    }
    if told is not None:
        fault = told.fault if status in {Status.PLACEHOLDER, Status.FAILED} else None
        values |= {
            "backend": told.backend,
            "attempts": told.attempts,
            "doubtful": told.doubtful,
            "gpu_seconds": told.gpu_seconds,
            "used_embedding": int(told.used_embedding),
            "fault_code": fault.code if fault else None,
            "fault_message": fault.message if fault else None,
        }
    return values


def _without_asset(told: ImageTold | None) -> Status:
    """A number without an image is held by what its job says became of it, else by a removed row."""
    if told is not None and told.status in {Status.FAILED, Status.CANCELLED}:
        return told.status
    return Status.REMOVED
