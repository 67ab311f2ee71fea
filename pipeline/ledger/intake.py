"""Acceptance: parsed jobs become rows, once, or are told why not."""

import json
from collections.abc import Sequence
from typing import Any

from pipeline.ledger.adopting import claim_shelf
from pipeline.ledger.characters import Character, NotTaken, by_row, resolve
from pipeline.ledger.counters import touch
from pipeline.ledger.numbering import Numbering, plan_to_json
from pipeline.ledger.rows import job_columns
from pipeline.ledger.transaction import Transaction
from pipeline.ledger.values import Declined, Duplicate, Taken, Verdict
from pipeline.model import Job, Recipe

_NOT_KEPT = (UnicodeEncodeError, OverflowError)  # values that SQLite cannot hold


def accept(transaction: Transaction, jobs: Sequence[Job], now: int) -> list[Verdict]:
    """Take jobs in the order given, which is their arrival order from now on; one that is declined spoils no other.

    Their rows are written all at once. Where one is declined, each half is taken for itself, down to that one.
    """
    try:
        with transaction.savepoint():
            batch = _Batch(transaction, jobs, now)
            verdicts = [batch.take(job) for job in jobs]
            batch.write()
            return verdicts
    except (NotTaken, *_NOT_KEPT) as error:
        if len(jobs) == 1:
            return [Declined(f"a value in it cannot be kept: {error}" if isinstance(error, _NOT_KEPT) else str(error))]
    half = len(jobs) // 2
    return accept(transaction, jobs[:half], now) + accept(transaction, jobs[half:], now)


class _Batch:
    """Jobs that are taken together: decided about one by one, written with one statement for each table."""

    def __init__(self, transaction: Transaction, jobs: Sequence[Job], now: int) -> None:
        self._transaction = transaction
        self._now = now
        self._digests = _digests(transaction, [job.id for job in jobs])
        ((self._last,),) = transaction.execute("SELECT coalesce(max(seq), 0) FROM jobs")
        self._jobs: list[dict[str, Any]] = []
        self._labels: list[tuple[int, str, int]] = []
        self._numbering = Numbering()

    def take(self, job: Job) -> Verdict:
        """Decide about a job; of what it needs only its character is written.

        Raises:
            NotTaken: the character belongs to another owner.
        """
        if job.id in self._digests:
            return _once_more(job, self._digests[job.id])
        self._digests[job.id] = job.digest
        character = self._character(job)
        self._last += 1
        self._jobs.append(
            {
                **job_columns(job, _with_embedding(job.recipe, character)),
                "seq": self._last,
                "owner": character.owner,
                "character": character.row,
                "quantity": len(job.images),
                "queued": len(job.images),
                "created_at": self._now,
                **self._numbers(job, character),
            }
        )
        self._labels += ((character.row, label, self._last) for label in set(job.labels))
        return Taken(job.id)

    def write(self) -> None:
        """Write what the jobs need.

        Raises:
            UnicodeEncodeError, OverflowError: a value cannot be kept.
        """
        if not self._jobs:
            return
        columns = self._jobs[0]
        self._transaction.executemany(
            f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            [tuple(job.values()) for job in self._jobs],
        )
        self._transaction.executemany("INSERT INTO labels (character, label, job) VALUES (?, ?, ?)", self._labels)
        self._numbering.write(self._transaction, self._now)

    def _character(self, job: Job) -> Character:
        character = resolve(self._transaction, job, self._now)
        if character.highest or character.owner_slug is None:
            return character
        claim_shelf(self._transaction, character, self._now)
        return by_row(self._transaction, character.row)

    def _numbers(self, job: Job, character: Character) -> dict[str, Any]:
        """The columns that tell a job's numbers, or that it waits for them."""
        if character.owner_slug is None:
            touch(self._transaction, character.row, character.owner)
            return {"first_number": None, "plan": plan_to_json(job.images), "planned": 0, "version": 0}
        first = self._numbering.give(self._last, character, job.images)
        return {"first_number": first, "plan": None, "planned": len(job.images), "version": 1}


def _digests(transaction: Transaction, job_ids: Sequence[str]) -> dict[str, str]:
    """What the jobs said that had one of these ids before."""
    asked = json.dumps(job_ids)
    return dict(
        transaction.execute("SELECT id, digest FROM jobs WHERE id IN (SELECT value FROM json_each(?))", (asked,))
    )


def _once_more(job: Job, digest: str) -> Verdict:
    if digest == job.digest:
        return Duplicate()
    return Declined(
        f'the id "{job.id}" was used before, by a job with different content, and makes nothing a second time; '
        "give this job another id, or none"
    )


def _with_embedding(recipe: Recipe, character: Character) -> Recipe:
    """Decided now, since a later job may give the character another one before this job is numbered."""
    if recipe.no_embedding or recipe.embedding is not None or character.embedding is None:
        return recipe
    return recipe._replace(embedding=character.embedding)
