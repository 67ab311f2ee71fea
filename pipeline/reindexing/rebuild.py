"""`pipeline reindex`: the index made anew from the store's assets and the jobs folder.

It is made in a file of its own and becomes the index by one rename at the end, so that nothing ever gives out numbers
by half of it. What no asset and no result tells is named in `docs/backup.md`.
"""

import sqlite3
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import trio

from pipeline.config import Config, LocalConfig, StoreConfig
from pipeline.errors import StoreRefused, StoreUnavailable, UserError
from pipeline.ledger.collecting import Finds
from pipeline.ledger.opening import knows_anything
from pipeline.ledger.rebuilding import open_rebuild
from pipeline.ports import Store
from pipeline.reindexing.piecing import Pieced, piece_together
from pipeline.tools.clock import Clock, now
from pipeline.tools.files import fsync_folder, make_folder, rename_exclusive
from pipeline.tools.locks import hold
from pipeline.tools.pauses import Pauses
from pipeline.tools.state_folder import prepare_state

INDEX, DRAFT = "index.db", "reindex.db"  # in the state folder
TRIES = 5  # in a row that a store may fail, its rate limit aside


class IndexStands(UserError):
    """There is an index already, and nothing replaces it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it has come; `total` None: nobody knows how much there is."""

    stage: Literal["listing", "waiting", "restoring"]
    done: int
    total: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What came back."""

    pieced: Pieced
    aside: Path | None  # where the old index's leftovers were moved
    notes: list[str] = field(default_factory=list)


async def reindex(
    config: Config, store: Store, *, told: Callable[[Progress], None] = lambda _: None, clock: Clock = now
) -> Report:
    """Make the index anew, going on where an interrupted try at it stopped.

    Raises:
        HeldElsewhere: a daemon, or another command, is at work here.
        IndexStands: there is an index with something in it.
        StoreUnavailable: the store cannot be listed now; what was listed is kept for the next try.
        IndexTrouble: the state folder cannot be written.
    """
    prepare_state(config.state)
    with hold(config.state, process="pipeline reindex"), hold(config.jobs, process="pipeline reindex"):
        _refuse_standing(config.state)
        with open_rebuild(config.state / DRAFT, _place_of(config.store), clock()) as rebuild:
            await _list(rebuild.finds, store, told)
            pieced = piece_together(
                rebuild,
                config.jobs,
                config.rules(),
                lambda done, total: told(Progress("restoring", done, total)),
                clock(),
            )
            rebuild.finish()
        aside = _publish(config.state, clock())
    return Report(pieced, aside, pieced.notes)


async def _list(finds: Finds, store: Store, told: Callable[[Progress], None]) -> None:
    """Collect all that the store holds; a rate limit is waited out, other trouble for a while."""
    pauses = Pauses()
    failures = 0
    while not finds.complete:
        try:
            async with aclosing(store.everything(finds.bookmark)) as pages:
                async for assets, bookmark in pages:
                    finds.collect(assets, bookmark)
                    failures = 0
                    pauses.reset()
                    told(Progress("listing", finds.collected))
            finds.listed_all()
        except StoreRefused:  # a bookmark that the store has forgotten
            failures += 1
            if finds.bookmark is None or failures >= TRIES:
                raise
            finds.start_over()
        except StoreUnavailable as error:
            failures += error.code != "rate_limited"
            if error.credentials or failures >= TRIES:
                raise
            pause = pauses.next(error.retry_after)
            told(Progress("waiting", finds.collected, note=f"{error}; going on in {pause:.0f} s"))
            await trio.sleep(pause)


def _refuse_standing(state: Path) -> None:
    """Refuse to work beside an index that knows anything, or that cannot be read."""
    index = state / INDEX
    if not index.exists() or not index.stat().st_size:
        return
    try:
        known, reason = knows_anything(index), "holds what is known already"
    except sqlite3.Error as error:
        known, reason = True, f"cannot be read ({error})"
    if known:
        for name in (DRAFT, f"{DRAFT}-wal", f"{DRAFT}-shm"):  # a listing from before this index tells too little
            (state / name).unlink(missing_ok=True)
        raise IndexStands(
            f"{index} {reason}; nothing replaces it. Keep it safe and out of the way first: "
            f"mkdir {state}/old && mv {index}* {state}/old/"
        )


def _place_of(store: StoreConfig) -> str:
    """Name a store, so that two stores' listings are never mixed."""
    if isinstance(store, LocalConfig):
        return f"local {store.folder}"
    return f"cloudinary {store.cloud_name} at {store.upload_prefix}"


def _publish(state: Path, moment: int) -> Path | None:
    """Give the new index its name; what is left of the old one, with the pictures that only it could name, goes aside.

    A write-ahead log left beside a new database would be played into it; spool files are named by rows that are gone.
    """
    log = state / f"{INDEX}-wal"
    left = [path for path in (state / INDEX, log) if path.exists() and path.stat().st_size]
    left += [state / name for name in ("spool", "kept") if _holds_files(state / name)]
    aside = None
    if left:
        stamp = datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y%m%d-%H%M%S-%f")
        aside = state / f"before-reindex-{stamp}"
        make_folder(aside, mode=0o700)
        for path in left:
            rename_exclusive(path, aside / path.name)
    for empty in (state / INDEX, log, state / f"{INDEX}-shm"):
        empty.unlink(missing_ok=True)
    rename_exclusive(state / DRAFT, state / INDEX)
    fsync_folder(state)
    return aside


def _holds_files(folder: Path) -> bool:
    return folder.is_dir() and any(True for _ in folder.iterdir())
