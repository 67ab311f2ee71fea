"""Tallies and revisions: what steps only add to, owed by each and paid once for a commit."""

from pipeline.ledger.transaction import Transaction

_TALLY = "INSERT INTO tallies (n, character, status) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
_TOUCH_CHARACTER = "UPDATE characters SET revision = revision + ? WHERE row = ?"
_TOUCH_OWNER = "UPDATE owners SET revision = revision + ? WHERE row = ?"


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
