"""Numbers: given out here and nowhere else, in the same transaction as the image rows."""

import json
from collections.abc import Iterable, Sequence

from pipeline import naming
from pipeline.clock import NOT_YET
from pipeline.ledger.characters import Character
from pipeline.ledger.transaction import Transaction
from pipeline.model import PlannedImage

_TALLY = "INSERT INTO tallies (character, status, n) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
_TOUCH_CHARACTER = "UPDATE characters SET revision = revision + ?2 WHERE row = ?1"
_TOUCH_OWNER = "UPDATE owners SET revision = revision + ?2 WHERE row = ?1"


def number_job(
    transaction: Transaction, seq: int, character: Character, images: Sequence[PlannedImage], now: int
) -> None:
    """Give a job the next numbers of its character, contiguous, and make its image rows.

    The character must be as the transaction left it, and its owner must have a folder already.
    """
    assert character.owner_slug is not None
    prompts = remember_prompts(transaction, character.row, (image.prompt for image in images))
    stem = naming.public_id(character.owner_slug, character.slug, 0).removesuffix("0")
    transaction.executemany(
        "INSERT INTO images (job, character, number, public_id, prompt, seed, state, status, shown_at, updated_at) "
        "VALUES (?, ?, ?, ?, ?, ?, 'planned', 'queued', ?, ?)",
        (
            (seq, character.row, number, f"{stem}{number}", prompts[image.prompt], image.seed, NOT_YET, now)
            for number, image in enumerate(images, character.highest + 1)
        ),
    )
    transaction.execute(
        "UPDATE jobs SET first_number = ?, plan = NULL, planned = quantity, version = version + 1 WHERE seq = ?",
        (character.highest + 1, seq),
    )
    transaction.execute("UPDATE characters SET highest = highest + ? WHERE row = ?", (len(images), character.row))
    tally(transaction, character.row, "queued", len(images))
    touch(transaction, character.row, character.owner)


def remember_prompts(transaction: Transaction, character: int, texts: Iterable[str]) -> dict[str, int]:
    """Keep each different prompt once and make it searchable; return the rows by text."""
    rows: dict[str, int] = {}
    for text in texts:
        if text in rows:
            continue
        row = transaction.execute("INSERT INTO prompts (character, text) VALUES (?, ?)", (character, text)).lastrowid
        assert row is not None
        transaction.execute("INSERT INTO prompts_fts (rowid, text, character) VALUES (?, ?, ?)", (row, text, character))
        rows[text] = row
    return rows


def tally(transaction: Transaction, character: int, status: str, change: int) -> None:
    """Count `change` more images of a character in this status."""
    transaction.owe(_TALLY, (character, status), change)


def touch(transaction: Transaction, character: int, owner: int) -> None:
    """Something that an answer about this character of this owner shows has changed."""
    transaction.owe(_TOUCH_CHARACTER, (character,), 1)
    touch_owner(transaction, owner)


def touch_owner(transaction: Transaction, owner: int) -> None:
    """Something that an answer about this owner's jobs shows has changed."""
    transaction.owe(_TOUCH_OWNER, (owner,), 1)


def plan_to_json(images: Sequence[PlannedImage]) -> str:
    """Keep the images of a job that cannot be numbered yet; each different prompt is written once."""
    prompts = {prompt: place for place, prompt in enumerate(dict.fromkeys(image.prompt for image in images))}
    return json.dumps({"prompts": list(prompts), "images": [[prompts[image.prompt], image.seed] for image in images]})


def plan_from_json(text: str) -> list[PlannedImage]:
    """Read back what `plan_to_json` wrote."""
    plan = json.loads(text)
    return [PlannedImage(plan["prompts"][place], seed) for place, seed in plan["images"]]
