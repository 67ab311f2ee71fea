"""What people are shown of the present: what jobs wait for, how the back ends are doing, what else is in trouble."""

import json
from collections.abc import Collection

from pipeline.ledger.reasons import PAUSED, say
from pipeline.ledger.transaction import Transaction
from pipeline.ledger.writer import Writer
from pipeline.model import LaneState, Trouble
from pipeline.tools.clock import Clock


class Notes:
    """Keeps in the index what `status` and the answers tell of the present, so that they need ask nobody.

    All methods raise IndexTrouble where nothing could be written.
    """

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock

    async def jobs(self, job_ids: Collection[str], reason: str | None) -> None:
        """Say in words what unfinished jobs wait for; None: for nothing any more.

        One that a person has paused goes on saying so.
        """
        ids = list(job_ids)
        await self._writer.do(lambda transaction: _note_jobs(transaction, ids, reason))

    async def lane(self, lane: LaneState) -> None:
        """Say how a back end is doing."""
        await self._writer.do(lambda transaction: _note_lane(transaction, lane, self._clock()))

    async def troubles(self, troubles: Collection[Trouble]) -> None:
        """Say what else is in trouble, each since when it has been; what is not named is over."""
        await self._writer.do(lambda transaction: _note_troubles(transaction, troubles, self._clock()))

    async def forget(self, configured: Collection[str]) -> None:
        """Forget what an earlier run said that holds no more: of other back ends, and of what numbered jobs wait for."""
        await self._writer.do(lambda transaction: _forget(transaction, configured))


def _note_jobs(transaction: Transaction, job_ids: Collection[str], reason: str | None) -> None:
    for job_id in job_ids:
        say(transaction, reason, f"id = :job AND id NOT IN {PAUSED}", job=job_id)


def _note_lane(transaction: Transaction, lane: LaneState, now: int) -> None:
    transaction.execute(
        "INSERT OR REPLACE INTO lanes (name, state, slots, busy, waiting, typical, reason, next_try, noted_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*lane, now),
    )


def _forget(transaction: Transaction, configured: Collection[str]) -> None:
    say(transaction, None, f"planned > 0 AND id NOT IN {PAUSED}")
    transaction.execute(
        "DELETE FROM lanes WHERE name NOT IN (SELECT value FROM json_each(?))", (json.dumps([*configured]),)
    )


def _note_troubles(transaction: Transaction, troubles: Collection[Trouble], now: int) -> None:
    transaction.execute(
        "DELETE FROM troubles WHERE what NOT IN (SELECT value FROM json_each(?))",
        (json.dumps([trouble.what for trouble in troubles]),),
    )
    transaction.executemany(
        "INSERT INTO troubles (what, reason, since, next_try) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET reason = excluded.reason, next_try = excluded.next_try",
        [(trouble.what, trouble.reason, now, trouble.next_try) for trouble in troubles],
    )
