"""The notice board: what `status` shows of back ends and troubles, and what queued jobs are said to wait for."""

from collections.abc import Callable, Mapping, Sequence

import structlog
import trio

from pipeline.errors import IndexTrouble
from pipeline.ledger import Ledger
from pipeline.making.lane import Lane
from pipeline.making.turns import Pool, Turns, Waiting
from pipeline.model import LaneState, Trouble
from pipeline.tools.brake import Bell, Brake

log = structlog.get_logger(__name__)

EVERY = 2.0  # seconds between two looks at what is busy
SETTLING = 0.25  # seconds that changes may gather
BATCH = 500  # jobs told in one transaction


class Board:
    """Keeps the index told, without writing anything twice."""

    def __init__(self, ledger: Ledger, turns: Turns, lanes: Mapping[str, Lane], brake: Brake) -> None:
        self._ledger = ledger
        self._turns = turns
        self._lanes = lanes
        self._brake = brake
        self._shown: dict[str, LaneState] = {}
        self._troubles: list[Callable[[], Trouble | None]] = []
        self._troubles_shown: list[Trouble] | None = None
        self.told: Callable[[Sequence[Trouble]], None] = lambda _: None  # what also works while the index is full
        self._anything_noted = False
        self.bell = Bell()
        brake.listen(self.bell.ring)
        for lane in lanes.values():
            lane.changed = self.bell.ring

    def watch(self, trouble: Callable[[], Trouble | None]) -> None:
        """Tell of one more thing that may be in trouble."""
        self._troubles.append(trouble)

    async def run(self) -> None:
        """Look at every change, and now and then; never returns."""
        while True:
            try:
                await self.look()
            except IndexTrouble as error:
                log.debug("board_not_written", reason=str(error))
            await self.bell.wait(EVERY)
            await trio.sleep(SETTLING)

    async def look(self) -> None:
        """Write what has changed.

        Raises:
            IndexTrouble: the index cannot be written.
        """
        troubles = [trouble for ask in self._troubles if (trouble := ask()) is not None]
        self.told(troubles)
        for name, lane in self._lanes.items():
            state = lane.state(waiting=self._turns.images_for(name))
            if self._shown.get(name) != state:
                await self._ledger.notes.lane(state)
                self._shown[name] = state
        if self._troubles_shown is None:
            await self._ledger.notes.forget(self._lanes)
        if self._troubles_shown != troubles:
            await self._ledger.notes.troubles(troubles)
            self._troubles_shown = troubles
        await self._tell_jobs()

    def reason(self, pool: Pool) -> str | None:
        """Say why nothing of a pool starts anywhere; None while one of its back ends may."""
        lanes = [self._lanes.get(name) for name in pool]
        reasons = [
            f"back end {name} is not configured" if lane is None else lane.reason
            for name, lane in zip(pool, lanes, strict=True)
        ]
        if self._brake.reason is not None and any(lanes):
            return self._brake.reason
        return None if None in reasons else "; ".join(str(reason) for reason in reasons)

    def hindrances(self) -> list[str]:
        """All that anything waits for at this moment, in words, each once."""
        reasons = {reason for pool in self._turns.pools() if (reason := self.reason(pool)) is not None}
        troubles = [trouble for ask in self._troubles if (trouble := ask()) is not None]
        told = " ".join(reasons)
        return sorted(reasons | {f"{one.what}: {one.reason}" for one in troubles if one.reason not in told})

    async def _tell_jobs(self) -> None:
        reasons = {pool: self.reason(pool) for pool in self._turns.pools()}
        if not any(reasons.values()) and not self._anything_noted:
            return
        untold: dict[str | None, list[Waiting]] = {}
        for job in self._turns.waiting():
            reason = reasons.get(job.pool)
            if job.noted != reason:
                untold.setdefault(reason, []).append(job)
        for reason, jobs in untold.items():
            for start in range(0, len(jobs), BATCH):
                batch = jobs[start : start + BATCH]
                await self._ledger.notes.jobs([job.turn.job_id for job in batch], reason)
                for job in batch:
                    job.noted = reason
        self._anything_noted = any(reasons.values())
