"""Who is still to be told that a job has ended: a row for each end, written in the transaction that ends it."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from pipeline.ledger.transaction import Transaction
from pipeline.ledger.values import Notice
from pipeline.ledger.writer import Writer

Ask = Callable[..., list[Any]]

_DUE = """
SELECT notices.id, jobs.id, jobs.notify, notices.attempts, notices.tried_at FROM notices
JOIN jobs ON jobs.seq = notices.job AND jobs.filed = 1
WHERE receiver = ? AND next_at <= ? ORDER BY next_at, notices.seq LIMIT ?"""
# By way of the index from one receiver to the next, however many notices each has.
_RECEIVERS = """
WITH RECURSIVE known (receiver) AS (
    SELECT min(receiver) FROM notices WHERE next_at IS NOT NULL
    UNION ALL
    SELECT (SELECT min(receiver) FROM notices WHERE next_at IS NOT NULL AND notices.receiver > known.receiver)
    FROM known WHERE known.receiver IS NOT NULL
) SELECT receiver FROM known WHERE receiver IS NOT NULL"""
_STILL_MADE_AGAIN = "SELECT 1 FROM images WHERE job = ? AND standing IS NOT NULL LIMIT 1"


def ended(transaction: Transaction, job: int, now: int) -> None:
    """Note that a job has ended, where somebody wants to be told."""
    ((url,),) = transaction.execute("SELECT notify FROM jobs WHERE seq = ?", (job,)).fetchall()
    if url is not None:
        transaction.execute(
            "INSERT INTO notices (id, job, receiver, ended_at, next_at) VALUES (?, ?, ?, ?, ?)",
            (f"msg_{secrets.token_hex(16)}", job, urlsplit(url).netloc.lower(), now, now),
        )


def made_again(transaction: Transaction, job: int, now: int) -> None:
    """Note the end of a retry: once nothing of an ended job is being made again any more."""
    if not transaction.execute(_STILL_MADE_AGAIN, (job,)).fetchall():
        ended(transaction, job, now)


class Outbox:
    """The notices, for the stage that sends them."""

    def __init__(self, writer: Writer, ask: Ask) -> None:
        self._writer = writer
        self._ask = ask

    def receivers(self) -> list[str]:
        """Hosts (with ports, where addresses name them) that somebody is still to be told at."""
        return [receiver for (receiver,) in self._ask(_RECEIVERS)]

    def due(self, receiver: str, now: int, limit: int) -> list[Notice]:
        """What a receiver is to be told by now, longest due first; a job's result is filed before."""
        return [Notice(*row) for row in self._ask(_DUE, receiver, now, limit)]

    def next_at(self, receiver: str, now: int) -> int | None:
        """The moment when more becomes due there, in milliseconds; None: nothing does by itself."""
        sql = "SELECT min(next_at) FROM notices WHERE receiver = ? AND next_at > ?"
        return next((moment for (moment,) in self._ask(sql, receiver, now)), None)

    def delivered(self, notice: Notice, now: int) -> Awaitable[None]:
        """The receiver has taken it."""
        return self._tried(notice, now, delivered_at=now)

    def failed(self, notice: Notice, now: int, trouble: str, next_at: int | None) -> Awaitable[None]:
        """The receiver has not taken it; `next_at` None: it is given up."""
        return self._tried(notice, now, next_at=next_at, trouble=trouble)

    async def _tried(
        self,
        notice: Notice,
        now: int,
        *,
        next_at: int | None = None,
        delivered_at: int | None = None,
        trouble: str | None = None,
    ) -> None:
        sql = (
            "UPDATE notices SET attempts = attempts + 1, tried_at = coalesce(tried_at, ?), next_at = ?, "
            "delivered_at = ?, trouble = ? WHERE id = ?"
        )
        values = (now, next_at, delivered_at, trouble, notice.id)
        await self._writer.do(lambda transaction: transaction.execute(sql, values))
