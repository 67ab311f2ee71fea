"""The stages between acceptance and the result file, put together over whatever parts they are given.

`daemon` gives them what the configuration says; a test gives them scripted back ends, a store and a clock.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
import trio

from pipeline.adoption import Adoption
from pipeline.board import Board
from pipeline.catalogue import Catalogue
from pipeline.ending.clearing import Clearing
from pipeline.ending.filing import Filing
from pipeline.ending.notifying import Notifying, Post
from pipeline.ending.webhook import Poster
from pipeline.errors import IndexTrouble
from pipeline.ledger import Ledger
from pipeline.lifecycle import ENDS, TO_STORE
from pipeline.making.lane import Lane
from pipeline.making.runner import SHUTDOWN, Runner
from pipeline.making.worker import Worker
from pipeline.model import Image, State, Trouble
from pipeline.ports import Store
from pipeline.spool import Spool
from pipeline.storing import PARALLEL, Storing
from pipeline.tools import sizes
from pipeline.tools.brake import Brake
from pipeline.tools.clock import Clock, now
from pipeline.tools.patience import Patience
from pipeline.tools.threads import RunSync
from pipeline.weather import Weather

log = structlog.get_logger(__name__)

RELEASED_AT = 0.9  # of the spool's limit: starting and stopping at the same mark would flutter


@dataclass(frozen=True, slots=True)
class Parts:
    """What the stages work with; whoever opened these closes them."""

    ledger: Ledger
    catalogue: Catalogue
    spool: Spool
    store: Store
    lanes: Mapping[str, Lane]
    brake: Brake
    jobs: Path
    clock: Clock = now
    run_sync: RunSync = trio.to_thread.run_sync
    uploads: int = PARALLEL
    draw: Callable[[], float] = random.random  # in [0, 1), for jitter
    post: Post = field(default_factory=lambda: Poster().post)
    keep_done: float | None = None  # seconds that files of ended jobs are kept; None: for good


class Stages:
    """All loops over the index, woken by one another."""

    def __init__(self, parts: Parts) -> None:
        self._ledger = parts.ledger
        self._lanes = parts.lanes
        self.brake = parts.brake
        patience = Patience(parts.brake, draw=parts.draw)
        self.weather = Weather(parts.store, parts.brake, draw=parts.draw, clock=parts.clock)
        self.worker = Worker(parts.ledger, parts.spool, patience, clock=parts.clock)
        self.runner = Runner(
            parts.ledger,
            self.worker,
            lanes=parts.lanes,
            patience=patience,
            at_rest=self._pass_on,
            clock=parts.clock,
        )
        self.storing = Storing(
            parts.ledger,
            parts.spool,
            parts.store,
            self.weather,
            patience,
            at_rest=self._pass_on,
            run_sync=parts.run_sync,
            parallel=parts.uploads,
        )
        self.notifying = Notifying(parts.ledger, parts.catalogue, parts.post, draw=parts.draw, clock=parts.clock)
        self.filing = Filing(
            parts.ledger,
            parts.catalogue,
            parts.jobs,
            filed=lambda _: self.notifying.bell.ring(),
            run_sync=parts.run_sync,
        )
        self.clearing = (
            Clearing(parts.ledger, parts.jobs, parts.keep_done, clock=parts.clock, run_sync=parts.run_sync)
            if parts.keep_done is not None
            else None
        )
        self.adoption = Adoption(parts.ledger, parts.store, numbered=self.runner.owner_due, draw=parts.draw)
        self.board = Board(parts.ledger, self.runner.turns, parts.lanes, parts.brake)
        self.board.watch(lambda: self.weather.trouble)
        self.board.watch(partial(self._held, "spool"))
        self.board.watch(partial(self._held, "disk"))
        self.board.watch(self._unfiled)
        self.ended: Counter[State] = Counter()  # how images ended since the start
        self._spool = parts.spool
        self._starting = trio.CancelScope()

    async def run(self, stop: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until `stop`; then start nothing, finish the uploads under way within 10 s, and leave the rest.

        Raises:
            IndexTrouble, SpoolTrouble: the index or the spool cannot be used at the start.
        """
        swept = await self._spool.sweep(self._ledger.spool_files())
        if swept:
            log.info("spool_swept", files=len(swept))
        self._weigh()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.storing.run)
            nursery.start_soon(self.filing.run)
            nursery.start_soon(self.notifying.run)
            if self.clearing is not None:
                nursery.start_soon(self.clearing.run)
            nursery.start_soon(self.adoption.run)
            await nursery.start(self._start)
            nursery.start_soon(self.board.run)
            task_status.started()
            await stop.wait()
            await self._wind_down()
            nursery.cancel_scope.cancel()

    def accepted(self, job_ids: Sequence[str]) -> None:
        """Take note of new jobs; those whose owner was never listed wait for adoption."""
        self.runner.due(*job_ids)
        self.adoption.bell.ring()

    def look_again(self) -> None:
        """Wake the stages behind the back ends: what was cancelled on its way may have arrived, and nobody has told them."""
        self.storing.bell.ring()
        self.filing.bell.ring()

    def settled(self) -> bool:
        """Tell whether nothing at all is left to do for the jobs in the index, as far as it can be asked."""
        try:
            return not self._anything_left()
        except IndexTrouble:
            return False

    def _anything_left(self) -> bool:
        return bool(
            self.runner.under_way
            or self.runner.turns.pools()
            or self.runner.resting
            or self._ledger.owners_to_adopt()
            or self._ledger.to_store(1)
            or self._ledger.to_file(1)
            or self._ledger.at_backends()
            or self._ledger.turns()  # numbered just now, and its turn not taken yet
        )

    def stuck(self) -> bool:
        """Tell whether all that is left waits for something outside that is down, or for room on the disk."""
        try:
            return self.brake.held_by("disk") is not None or self._all_wait()
        except IndexTrouble:
            return True

    def hindrances(self) -> list[str]:
        """All that what is left waits for, in words."""
        return [*self.board.hindrances(), *filter(None, [self.adoption.reason])]

    def _all_wait(self) -> bool:
        if self._at_work() or any(self.board.reason(pool) is None for pool in self.runner.turns.pools()):
            return False
        if self._ledger.to_store(1) and self.weather.reason is None:
            return False
        if self._ledger.to_file(1) and self.filing.trouble is None:
            return False
        return not self._ledger.owners_to_adopt() or self.adoption.reason is not None

    def _at_work(self) -> bool:
        """Tell whether anything under way is more than one more try at a back end that takes nothing."""
        lanes = self._lanes.values()
        if self.runner.under_way > sum(lane.occupied for lane in lanes) or any(
            lane.occupied and lane.takes for lane in lanes
        ):
            return True
        made = {image.backend for image in self._ledger.at_backends() if image.state is State.SUBMITTED}
        return any(lane.occupied and lane.down is None and lane.name in made for lane in lanes)

    def _held(self, cause: str) -> Trouble | None:
        reason = self.brake.held_by(cause)
        return None if reason is None else Trouble(cause, reason)

    def _unfiled(self) -> Trouble | None:
        return None if self.filing.trouble is None else Trouble("results", self.filing.trouble)

    async def _start(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self._starting:
            await self.runner.run(task_status=task_status)

    async def _wind_down(self) -> None:
        with trio.move_on_after(SHUTDOWN):
            self._starting.cancel()
            await self.storing.drain()

    def _pass_on(self, image: Image) -> None:
        """Wake whoever is next to do something for an image."""
        self._weigh()
        if image.state in TO_STORE:
            self.storing.bell.ring()
        elif image.state in ENDS:
            self.ended[image.state] += 1
            self.filing.bell.ring()

    def _weigh(self) -> None:
        """Start nothing while the spool is full, until it has emptied a little."""
        total, limit = self._spool.total, self._spool.limit
        if self._spool.full:
            self.brake.put("spool", f"{sizes.in_words(limit)} wait for the store (spool_limit)")
        elif total <= RELEASED_AT * limit:
            self.brake.put("spool", None)
