"""What a listing of the whole store has found so far, kept until the index is made of it.

A page is one transaction, with the bookmark to go on from: a listing that takes hours survives a crash.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.ledger.adopting import LARGEST_NUMBER, by_number, read_asset, write_asset
from pipeline.ledger.transaction import begin
from pipeline.model import Asset, Status

_STAGING = (
    """CREATE TABLE IF NOT EXISTS found (
        public_id TEXT NOT NULL,
        delivery TEXT NOT NULL,
        folder TEXT NOT NULL,
        slug TEXT NOT NULL,
        number INTEGER NOT NULL,
        owner TEXT, character_id TEXT, name TEXT, job TEXT,
        created_at INTEGER,
        asset TEXT NOT NULL,
        PRIMARY KEY (public_id, delivery)
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS found_in ON found (folder, slug, number)",
    "CREATE INDEX IF NOT EXISTS found_of_job ON found (job, folder, slug, number) WHERE job IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS listed (store TEXT NOT NULL, bookmark TEXT, complete INTEGER NOT NULL, begun_at INTEGER NOT NULL) STRICT",
)
_KEPT_MS = 24 * 60 * 60 * 1000  # of an interrupted listing: after that the store may hold much that it did not see


@dataclass(frozen=True, slots=True)
class Folder:
    """A character's folder in the store, and what the assets in it say about whose it is."""

    owner_folder: str
    slug: str
    owner: str | None
    character_id: str | None
    first_name: str | None
    last_name: str | None
    since: int | None
    images: int


@dataclass(frozen=True, slots=True)
class Traces:
    """Which numbers of a character the store's assets say that a job made."""

    job_id: str
    owner_folder: str
    slug: str
    numbers: tuple[int, ...]
    since: int


class Finds:
    """The assets found, and the listing's bookmark; those of an earlier try at the same store are there already."""

    def __init__(self, connection: sqlite3.Connection, store: str, now: int) -> None:
        self._connection = connection
        for statement in _STAGING:
            connection.execute(statement)
        known = connection.execute("SELECT store, begun_at FROM listed").fetchone()
        if known is None or known[0] != store or not now - _KEPT_MS < known[1] <= now:
            with begin(self._connection):
                connection.execute("DELETE FROM found")
                connection.execute("DELETE FROM listed")
                connection.execute("INSERT INTO listed (store, complete, begun_at) VALUES (?, 0, ?)", (store, now))

    @property
    def bookmark(self) -> str | None:
        """Where the listing goes on; None: at its beginning."""
        bookmark: str | None = self._connection.execute("SELECT bookmark FROM listed").fetchone()[0]
        return bookmark

    @property
    def complete(self) -> bool:
        """Whether the listing came to its end."""
        return bool(self._connection.execute("SELECT complete FROM listed").fetchone()[0])

    @property
    def collected(self) -> int:
        """Count of assets found so far."""
        return int(self._connection.execute("SELECT count(*) FROM found").fetchone()[0])

    def collect(self, assets: Sequence[Asset], bookmark: str) -> None:
        """Keep a page of the listing, with the bookmark for what comes after it; repeats change nothing."""
        with begin(self._connection):
            self._connection.executemany(
                "INSERT OR IGNORE INTO found (public_id, delivery, folder, slug, number, owner, character_id, name, job, "
                "created_at, asset) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (_found(asset) for asset in assets if asset.number <= LARGEST_NUMBER),
            )
            self._connection.execute("UPDATE listed SET bookmark = ?", (bookmark,))

    def listed_all(self) -> None:
        """The listing came to its end."""
        self._connection.execute("UPDATE listed SET complete = 1")

    def start_over(self) -> None:
        """Forget the bookmark: the store does not know it any more."""
        self._connection.execute("UPDATE listed SET bookmark = NULL")

    def folders(self) -> list[Folder]:
        """Characters' folders, the one with the earliest image first; of several claims the most frequent counts."""
        rows = self._connection.execute(
            "SELECT folder, slug, min(created_at), count(*) FROM found GROUP BY folder, slug ORDER BY 3, 1, 2"
        ).fetchall()
        return [
            Folder(
                folder, slug,
                owner=self._most(folder, slug, "owner"),
                character_id=self._most(folder, slug, "character_id"),
                first_name=self._name(folder, slug, "number"),
                last_name=self._name(folder, slug, "created_at DESC, number DESC"),
                since=since, images=images,
            )
            for folder, slug, since, images in rows
        ]  # fmt: skip

    def traces(self) -> Iterator[Traces]:
        """Jobs that assets name, each with its numbers."""
        rows = self._connection.execute(
            "SELECT job, folder, slug, json_group_array(DISTINCT number), coalesce(min(created_at), 0) FROM found "
            "WHERE job IS NOT NULL GROUP BY job, folder, slug ORDER BY job"
        )
        for job, folder, slug, numbers, since in rows:
            yield Traces(job, folder, slug, tuple(sorted(json.loads(numbers))), since)

    def assets(self, owner_folder: str, slug: str) -> dict[int, Asset]:
        """What lies in a character's folder, by number; of two under one number the image, not the placeholder."""
        rows = self._connection.execute(
            "SELECT asset FROM found WHERE folder = ? AND slug = ? ORDER BY number, rowid", (owner_folder, slug)
        )
        return by_number(read_asset(text) for (text,) in rows)

    def _most(self, folder: str, slug: str, column: str) -> str | None:
        row = self._connection.execute(
            f"SELECT {column} FROM found WHERE folder = ? AND slug = ? AND {column} IS NOT NULL "
            f"GROUP BY 1 ORDER BY count(*) DESC, min(number) LIMIT 1",
            (folder, slug),
        ).fetchone()
        return None if row is None else str(row[0])

    def _name(self, folder: str, slug: str, order: str) -> str | None:
        row = self._connection.execute(
            f"SELECT name FROM found WHERE folder = ? AND slug = ? AND name IS NOT NULL ORDER BY {order} LIMIT 1",
            (folder, slug),
        ).fetchone()
        return None if row is None else str(row[0])

    def drop(self) -> None:
        """Forget all of it: the index is made."""
        with begin(self._connection):
            self._connection.execute("DROP TABLE found")
            self._connection.execute("DROP TABLE listed")


def _found(asset: Asset) -> tuple[object, ...]:
    stored = asset.stored
    folder = stored.public_id.partition("/")[0]
    job = asset.job_id if asset.status is not Status.REMOVED else None  # no picture: nothing is left of what it made
    about = (asset.owner, asset.character_id, asset.character_name, job, stored.created_at)
    return (stored.public_id, stored.type, folder, asset.slug, asset.number, *about, write_asset(asset))
