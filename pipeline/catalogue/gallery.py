"""Pages of a character's images: the same cost for the first and the last, however many there are."""

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import merge
from itertools import islice
from typing import Any

from pipeline import naming
from pipeline.catalogue import cursor
from pipeline.catalogue.values import GalleryRow, Page
from pipeline.clock import NOT_YET
from pipeline.model import Fault, Stored

SHOWN = ("done", "placeholder")
MOST = 1_000
_WORD = re.compile(r"\w+")

SELECT = """
SELECT images.id, characters.id, images.public_id, images.number, characters.slug, images.status, images.standing,
    images.created_at, images.updated_at, images.url, images.version, images.md5, images.bytes, images.width,
    images.height, images.format, images.path, images.store_date, images.delivery, images.color, prompts.text,
    images.seed, jobs.recipe, images.backend, images.gpu_seconds, images.attempts, images.doubtful,
    images.used_embedding, jobs.labels, images.favorite, images.fault_code, images.fault_message, jobs.id
FROM images
JOIN characters ON characters.row = images.character
LEFT JOIN jobs ON jobs.seq = images.job
LEFT JOIN prompts ON prompts.id = images.prompt
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which of a character's images are asked for; None and empty: no condition."""

    statuses: tuple[str, ...] = SHOWN
    job: str | None = None
    label: str | None = None
    since: int | None = None  # first stored at or after this moment
    until: int | None = None  # … and before this one
    seed: int | None = None
    favorite: bool | None = None
    q: str | None = None  # words of the prompt, the last one may be unfinished


def page(
    connection: sqlite3.Connection, character: int, wanted: Filter, limit: int, after: str | None
) -> Page[GalleryRow]:
    """Return images newest first: what is not stored yet by number, then by date and number."""
    key = None if after is None else cursor.decode(after, 2)
    conditions, values = _conditions(character, wanted)
    found = list(islice(_keys(connection, character, wanted, key, limit + 1), limit + 1))
    more = len(found) > limit
    found = found[:limit]
    rows = {row.row: row for row in read(connection, [row for _, _, row in found])}
    return Page(
        rows=tuple(rows[row] for _, _, row in found),
        total=_total(connection, character, wanted, conditions, values),
        next=cursor.encode(*found[-1][:2]) if more else None,
    )


def read(connection: sqlite3.Connection, rows: Sequence[int]) -> list[GalleryRow]:
    """Read images by row, in no particular order."""
    found = connection.execute(
        f"{SELECT} WHERE images.id IN (SELECT value FROM json_each(?))", (json.dumps(rows),)
    ).fetchall()
    return [gallery_row(row) for row in found]


def _keys(
    connection: sqlite3.Connection, character: int, wanted: Filter, key: tuple[int, ...] | None, limit: int
) -> Iterator[tuple[int, int, int]]:
    """Each status has its own stretch of the index, already in order; they are merged."""
    conditions, values = _conditions(character, wanted)
    if key is not None:
        conditions.append("(images.shown_at, images.number) < (?, ?)")
        values += key
    index = "images_favorite" if wanted.favorite else "images_page"
    sql = (
        f"SELECT shown_at, number, id FROM images INDEXED BY {index} WHERE character = ? AND status = ? "
        f"{''.join(f' AND {condition}' for condition in conditions)} ORDER BY shown_at DESC, number DESC LIMIT ?"
    )
    runs = [
        connection.execute(sql, (character, status, *values, limit)).fetchall()
        for status in dict.fromkeys(wanted.statuses)
    ]
    return merge(*runs, reverse=True)


def _total(
    connection: sqlite3.Connection, character: int, wanted: Filter, conditions: list[str], values: list[Any]
) -> int:
    statuses = tuple(dict.fromkeys(wanted.statuses))
    marks = ", ".join("?" * len(statuses))
    if not conditions:
        sql = f"SELECT coalesce(sum(n), 0) FROM tallies WHERE character = ? AND status IN ({marks})"
    else:
        sql = f"SELECT count(*) FROM images WHERE character = ? AND status IN ({marks}) AND {' AND '.join(conditions)}"
    return int(connection.execute(sql, (character, *statuses, *values)).fetchone()[0])


def _conditions(character: int, wanted: Filter) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    if wanted.job is not None:
        conditions.append("images.job = (SELECT seq FROM jobs WHERE id = ?)")
        values.append(wanted.job)
    if wanted.label is not None:
        conditions.append("images.job IN (SELECT job FROM labels WHERE character = ? AND label = ?)")
        values += [character, wanted.label]
    if wanted.since is not None:
        conditions.append(f"images.shown_at >= ? AND images.shown_at < {NOT_YET}")
        values.append(wanted.since)
    if wanted.until is not None:
        conditions.append("images.shown_at < ?")
        values.append(wanted.until)
    if wanted.seed is not None:
        conditions.append("images.seed = ?")
        values.append(wanted.seed)
    if wanted.favorite is not None:
        conditions.append("images.favorite = 1" if wanted.favorite else "images.favorite = 0")
    if wanted.q is not None and (query := _match(character, wanted.q)):
        conditions.append("images.prompt IN (SELECT rowid FROM prompts_fts WHERE prompts_fts MATCH ?)")
        values.append(query)
    return conditions, values


def _match(character: int, q: str) -> str | None:
    """Words as FTS5 takes them, each quoted so that none is an operator; None where there is no word in it."""
    words = _WORD.findall(q)
    if not words:
        return None
    quoted = " ".join(f'"{word}"' for word in words)
    return f'character : "{character}" AND text : ({quoted}*)'


@lru_cache(maxsize=4_096)
def recipe_of(text: str) -> dict[str, Any]:
    """Parse a job's recipe once for all its images."""
    parsed: dict[str, Any] = json.loads(text)
    return parsed


@lru_cache(maxsize=4_096)
def words_of(text: str) -> tuple[str, ...]:
    """Parse a JSON list of texts once."""
    return tuple(json.loads(text))


def gallery_row(row: tuple[Any, ...]) -> GalleryRow:
    """Make a GalleryRow of a row of SELECT."""
    public_id, number, slug, status, standing = row[2:7]
    recipe = recipe_of(row[22]) if row[22] else {}
    stored = Stored(public_id, *row[9:19]) if row[9] is not None else None
    making = status in {"queued", "running"} or standing is not None
    return GalleryRow(
        row=row[0],
        character_id=row[1],
        public_id=public_id,
        number=number,
        filename=naming.filename(slug, number),
        status=status,
        retrying=standing is not None,
        created_at=row[7],
        updated_at=row[8],
        stored=stored,
        width=stored.width if stored else recipe.get("width", 0),
        height=stored.height if stored else recipe.get("height", 0),
        color=row[19],
        prompt=row[20],
        negative_prompt=recipe.get("negative_prompt"),
        seed=row[21],
        style=recipe.get("style"),
        model=recipe.get("model"),
        steps=recipe.get("steps"),
        cfg_scale=recipe.get("cfg_scale"),
        sampler_name=recipe.get("sampler_name"),
        backend=row[23],
        gpu_seconds=row[24],
        attempts=row[25],
        doubtful=row[26],
        used_embedding=bool(row[27]),
        labels=words_of(row[28]) if row[28] else (),
        favorite=bool(row[29]),
        fault=Fault(row[30], row[31]) if row[30] is not None else None,
        job_id=row[32],
        started_at=row[8] if making else None,
    )
