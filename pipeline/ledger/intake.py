"""Acceptance: a parsed job becomes rows, once, or is told why not."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.ledger.adopting import claim_shelf
from pipeline.ledger.characters import Character, NotTaken, by_row, resolve
from pipeline.ledger.numbering import number_job, plan_to_json, touch
from pipeline.ledger.rows import job_columns
from pipeline.ledger.transaction import Transaction
from pipeline.ledger.values import Declined, Duplicate, Taken, Verdict
from pipeline.model import Job, Recipe


def accept(transaction: Transaction, jobs: Sequence[Job], now: int) -> list[Verdict]:
    """Take jobs in the order given, which is their arrival order from now on; one that is declined spoils no other."""
    verdicts: list[Verdict] = []
    for job in jobs:
        try:
            with transaction.savepoint():
                verdicts.append(_known(transaction, job) or _take(transaction, job, now))
        except NotTaken as error:
            verdicts.append(Declined(str(error)))
        except (UnicodeEncodeError, OverflowError) as error:
            verdicts.append(Declined(f"a value in it cannot be kept: {error}"))
    return verdicts


def _known(transaction: Transaction, job: Job) -> Verdict | None:
    known = transaction.execute("SELECT digest FROM jobs WHERE id = ?", (job.id,)).fetchone()
    if known is None:
        return None
    if known[0] == job.digest:
        return Duplicate(job.id)
    return Declined(
        f'the id "{job.id}" was used before, by a job with different content, and makes nothing a second time; '
        "give this job another id, or none"
    )


def _take(transaction: Transaction, job: Job, now: int) -> Taken:
    character = resolve(transaction, job, now)
    seq = _insert(transaction, job, character, now)
    for label in set(job.labels):
        transaction.execute("INSERT INTO labels (character, label, job) VALUES (?, ?, ?)", (character.row, label, seq))
    numbered = character.owner_slug is not None
    if numbered:
        claim_shelf(transaction, character, now)
        number_job(transaction, seq, by_row(transaction, character.row), job.images, now)
    else:
        touch(transaction, character.row, character.owner)
    return Taken(job.id, numbered)


def _insert(transaction: Transaction, job: Job, character: Character, now: int) -> int:
    values = {
        **job_columns(job, _with_embedding(job.recipe, character)),
        "owner": character.owner,
        "character": character.row,
        "quantity": len(job.images),
        "queued": len(job.images),
        "plan": None if character.owner_slug is not None else plan_to_json(job.images),
        "created_at": now,
    }
    row = transaction.execute(
        f"INSERT INTO jobs ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", tuple(values.values())
    ).lastrowid
    assert row is not None
    return row


def _with_embedding(recipe: Recipe, character: Character) -> Recipe:
    """Decided now, since a later job may give the character another one before this job is numbered."""
    if recipe.no_embedding or recipe.embedding is not None:
        return recipe
    return replace(recipe, embedding=character.embedding)
