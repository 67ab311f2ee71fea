"""Images that another tool left elsewhere in the store become rows of a character; their own public ids stay."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import IllegalStep
from pipeline.ledger.adopting import claim_shelf, insert_asset
from pipeline.ledger.characters import by_row, find_or_make
from pipeline.ledger.counters import tally, touch
from pipeline.ledger.transaction import Transaction
from pipeline.model import Asset, Status, Stored


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Whose images they become: a character that is there, or is made for `default_owner`."""

    character_id: str
    owner: str | None
    default_owner: str


def take_over(transaction: Transaction, newcomer: Newcomer, found: Sequence[Stored], now: int) -> list[int]:
    """Give what is not known yet the character's next numbers, in the order given, and return them."""
    character = find_or_make(
        transaction, newcomer.character_id, owner=newcomer.owner, default_owner=newcomer.default_owner, now=now
    )
    if character.owner_slug is None:
        raise IllegalStep(f'the folder of character "{character.id}" was never listed: nothing can be numbered before')
    claim_shelf(transaction, character, now)
    character = by_row(transaction, character.row)
    numbers: list[int] = []
    newest = 0
    for stored in found:
        if transaction.execute("SELECT 1 FROM images WHERE public_id = ?", (stored.public_id,)).fetchone():
            continue
        number = character.highest + len(numbers) + 1
        asset = Asset(stored, character.slug, number, owner=None, character_id=character.id, status=Status.DONE)
        newest = max(newest, insert_asset(transaction, character, asset, now))
        numbers.append(number)
    _take_from_shelf(transaction, [stored.public_id for stored in found])
    if numbers:
        transaction.execute(
            "UPDATE characters SET highest = ?, newest_at = max(newest_at, ?) WHERE row = ?",
            (numbers[-1], newest, character.row),
        )
        tally(transaction, character.row, "done", len(numbers))
        touch(transaction, character.row, character.owner)
    return numbers


def _take_from_shelf(transaction: Transaction, public_ids: Sequence[str]) -> None:
    """What has a row now must not be given another; asked once for all, since each question reads the whole shelf."""
    transaction.execute(
        "DELETE FROM shelf WHERE asset ->> '$.stored.public_id' IN (SELECT value FROM json_each(?))",
        (json.dumps(public_ids),),
    )
