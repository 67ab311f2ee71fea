"""Numbers: given out here and nowhere else, in the same transaction as the image rows, which are made here too."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pipeline import naming
from pipeline.ledger.characters import Character
from pipeline.ledger.counters import tally, touch
from pipeline.ledger.transaction import Transaction
from pipeline.model import PlannedImage
from pipeline.tools.clock import NOT_YET


class _Given(NamedTuple):
    seq: int
    character: Character
    first: int
    images: Sequence[PlannedImage]


class Numbering:
    """Gives jobs the next numbers of their characters, then makes the rows of all their images at once."""

    def __init__(self) -> None:
        self._given: list[_Given] = []
        self._highest: dict[int, int] = {}  # by character: the last number given out here

    def give(self, seq: int, character: Character, images: Sequence[PlannedImage]) -> int:
        """Give a job contiguous numbers, and return the first.

        The character's owner must have a folder, and its `highest` be as it was before this numbering began.
        """
        first = self._highest.get(character.row, character.highest) + 1
        self._highest[character.row] = first + len(images) - 1
        self._given.append(_Given(seq, character, first, images))
        return first

    def write(self, transaction: Transaction, now: int) -> None:
        """Make the image rows of the jobs, whose own rows must be there; to be done once, before anybody reads."""
        prompts = self._remember_prompts(transaction)
        transaction.executemany(
            "INSERT INTO images (job, character, number, public_id, prompt, seed, state, status, shown_at, updated_at) "
            "VALUES (?, ?, ?, ?, ?, ?, 'planned', 'queued', ?, ?)",
            (
                (seq, character.row, number, f"{stem}{number}", prompts[seq, image.prompt], image.seed, NOT_YET, now)
                for seq, character, first, images in self._given
                for stem in (_stem(character),)
                for number, image in enumerate(images, first)
            ),
        )
        highest = [(number, row) for row, number in self._highest.items()]
        transaction.executemany("UPDATE characters SET highest = ? WHERE row = ?", highest)
        for _, character, _, images in self._given:
            tally(transaction, character.row, "queued", len(images))
            touch(transaction, character.row, character.owner)

    def _remember_prompts(self, transaction: Transaction) -> dict[tuple[int, str], int]:
        """Keep each different prompt of a job once; return the rows by job and text."""
        places = dict.fromkeys((given.seq, image.prompt) for given in self._given for image in given.images)
        characters = {given.seq: given.character.row for given in self._given}
        rows = remember_prompts(transaction, [(characters[seq], text) for seq, text in places])
        return dict(zip(places, rows, strict=True))


def _stem(character: Character) -> str:
    """What stands before the number in the public ids of a character's images."""
    assert character.owner_slug is not None
    return naming.public_id(character.owner_slug, character.slug, 0).removesuffix("0")


def remember_prompts(transaction: Transaction, prompts: Sequence[tuple[int, str]]) -> range:
    """Keep prompts, each with its character's row, and make them searchable; return their rows."""
    ((last,),) = transaction.execute("SELECT coalesce(max(id), 0) FROM prompts")
    rows = range(last + 1, last + 1 + len(prompts))

    def numbered() -> Iterator[tuple[int, int, str]]:
        return ((row, *prompt) for row, prompt in zip(rows, prompts, strict=True))

    transaction.executemany("INSERT INTO prompts (id, character, text) VALUES (?, ?, ?)", numbered())
    transaction.executemany("INSERT INTO prompts_fts (rowid, character, text) VALUES (?, ?, ?)", numbered())
    return rows


def insert_image(
    transaction: Transaction, values: Mapping[str, object], event: str, now: int, *, detail: str = "{}"
) -> None:
    """Make the row of an image that no job asks for any more, with the event that its history begins with."""
    image = transaction.insert("images", values)
    transaction.insert("events", {"image": image, "n": 1, "at": now, "event": event, "detail": detail})


def plan_to_json(images: Sequence[PlannedImage]) -> str:
    """Keep the images of a job that cannot be numbered yet; each different prompt is written once."""
    prompts = {prompt: place for place, prompt in enumerate(dict.fromkeys(image.prompt for image in images))}
    return json.dumps({"prompts": list(prompts), "images": [[prompts[image.prompt], image.seed] for image in images]})


def plan_from_json(text: str) -> list[PlannedImage]:
    """Read back what `plan_to_json` wrote."""
    plan = json.loads(text)
    return [PlannedImage(plan["prompts"][place], seed) for place, seed in plan["images"]]
