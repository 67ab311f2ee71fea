"""Which character a job means, whose it is, and which slug it has in its owner's folder."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, count

from pipeline import naming
from pipeline.errors import UserError
from pipeline.ledger.transaction import Transaction
from pipeline.model import Job


class NotTaken(UserError):
    """The job cannot be accepted; the message is for the person who sent it."""


@dataclass(frozen=True, slots=True)
class Character:
    """A row of `characters`, with what numbering needs of its owner."""

    row: int
    id: str
    owner: int
    slug: str
    embedding: str | None
    owner_slug: str | None  # None: the owner's folder was never listed, so nothing can be numbered
    highest: int  # the last number given out
    name: str
    owner_id: str


_SELECT = """
SELECT characters.row, characters.id, characters.owner, characters.slug, characters.embedding, owners.slug,
    characters.highest, characters.name, owners.id
FROM characters JOIN owners ON owners.row = characters.owner
"""


def by_row(transaction: Transaction, row: int) -> Character:
    """Read a character that is certainly there."""
    return Character(*transaction.execute(f"{_SELECT} WHERE characters.row = ?", (row,)).fetchone())


def resolve(transaction: Transaction, job: Job, now: int) -> Character:
    """Return the job's character, made at first sight, its name and embedding brought up to date.

    Raises:
        NotTaken: the character belongs to another owner.
    """
    if job.character.id is not None:
        character = _claimed(
            transaction,
            job.character.id,
            job.character.name,
            owner=job.owner,
            default_owner=job.default_owner,
            now=now,
        )
    else:
        character = _by_name(transaction, job, job.character.name or "", now)
    if job.character.embedding is not None and job.character.embedding != character.embedding:
        transaction.execute(
            "UPDATE characters SET embedding = ? WHERE row = ?", (job.character.embedding, character.row)
        )
        character = replace(character, embedding=job.character.embedding)
    return character


def _claimed(
    transaction: Transaction,
    character_id: str,
    name: str | None,
    *,
    owner: str | None,
    default_owner: str,
    now: int,
) -> Character:
    found = transaction.execute(f"{_SELECT} WHERE characters.id = ?", (character_id,)).fetchone()
    if found is None:
        return _create(
            transaction, owner_row(transaction, owner or default_owner), character_id, name or character_id, now
        )
    character = Character(*found)
    if owner is not None and owner != character.owner_id:
        raise NotTaken(
            f'character "{character_id}" belongs to another owner than "{owner}"; '
            "a character keeps its first owner: choose another id, or name the right owner"
        )
    if name is not None and name != character.name:
        transaction.execute("UPDATE characters SET name = ? WHERE row = ?", (name, character.row))
        character = replace(character, name=name)
    return character


def find_or_make(
    transaction: Transaction, character_id: str, *, owner: str | None, default_owner: str, now: int
) -> Character:
    """Return the character with exactly this id, made at first sight.

    Raises:
        NotTaken: it belongs to another owner than `owner`.
    """
    return _claimed(transaction, character_id, None, owner=owner, default_owner=default_owner, now=now)


def _by_name(transaction: Transaction, job: Job, name: str, now: int) -> Character:
    owner = owner_row(transaction, job.owner or job.default_owner)
    slug = naming.slugify(name)
    for condition, value in (
        ("characters.id = ?", name),
        ("characters.slug = ?", slug),
        # Its own slug went to assets of a stranger when the store was listed: the same name still means it.
        ("characters.wish = ?", slug),
    ):
        found = transaction.execute(
            f"{_SELECT} WHERE characters.owner = ? AND {condition} ORDER BY characters.row LIMIT 1", (owner, value)
        ).fetchone()
        if found:
            return Character(*found)
    for candidate in _suffixed(slug):
        if not transaction.execute("SELECT 1 FROM characters WHERE id = ?", (candidate,)).fetchone():
            return _create(transaction, owner, candidate, name, now)
    raise AssertionError("suffixes never end")


def owner_row(transaction: Transaction, owner: str) -> int:
    """Return the owner's row, made at first sight."""
    found = transaction.execute("SELECT row FROM owners WHERE id = ?", (owner,)).fetchone()
    if found:
        return int(found[0])
    return transaction.insert("owners", {"id": owner})


def _create(transaction: Transaction, owner: int, character_id: str, name: str, now: int) -> Character:
    said = {"id": character_id, "owner": owner, "name": name, "wish": naming.slugify(name), "created_at": now}
    row = transaction.insert("characters", said)
    give_slug(transaction, row)
    return by_row(transaction, row)


def give_slug(transaction: Transaction, row: int) -> None:
    """Give a character without a slug the first one that is free in its owner's folder.

    A folder whose assets carry this character's id is its own; one whose assets carry another's is taken. Before
    the folder was listed this is the best guess, and given again afterwards.
    """
    character_id, owner, wish = transaction.execute(
        "SELECT id, owner, wish FROM characters WHERE row = ?", (row,)
    ).fetchone()
    own = [
        slug
        for (slug,) in transaction.execute(
            "SELECT DISTINCT slug FROM shelf WHERE owner = ? AND character_id = ? ORDER BY slug <> ?, slug",
            (owner, character_id, wish),
        )
    ]
    for candidate in chain(own, _suffixed(wish)):
        if _is_free(transaction, owner, candidate, character_id):
            transaction.execute("UPDATE characters SET slug = ? WHERE row = ?", (candidate, row))
            return


def _is_free(transaction: Transaction, owner: int, slug: str, character_id: str) -> bool:
    taken = transaction.execute(
        "SELECT 1 FROM characters WHERE owner = :owner AND slug = :slug UNION ALL "
        "SELECT 1 FROM shelf WHERE owner = :owner AND slug = :slug AND character_id <> :id LIMIT 1",
        {"owner": owner, "slug": slug, "id": character_id},
    ).fetchone()
    return taken is None


def _suffixed(slug: str) -> Iterator[str]:
    return (naming.with_suffix(slug, n) for n in count(1))
