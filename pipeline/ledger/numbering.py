"""Numbers: given out here and nowhere else, in the same transaction as the image rows."""

import json
import sqlite3
from collections.abc import Iterable, Sequence

from pipeline import naming
from pipeline.clock import NOT_YET
from pipeline.ledger.characters import Character
from pipeline.model import PlannedImage


def number_job(
    connection: sqlite3.Connection, seq: int, character: Character, images: Sequence[PlannedImage], now: int
) -> None:
    """Give a job the next numbers of its character, contiguous, and make its image rows.

    The character must be as the transaction left it, and its owner must have a folder already.
    """
    assert character.owner_slug is not None
    prompts = remember_prompts(connection, character.row, (image.prompt for image in images))
    stem = naming.public_id(character.owner_slug, character.slug, 0).removesuffix("0")
    connection.executemany(
        "INSERT INTO images (job, character, number, public_id, prompt, seed, state, status, shown_at, updated_at) "
        "VALUES (?, ?, ?, ?, ?, ?, 'planned', 'queued', ?, ?)",
        (
            (seq, character.row, number, f"{stem}{number}", prompts[image.prompt], image.seed, NOT_YET, now)
            for number, image in enumerate(images, character.highest + 1)
        ),
    )
    connection.execute(
        "UPDATE jobs SET first_number = ?, plan = NULL, planned = quantity, version = version + 1 WHERE seq = ?",
        (character.highest + 1, seq),
    )
    connection.execute("UPDATE characters SET highest = highest + ? WHERE row = ?", (len(images), character.row))
    tally(connection, character.row, "queued", len(images))
    touch(connection, character.row)


def remember_prompts(connection: sqlite3.Connection, character: int, texts: Iterable[str]) -> dict[str, int]:
    """Keep each different prompt once and make it searchable; return the rows by text."""
    rows: dict[str, int] = {}
    for text in texts:
        if text in rows:
            continue
        row = connection.execute("INSERT INTO prompts (character, text) VALUES (?, ?)", (character, text)).lastrowid
        assert row is not None
        connection.execute("INSERT INTO prompts_fts (rowid, text, character) VALUES (?, ?, ?)", (row, text, character))
        rows[text] = row
    return rows


def tally(connection: sqlite3.Connection, character: int, status: str, change: int) -> None:
    """Count `change` more images of a character in this status."""
    connection.execute(
        "INSERT INTO tallies (character, status, n) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
        (character, status, change),
    )


def touch(connection: sqlite3.Connection, character: int) -> None:
    """Something that an answer about this character shows has changed."""
    connection.execute(
        "UPDATE owners SET revision = revision + 1 WHERE row = (SELECT owner FROM characters WHERE row = ?)",
        (character,),
    )
    connection.execute("UPDATE characters SET revision = revision + 1 WHERE row = ?", (character,))


def plan_to_json(images: Sequence[PlannedImage]) -> str:
    """Keep the images of a job that cannot be numbered yet; each different prompt is written once."""
    prompts = {prompt: place for place, prompt in enumerate(dict.fromkeys(image.prompt for image in images))}
    return json.dumps({"prompts": list(prompts), "images": [[prompts[image.prompt], image.seed] for image in images]})


def plan_from_json(text: str) -> list[PlannedImage]:
    """Read back what `plan_to_json` wrote."""
    plan = json.loads(text)
    return [PlannedImage(plan["prompts"][place], seed) for place, seed in plan["images"]]
