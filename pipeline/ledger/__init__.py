"""The strong-room: the only writer of the SQLite index. Numbers are given out here."""

from pipeline.ledger.ledger import Ledger, open_ledger
from pipeline.ledger.values import Declined, Duplicate, Notice, OwnerToAdopt, Taken, Turn, Verdict

__all__ = [
    "Declined",
    "Duplicate",
    "Ledger",
    "Notice",
    "OwnerToAdopt",
    "Taken",
    "Turn",
    "Verdict",
    "open_ledger",
]
