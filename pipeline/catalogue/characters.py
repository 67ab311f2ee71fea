"""Characters as the outside sees them, with their images counted by status."""

import sqlite3
from typing import Any

from pipeline.catalogue import cursor
from pipeline.catalogue.values import CharacterRow, Page, Whose

_SELECT = """
SELECT characters.row, characters.id, characters.name, owners.id, characters.slug, characters.embedding,
    characters.created_at, nullif(characters.newest_at, 0)
FROM characters JOIN owners ON owners.row = characters.owner
"""
_WHOSE = """
SELECT owners.id, characters.revision FROM characters JOIN owners ON owners.row = characters.owner
WHERE characters.id = ?
"""


def by_id(connection: sqlite3.Connection, character_id: str) -> CharacterRow | None:
    """Read one character."""
    row = connection.execute(f"{_SELECT} WHERE characters.id = ?", (character_id,)).fetchone()
    return None if row is None else _character_row(connection, row)


def page(connection: sqlite3.Connection, *, owner: str | None, limit: int, after: str | None) -> Page[CharacterRow]:
    """Return characters, the latest first seen first; `owner` None: everybody's."""
    matching, values = "1", []
    if owner is not None:
        matching, values = "characters.owner = (SELECT row FROM owners WHERE id = ?)", [owner]
    (total,) = connection.execute(f"SELECT count(*) FROM characters WHERE {matching}", values).fetchone()
    before = cursor.LARGEST if after is None else cursor.decode(after, 1)[0]
    found = connection.execute(
        f"{_SELECT} WHERE {matching} AND characters.row < ? ORDER BY characters.row DESC LIMIT ?",
        (*values, before, limit + 1),
    ).fetchall()
    rows = tuple(_character_row(connection, row) for row in found[:limit])
    return Page(rows, total, cursor.encode(rows[-1].row) if len(found) > limit else None)


def whose(connection: sqlite3.Connection, character_id: str) -> Whose | None:
    """Tell who may see a character's gallery, and which state of it is the present one."""
    row = connection.execute(_WHOSE, (character_id,)).fetchone()
    return None if row is None else Whose._make(row)


def _character_row(connection: sqlite3.Connection, row: tuple[Any, ...]) -> CharacterRow:
    counts = connection.execute("SELECT status, n FROM tallies WHERE character = ? AND n > 0", (row[0],)).fetchall()
    return CharacterRow(*(*row, dict(counts)))
