"""Jobs as the outside sees them: rows, and the result that files and answers share."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.catalogue import cursor
from pipeline.catalogue.images import SELECT as SELECT_IMAGE
from pipeline.catalogue.images import GalleryRow, words_of
from pipeline.catalogue.values import JobRow, NoticeRow, Page
from pipeline.model import Stored
from pipeline.tools.clock import when

STATUSES = ("queued", "running", "done", "placeholder", "failed", "cancelled", "removed")
_SELECT = f"""
SELECT jobs.seq, jobs.id, owners.id, owners.slug, characters.id, characters.name, jobs.status, jobs.reason, jobs.prompt,
    jobs.recipe ->> '$.style', jobs.labels, jobs.backends, jobs.priority, jobs.quantity, jobs.first_number,
    jobs.created_at, jobs.started_at, jobs.finished_at, jobs.version,
    {", ".join(f"jobs.{status}" for status in STATUSES)}
FROM jobs
JOIN owners ON owners.row = jobs.owner
JOIN characters ON characters.row = jobs.character
"""
_OF_JOB = f"""{SELECT_IMAGE}
WHERE images.character = ? AND images.number BETWEEN ? AND ? AND images.job = ? ORDER BY images.number"""


def by_id(connection: sqlite3.Connection, job_id: str) -> JobRow | None:
    """Read one job."""
    row = connection.execute(f"{_SELECT} WHERE jobs.id = ?", (job_id,)).fetchone()
    return None if row is None else _job_row(connection, row)


def page(
    connection: sqlite3.Connection,
    *,
    owner: str | None,
    statuses: tuple[str, ...],
    label: str | None,
    limit: int,
    after: str | None,
) -> Page[JobRow]:
    """Return jobs, the latest arrival first; `owner` None: everybody's."""
    conditions, values = ["1"], []
    if owner is not None:
        conditions.append("jobs.owner = (SELECT row FROM owners WHERE id = ?)")
        values.append(owner)
    if statuses:
        conditions.append(f"jobs.status IN ({', '.join('?' * len(statuses))})")
        values += statuses
    if label is not None:
        conditions.append("jobs.seq IN (SELECT job FROM labels WHERE label = ?)")
        values.append(label)
    matching = " AND ".join(conditions)
    (total,) = connection.execute(f"SELECT count(*) FROM jobs WHERE {matching}", values).fetchone()
    before = cursor.LARGEST if after is None else cursor.decode(after, 1)[0]
    rows = connection.execute(
        f"{_SELECT} WHERE {matching} AND jobs.seq < ? ORDER BY jobs.seq DESC LIMIT ?", (*values, before, limit + 1)
    ).fetchall()
    shown = tuple(_job_row(connection, row) for row in rows[:limit])
    return Page(shown, total, cursor.encode(shown[-1].seq) if len(rows) > limit else None)


def unfinished(connection: sqlite3.Connection, limit: int, label: str | None) -> list[JobRow]:
    """Return jobs that have not ended: running ones first, each kind in arrival order."""
    labelled, values = _unfinished_of(label)
    rows = connection.execute(
        f"{_SELECT} WHERE {labelled} ORDER BY jobs.status DESC, jobs.seq LIMIT ?", (*values, limit)
    ).fetchall()
    return [_job_row(connection, row) for row in rows]


def unfinished_counts(connection: sqlite3.Connection, label: str | None) -> dict[str, int]:
    """Count jobs that have not ended by status."""
    labelled, values = _unfinished_of(label)
    return dict(
        connection.execute(f"SELECT status, count(*) FROM jobs WHERE {labelled} GROUP BY status", values).fetchall()
    )


def _unfinished_of(label: str | None) -> tuple[str, tuple[str, ...]]:
    """The condition, written as the index of unfinished jobs is, so that ended ones cost nothing."""
    unfinished = "jobs.status IN ('queued', 'running')"
    if label is None:
        return unfinished, ()
    return f"{unfinished} AND jobs.seq IN (SELECT job FROM labels WHERE label = ?)", (label,)


def images(connection: sqlite3.Connection, job: JobRow) -> Iterator[GalleryRow]:
    """Go through a job's images in number order; nothing while it is not numbered."""
    if job.first_number is None:
        return
    (character,) = connection.execute("SELECT character FROM jobs WHERE seq = ?", (job.seq,)).fetchone()
    last = job.first_number + job.quantity - 1
    yield from map(GalleryRow._make, connection.execute(_OF_JOB, (character, job.first_number, last, job.seq)))


def notices(connection: sqlite3.Connection, job_id: str) -> list[NoticeRow]:
    """Return whom each end of a job was to be told to, in order; an index of an older version tells of none."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'notices'").fetchall():
        return []
    found = connection.execute(
        "SELECT receiver, next_at, delivered_at, trouble FROM notices "
        "WHERE job = (SELECT seq FROM jobs WHERE id = ?) ORDER BY seq",
        (job_id,),
    )
    return [NoticeRow(*row) for row in found]


def overview(job: JobRow) -> dict[str, Any]:
    """A job in a list: its result without the images."""
    return {
        "jobId": job.id,
        "status": job.status,
        "reason": job.reason,
        "characterId": job.character_id,
        "requestedCount": job.quantity,
        "generatedCount": job.counts["done"],
        "placeholderCount": job.counts["placeholder"],
        "failedCount": job.counts["failed"],
        "cancelledCount": job.counts["cancelled"],
        "runningCount": job.counts["running"],
        "queuedCount": job.counts["queued"],
        "prompt": job.prompt if isinstance(job.prompt, str) else list(job.prompt),
        "style": job.style,
        "labels": list(job.labels),
        "createdAt": when(job.created_at),
        "startedAt": when(job.started_at),
        "finishedAt": when(job.finished_at),
    }


def result(connection: sqlite3.Connection, job: JobRow, place: Callable[[Stored], Path | None]) -> dict[str, Any]:
    """A job with its images, as result files and answers show it; `place` tells where a file stands."""
    made = list(images(connection, job))
    urls = [i.stored.url for i in made if i.stored is not None and i.status in {"done", "placeholder"}]
    about = overview(job)
    return {
        **{key: about[key] for key in ("jobId", "status", "reason", "characterId")},
        "imageUrl": urls[0] if urls else None,
        "imageUrls": urls,
        **{key: about[key] for key in about if key.endswith("Count")},
        "maybePaidTwice": sum(image.doubtful for image in made),
        "gpuSeconds": round(sum(image.gpu_seconds for image in made), 3),
        "usedEmbedding": any(image.used_embedding for image in made),
        **{key: about[key] for key in ("prompt", "style", "labels", "createdAt", "startedAt", "finishedAt")},
        "images": [_image(image, place) for image in made],
    }


def _image(image: GalleryRow, place: Callable[[Stored], Path | None]) -> dict[str, Any]:
    stored, error = image.stored, image.error
    file = place(stored) if stored else None
    return {
        "number": image.number,
        "filename": image.filename,
        "status": image.status,
        "url": stored.url if stored else None,
        "path": str(file) if file else None,
        "publicId": image.public_id,
        "prompt": image.prompt,
        "seed": image.seed,
        "backend": image.backend,
        "attempts": image.attempts,
        "gpuSeconds": round(image.gpu_seconds, 3),
        "error": {"code": error.code, "message": error.message} if error else None,
    }


def _job_row(connection: sqlite3.Connection, row: tuple[Any, ...]) -> JobRow:
    seq, job_id, owner, folder, character_id, character_name, status, reason, prompt, style, labels, pool = row[:12]
    priority, quantity, first_number, created_at, started_at, finished_at, version, *counts = row[12:]
    said, backends = json.loads(prompt), words_of(pool)
    if status == "queued":
        reason = reason or _what_it_waits_for(connection, owner=owner, folder=folder, backends=backends)
    return JobRow(
        seq=seq,
        id=job_id,
        character_id=character_id,
        character_name=character_name,
        status=status,
        reason=reason if status == "queued" else None,
        prompt=said if isinstance(said, str) else tuple(said),
        style=style,
        labels=words_of(labels),
        backends=backends,
        priority=priority,
        quantity=quantity,
        first_number=first_number,
        counts=dict(zip(STATUSES, counts, strict=True)),
        created_at=created_at,
        started_at=started_at,
        finished_at=finished_at,
        version=version,
    )


def _what_it_waits_for(
    connection: sqlite3.Connection, *, owner: str, folder: str | None, backends: tuple[str, ...]
) -> str:
    """The reason where nobody noted one: the store's listing, back ends that are down, or its turn."""
    if folder is None:
        return f"waits until the store has listed what owner {owner} already has there"
    lanes = dict(connection.execute("SELECT name, reason FROM lanes WHERE state <> 'ready'"))
    if backends and all(backend in lanes for backend in backends):
        return "; ".join(f"{backend}: {lanes[backend] or 'not ready'}" for backend in backends)
    return f"waits for its turn at {' or '.join(backends)}"
