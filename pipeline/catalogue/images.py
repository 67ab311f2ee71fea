"""One image as the index holds it: the columns that are read, and what follows from them."""

import json
import sqlite3
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from pipeline import naming
from pipeline.catalogue.values import MediaFile
from pipeline.model import Fault, Stored

# `params` may hold whole pictures, and a page has a thousand rows. What is joined to nothing is a text to `json_array`.
_RECIPE = "iif(length(jobs.recipe) <= 4096, jobs.recipe, json_remove(jobs.recipe, '$.params') || '')"
COLUMNS: Final = f"""
    images.id, characters.id, images.public_id, images.number, characters.slug, images.status, images.standing,
    images.created_at, images.updated_at, images.url, images.version, images.md5, images.bytes, images.width,
    images.height, images.format, images.path, images.store_date, images.delivery, images.color, prompts.text,
    images.seed, {_RECIPE}, images.backend, images.gpu_seconds, images.attempts, images.doubtful,
    images.used_embedding, jobs.labels, images.favorite, images.fault_code, images.fault_message, jobs.id"""
JOINED: Final = """
    JOIN characters ON characters.row = images.character
    LEFT JOIN jobs ON jobs.seq = images.job
    LEFT JOIN prompts ON prompts.id = images.prompt"""
SELECT: Final = f"SELECT {COLUMNS} FROM images {JOINED}"
_MEDIA: Final = """
SELECT owners.id, images.url, images.version, images.md5, images.bytes, images.width, images.height, images.format,
    images.path, images.store_date, images.delivery
FROM images
JOIN characters ON characters.row = images.character
JOIN owners ON owners.row = characters.owner
WHERE images.public_id = ? AND images.path IS NOT NULL"""


@lru_cache(maxsize=4_096)
def recipe_of(text: str) -> Mapping[str, Any]:
    """Parse a job's recipe once for all its images."""
    parsed: dict[str, Any] = json.loads(text)
    return parsed


@lru_cache(maxsize=4_096)
def words_of(text: str) -> tuple[str, ...]:
    """Parse a JSON list of texts once."""
    return tuple(json.loads(text))


class GalleryRow(NamedTuple):
    """One image as the index holds it, a field a column; what follows from them is worked out where it is asked for.

    A page of a thousand is read for one answer, so a row costs no more than its tuple. Addresses are minted by whoever
    shows it, from `stored`.
    """

    row: int
    character_id: str
    public_id: str
    number: int
    slug: str
    status: str
    standing: str | None  # what goes on being shown while it is made again
    created_at: int | None
    updated_at: int
    url: str | None  # from here to `delivery`: what the store keeps, and all NULL while it does not
    version: str | None
    md5: str | None
    bytes: int | None
    stored_width: int | None
    stored_height: int | None
    format: str | None
    path: str | None
    store_date: int | None
    delivery: str | None
    color: str | None
    prompt: str | None
    seed: int | None
    recipe_text: str | None  # JSON; `recipe` is what it says; without `params` where those are large
    backend: str | None
    gpu_seconds: float
    attempts: int
    doubtful: int
    used_embedding: int
    labels_text: str | None  # JSON; `labels` are what it says
    chosen: int  # 1 for a favourite
    fault_code: str | None
    fault_message: str | None
    job_id: str | None

    @property
    def filename(self) -> str:
        """What people call it."""
        return naming.filename(self.slug, self.number)

    @property
    def retrying(self) -> bool:
        """Whether it is being made again while its status stands."""
        return self.standing is not None

    @property
    def stored(self) -> Stored | None:
        """Where the store keeps it; None while it does not."""
        kept: tuple[Any, ...] = self[_URL:_COLOR]
        return None if self.url is None else Stored(self.public_id, *kept)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """What all images of its job have in common, by the field names of `model.Recipe`; empty where it was adopted.

        Large `params` are left out: `Catalogue.recipe` has them.
        """
        return recipe_of(self.recipe_text or "{}")

    @property
    def width(self) -> int:
        """Pixels of the stored image; what was asked for while there is none."""
        return self.stored_width or self.recipe.get("width", 0)

    @property
    def height(self) -> int:
        """Pixels of the stored image; what was asked for while there is none."""
        return self.stored_height or self.recipe.get("height", 0)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of its job."""
        return words_of(self.labels_text or "[]")

    @property
    def fault(self) -> Fault | None:
        """What it met last."""
        return None if self.fault_code is None else Fault(self.fault_code, self.fault_message or "")

    @property
    def error(self) -> Fault | None:
        """What its placeholder or failed row tells; what an image met on its way is no error yet."""
        return self.fault if self.status in {"placeholder", "failed"} else None


_URL, _COLOR = (GalleryRow._fields.index(name) for name in ("url", "color"))


def by_number(connection: sqlite3.Connection, character_id: str, number: int) -> GalleryRow | None:
    """Read one image by what people call it."""
    row = connection.execute(
        f"{SELECT} WHERE images.character = (SELECT row FROM characters WHERE id = ?) AND images.number = ?",
        (character_id, number),
    ).fetchone()
    return None if row is None else GalleryRow._make(row)


def media(connection: sqlite3.Connection, public_id: str) -> MediaFile | None:
    """Find a stored file by its public id; None where there is none, or none any more."""
    row = connection.execute(_MEDIA, (public_id,)).fetchone()
    return None if row is None else MediaFile(row[0], Stored(public_id, *row[1:]))
