"""What a job that is not taken yet would be numbered from, by the rules of acceptance; only the ledger decides."""

import sqlite3
from itertools import count

from pipeline import naming
from pipeline.model import Job

_SELECT = "SELECT row, slug, wish FROM characters WHERE"
_BY_NAME = """owner = (SELECT row FROM owners WHERE id = :owner) AND (id = :name OR slug = :slug OR wish = :slug)
ORDER BY id = :name DESC, slug = :slug DESC, row LIMIT 1"""


def outlook(connection: sqlite3.Connection, job: Job) -> tuple[str, int]:
    """Return the slug and the first number that the job's images would get now."""
    found = _character(connection, job)
    if found is None:
        return _free_slug(connection, job), 1
    row, slug, wish = found
    given = connection.execute("SELECT count(*) FROM images WHERE character = ?", (row,)).fetchone()[0]
    return slug or wish, given + 1


def _character(connection: sqlite3.Connection, job: Job) -> tuple[int, str | None, str] | None:
    if job.character.id is not None:
        rows = connection.execute(f"{_SELECT} id = ?", (job.character.id,))
    else:
        name = job.character.name or ""
        asked = {"owner": job.owner or job.default_owner, "name": name, "slug": naming.slugify(name)}
        rows = connection.execute(f"{_SELECT} {_BY_NAME}", asked)
    found: tuple[int, str | None, str] | None = rows.fetchone()
    return found


def _free_slug(connection: sqlite3.Connection, job: Job) -> str:
    taken = {
        slug
        for (slug,) in connection.execute(
            "SELECT slug FROM characters WHERE owner = (SELECT row FROM owners WHERE id = ?)",
            (job.owner or job.default_owner,),
        )
    }
    wish = naming.slugify(job.character.name or job.character.id or "")
    return next(slug for slug in (naming.with_suffix(wish, n) for n in count(1)) if slug not in taken)
