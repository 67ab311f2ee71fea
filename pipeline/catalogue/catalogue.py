"""The catalogue's one door: whoever wants to see the index asks this class, also from another process."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.catalogue import characters, figures, gallery, images, jobs
from pipeline.catalogue.connection import Snapshots
from pipeline.catalogue.gallery import Filter
from pipeline.catalogue.images import GalleryRow
from pipeline.catalogue.outlook import outlook
from pipeline.catalogue.values import (
    CharacterRow,
    Figures,
    JobRow,
    MediaFile,
    NoticeRow,
    Page,
    Problem,
    Step,
    Summary,
    TroubleRow,
    Whose,
)
from pipeline.errors import IndexTrouble
from pipeline.model import Job, LaneState, Paused, Stored
from pipeline.tools import clock

_ALL_SHOWN = Filter()


class Catalogue:
    """Read-only questions about the index; every answer is of one moment.

    All methods raise IndexTrouble where the file is missing or cannot be read. A connection belongs to the thread
    that asks; queries take microseconds and need no thread of their own.

    Args:
        path: the index's file.
        images: the local store's folder as it is configured now.
    """

    def __init__(self, path: Path, *, images: Path | None = None) -> None:
        self._snapshots = Snapshots(path)
        self._images = images

    def close(self) -> None:
        """Close this thread's connection; the next question opens it again."""
        self._snapshots.close()

    # -- characters and their galleries

    def character(self, character_id: str) -> CharacterRow | None:
        """Read one character."""
        with self._snapshots.snapshot() as connection:
            return characters.by_id(connection, character_id)

    def outlook(self, job: Job) -> tuple[str, int]:
        """Tell the slug and the first number that a job's images would get if it were taken now."""
        with self._snapshots.snapshot() as connection:
            return outlook(connection, job)

    def characters(self, owner: str | None, *, limit: int = 1_000, after: str | None = None) -> Page[CharacterRow]:
        """Return characters, the latest first seen first; `owner` None: everybody's.

        Raises:
            BadCursor: `after` is no `next` of this list.
        """
        with self._snapshots.snapshot() as connection:
            return characters.page(connection, owner=owner, limit=limit, after=after)

    def page(
        self, character_id: str, wanted: Filter = _ALL_SHOWN, *, limit: int = 1_000, after: str | None = None
    ) -> Page[GalleryRow] | None:
        """Return a page of a character's images, newest first; None: there is no such character.

        Raises:
            BadCursor: `after` is no `next` of this list.
        """
        with self._snapshots.snapshot() as connection:
            row = connection.execute("SELECT row FROM characters WHERE id = ?", (character_id,)).fetchone()
            return None if row is None else gallery.page(connection, row[0], wanted, limit, after)

    def image(self, character_id: str, number: int) -> GalleryRow | None:
        """Read one image by what people call it."""
        with self._snapshots.snapshot() as connection:
            return images.by_number(connection, character_id, number)

    def history(self, row: int) -> list[Step]:
        """Return the recorded steps of an image, oldest first."""
        with self._snapshots.snapshot() as connection:
            found = connection.execute("SELECT at, event, detail FROM events WHERE image = ? ORDER BY n", (row,))
            return [Step(at, event, json.loads(detail)) for at, event, detail in found]

    def recipe(self, job_id: str) -> dict[str, Any] | None:
        """Return what all images of a job have in common, by the field names of `model.Recipe`."""
        with self._snapshots.snapshot() as connection:
            row = connection.execute("SELECT recipe FROM jobs WHERE id = ?", (job_id,)).fetchone()
            return None if row is None else dict(json.loads(row[0]))

    def media(self, public_id: str) -> MediaFile | None:
        """Find a stored file by its public id; None where there is none, or none any more."""
        with self._snapshots.snapshot() as connection:
            return images.media(connection, public_id)

    def place(self, stored: Stored) -> Path | None:
        """Tell where the local store's file of an image stands; None where a service keeps it.

        The index tells where it was put. A workspace may have been moved or copied since, so the folder of today goes
        first; what was put into another folder before is still found there.
        """
        if stored.path is None or self._images is None:
            return None if stored.path is None else Path(stored.path)
        here = f"{self._images}/{stored.public_id}{Path(stored.path).suffix}"
        return Path(here if os.path.lexists(here) or not os.path.lexists(stored.path) else stored.path)

    def stands_elsewhere(self, stored: Stored) -> bool:
        """Tell whether an image was put into a store that was configured before, which no listing goes through."""
        if self._images is None or stored.path is None:
            return (self._images is None) != (stored.path is None)
        place = self.place(stored)
        return str(place) == stored.path and place is not None and not place.is_relative_to(self._images)

    def here(self, row: GalleryRow) -> GalleryRow:
        """Return a row whose `path` is where its file stands now."""
        place = self.place(row.stored) if row.stored is not None else None
        return row if place is None else row._replace(path=str(place))

    def named(self, public_id: str) -> GalleryRow | None:
        """Return the image that a public id is given to, stored or not."""
        with self._snapshots.snapshot() as connection:
            found = connection.execute(f"{images.SELECT} WHERE images.public_id = ?", (public_id,)).fetchone()
            return None if found is None else GalleryRow._make(found)

    def stored_images(self, *, batch: int = 1_000) -> Iterator[GalleryRow]:
        """Go through all that a store should hold, in row order, without one long snapshot."""
        last = 0
        while True:
            with self._snapshots.snapshot() as connection:
                found = connection.execute(
                    f"{images.SELECT} WHERE images.id > ? AND images.url IS NOT NULL ORDER BY images.id LIMIT ?",
                    (last, batch),
                ).fetchall()
            yield from map(GalleryRow._make, found)
            if len(found) < batch:
                return
            last = found[-1][0]

    # -- jobs

    def job(self, job_id: str) -> JobRow | None:
        """Read one job."""
        with self._snapshots.snapshot() as connection:
            return jobs.by_id(connection, job_id)

    def owner_of(self, job_id: str) -> str | None:
        """Tell whose a job is, at the cost of telling that there is none."""
        with self._snapshots.snapshot() as connection:
            row = connection.execute(
                "SELECT owners.id FROM jobs JOIN owners ON owners.row = jobs.owner WHERE jobs.id = ?", (job_id,)
            ).fetchone()
            return None if row is None else row[0]

    def jobs(
        self,
        owner: str | None,
        *,
        statuses: tuple[str, ...] = (),
        label: str | None = None,
        limit: int = 1_000,
        after: str | None = None,
    ) -> Page[JobRow]:
        """Return jobs, the latest arrival first; `owner` None: everybody's.

        Raises:
            BadCursor: `after` is no `next` of this list.
        """
        with self._snapshots.snapshot() as connection:
            return jobs.page(connection, owner=owner, statuses=statuses, label=label, limit=limit, after=after)

    def unfinished(self, limit: int, label: str | None = None) -> list[JobRow]:
        """Return jobs that have not ended, running ones first."""
        with self._snapshots.snapshot() as connection:
            return jobs.unfinished(connection, limit, label)

    def unfinished_counts(self, label: str | None = None) -> dict[str, int]:
        """Count jobs that have not ended, by status."""
        with self._snapshots.snapshot() as connection:
            return jobs.unfinished_counts(connection, label)

    def images_of(self, job: JobRow) -> list[GalleryRow]:
        """Return a job's images in number order; none while it is not numbered."""
        with self._snapshots.snapshot() as connection:
            return list(jobs.images(connection, job))

    def notices(self, job_id: str) -> list[NoticeRow]:
        """Tell whether, and when, the ends of a job were told to whom its `notify` names."""
        with self._snapshots.snapshot() as connection:
            return jobs.notices(connection, job_id)

    def result(self, job_id: str) -> dict[str, Any] | None:
        """Return the `data` of a job's result as files and answers show it; None: there is no such job."""
        with self._snapshots.snapshot() as connection:
            job = jobs.by_id(connection, job_id)
            return None if job is None else jobs.result(connection, job, self.place)

    def file(self, job_id: str) -> str:
        """Return the name of a job's file in `active/`.

        Raises:
            IndexTrouble: there is no such job.
        """
        with self._snapshots.snapshot() as connection:
            row = connection.execute("SELECT file FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise IndexTrouble(f"{self._snapshots.path}: knows no job {job_id}; see `pipeline status`")
        return str(row[0])

    # -- revisions, for answers that are kept

    def version(self) -> int:
        """A number that changes with every commit of the writer, and costs next to nothing to ask for."""
        return self._snapshots.version()

    def whose(self, character_id: str) -> Whose | None:
        """Tell who may see a character's gallery, and which state of it is the present one."""
        with self._snapshots.snapshot() as connection:
            return characters.whose(connection, character_id)

    def owner_revision(self, owner: str | None) -> int:
        """A number that grows with anything shown of an owner's characters and jobs; None: of anybody's."""
        if owner is None:
            return self._number("SELECT sum(revision) FROM owners") or 0
        return self._number("SELECT revision FROM owners WHERE id = ?", owner) or 0

    # -- the whole

    def lanes(self) -> list[LaneState]:
        """Return the back ends as they were last noted, by name."""
        with self._snapshots.snapshot() as connection:
            return figures.lanes(connection)

    def troubles(self) -> list[TroubleRow]:
        """Return what was last noted to keep work from going on, beside the back ends."""
        with self._snapshots.snapshot() as connection:
            return figures.troubles(connection)

    def pauses(self) -> list[Paused]:
        """Return what people have paused."""
        with self._snapshots.snapshot() as connection:
            return figures.pauses(connection)

    def figures(self) -> Figures:
        """Return what was counted by back end since the index was made, and what is under way."""
        with self._snapshots.snapshot() as connection:
            return figures.read(connection)

    def summary(self, *, now: int | None = None) -> Summary:
        """Return the whole index in a few numbers; "today" is the UTC day of `now` (by default: the present)."""
        day = datetime.fromtimestamp((clock.now() if now is None else now) / 1000, UTC).date().isoformat()
        with self._snapshots.snapshot() as connection:
            return figures.summary(connection, day)

    def spool_files(self) -> dict[str, int]:
        """Return the spool files that rows still need, with their sizes in bytes."""
        with self._snapshots.snapshot() as connection:
            return dict(
                connection.execute(
                    "SELECT spool_file, spool_bytes FROM images WHERE state IN ('fetched', 'drawn')"
                ).fetchall()
            )

    def folders(self) -> dict[str, str]:
        """Return each owner's folder in the store, by owner, for those whose folder was listed."""
        with self._snapshots.snapshot() as connection:
            return dict(
                connection.execute("SELECT id, slug FROM owners WHERE slug IS NOT NULL ORDER BY row").fetchall()
            )

    def verify(self) -> list[Problem]:
        """Return what is wrong in the index itself; nothing is repaired."""
        from pipeline.catalogue import verify  # noqa: PLC0415  # it alone needs the law: who only looks is spared it

        with self._snapshots.snapshot() as connection:
            return verify.problems(connection)

    def _number(self, sql: str, *values: str) -> int | None:
        with self._snapshots.snapshot() as connection:
            row = connection.execute(sql, values).fetchone()
            return None if row is None else row[0]


def success(result: dict[str, Any]) -> bool:
    """Tell what stands beside `data`: false where the job has ended without one real image."""
    return result["generatedCount"] > 0 or result["status"] not in {"done", "cancelled"}
