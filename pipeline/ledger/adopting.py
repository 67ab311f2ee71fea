"""Adoption: what a store already holds becomes rows, and the owner's waiting jobs are numbered after it."""

import json
from collections.abc import Iterable, Sequence

from pipeline import naming
from pipeline.errors import IllegalStep
from pipeline.ledger.characters import Character, by_row, give_slug, owner_row
from pipeline.ledger.counters import tally, touch
from pipeline.ledger.numbering import Numbering, insert_image, plan_from_json, remember_prompts
from pipeline.ledger.reasons import UNLESS_PAUSED
from pipeline.ledger.rows import stored_columns
from pipeline.ledger.transaction import Transaction
from pipeline.model import Asset, Status, Stored
from pipeline.tools.clock import NOT_YET

LARGEST_NUMBER = 1_000_000  # an asset numbered beyond is left on the shelf: its gap would be filled with rows


def adopt(transaction: Transaction, owner: str, slug: str, assets: Sequence[Asset], now: int) -> None:
    """Fix an owner's folder, shelve what is in it, hand it to its characters, and number the waiting jobs.

    Raises:
        IllegalStep: the owner was adopted before, or the folder is another owner's.
    """
    row = owner_row(transaction, owner)
    _claim_folder(transaction, row, owner, slug, now)
    transaction.executemany(
        "INSERT INTO shelf (owner, slug, number, character_id, asset) VALUES (?, ?, ?, ?, ?)",
        ((row, a.slug, a.number, a.character_id, write_asset(a)) for a in assets),
    )
    characters = [c for (c,) in transaction.execute("SELECT row FROM characters WHERE owner = ? ORDER BY row", (row,))]
    transaction.execute("UPDATE characters SET slug = NULL WHERE owner = ?", (row,))
    for character in characters:
        give_slug(transaction, character)
        claim_shelf(transaction, by_row(transaction, character), now)
    _number_waiting(transaction, row, now)


def _claim_folder(transaction: Transaction, row: int, owner: str, slug: str, now: int) -> None:
    before = transaction.execute("SELECT slug FROM owners WHERE row = ?", (row,)).fetchone()[0]
    if before is not None:
        raise IllegalStep(f'owner "{owner}" has the folder "{before}" already: it is listed only once')
    holder = transaction.execute("SELECT id FROM owners WHERE slug = ?", (slug,)).fetchone()
    if holder is not None:
        raise IllegalStep(f'folder "{slug}" belongs to owner "{holder[0]}", not to "{owner}"')
    transaction.execute("UPDATE owners SET slug = ?, adopted_at = ? WHERE row = ?", (slug, now, row))


def _number_waiting(transaction: Transaction, owner: int, now: int) -> None:
    waiting = transaction.execute(
        "SELECT seq, character FROM jobs WHERE owner = ? AND plan IS NOT NULL ORDER BY seq", (owner,)
    ).fetchall()
    for seq, character in waiting:
        (plan,) = transaction.execute("SELECT plan FROM jobs WHERE seq = ?", (seq,)).fetchone()
        numbering = Numbering()
        first = numbering.give(seq, by_row(transaction, character), plan_from_json(plan))
        transaction.execute(
            "UPDATE jobs SET first_number = ?, plan = NULL, planned = quantity, version = version + 1, "
            f"reason = {UNLESS_PAUSED} WHERE seq = ?",
            (first, seq),
        )
        numbering.write(transaction, now)


def claim_shelf(transaction: Transaction, character: Character, now: int) -> None:
    """Make rows of the shelved assets in a character's folder.

    Numbers missing among them, and those of what is no picture (`removed`), are held by removed rows.

    A character that has numbers claimed its folder when it got its slug.
    """
    if character.highest:
        return
    shelved = transaction.execute(
        "SELECT id, number, asset FROM shelf WHERE owner = ? AND slug = ? AND number BETWEEN 1 AND ? ORDER BY id",
        (character.owner, character.slug, LARGEST_NUMBER),
    ).fetchall()
    if not shelved or character.owner_slug is None:
        return
    found = by_number(read_asset(text) for _, _, text in shelved)
    images = {number: asset for number, asset in found.items() if asset.status is not Status.REMOVED}
    newest = 0
    for number in range(1, max(found) + 1):
        asset = images.get(number)
        if asset is None:
            _hold(transaction, character, number, now)
        else:
            newest = max(newest, insert_asset(transaction, character, asset, now))
    transaction.execute(
        "UPDATE characters SET highest = ?, newest_at = max(newest_at, ?) WHERE row = ?",
        (max(found), newest, character.row),
    )
    statuses = [asset.status.value for asset in images.values()]
    for status in set(statuses):
        tally(transaction, character.row, status, statuses.count(status))
    tally(transaction, character.row, "removed", max(found) - len(images))
    transaction.executemany("DELETE FROM shelf WHERE id = ?", ((row,) for row, *_ in shelved))
    touch(transaction, character.row, character.owner)


def by_number(assets: Iterable[Asset]) -> dict[int, Asset]:
    """Keep one asset for each number, the first one, but of two the image, not the placeholder.

    At Cloudinary a public id may stand once in each delivery type.
    """
    found: dict[int, Asset] = {}
    for asset in assets:
        if asset.number not in found or asset.status is Status.DONE is not found[asset.number].status:
            found[asset.number] = asset
    return found


def write_asset(asset: Asset) -> str:
    """Write an asset as JSON."""
    return json.dumps({**asset._asdict(), "stored": asset.stored._asdict()})


def read_asset(text: str) -> Asset:
    """Read back what `write_asset` wrote."""
    values = json.loads(text)
    return Asset(**{**values, "stored": Stored(**values["stored"]), "status": Status(values["status"])})


def insert_asset(transaction: Transaction, character: Character, asset: Asset, now: int) -> int:
    """Make the row of something that the store holds already; return the moment it counts as stored."""
    created = now if asset.stored.created_at is None else asset.stored.created_at
    prompt = None
    if asset.prompt is not None:
        (prompt,) = remember_prompts(transaction, [(character.row, asset.prompt)])
    values = {
        "character": character.row,
        "number": asset.number,
        "public_id": asset.stored.public_id,
        "prompt": prompt,
        "seed": asset.seed,
        "state": asset.status.value,
        "status": asset.status.value,
        "shown_at": created,
        "created_at": created,
        "updated_at": created,
        "color": asset.color,
        **stored_columns(asset.stored),
    }
    insert_image(transaction, values, "Adopted", now)
    return created


def _hold(transaction: Transaction, character: Character, number: int, now: int) -> None:
    assert character.owner_slug is not None
    values = {
        "character": character.row,
        "number": number,
        "public_id": naming.public_id(character.owner_slug, character.slug, number),
        "state": "removed",
        "status": "removed",
        "shown_at": NOT_YET,
        "updated_at": now,
    }
    insert_image(transaction, values, "Missing", now)
