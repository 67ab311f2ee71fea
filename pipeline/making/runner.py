"""The corridor: one loop per back end starts images as its lane allows; one nursery per job holds those under way.

At start-up the images that are at a back end already go first: those whose result is forgotten soonest, then those
whose acceptance is unknown. They hold their places in the lanes, so new ones start only where there is room.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

import structlog
import trio

from pipeline.errors import IndexTrouble, NotAccepted
from pipeline.ledger import Ledger, Turn
from pipeline.lifecycle import GaveUp
from pipeline.making.checks import Checks
from pipeline.making.crew import Crew
from pipeline.making.lane import Lane, Slot
from pipeline.making.outcomes import names_of
from pipeline.making.turns import Turns
from pipeline.making.withdrawing import Withdrawal, Withdrawn
from pipeline.making.worker import Worker
from pipeline.model import Image, State
from pipeline.tools.brake import FOREVER, Bell
from pipeline.tools.clock import Clock, now
from pipeline.tools.patience import Patience
from pipeline.tools.pauses import Pauses
from pipeline.tools.spacing import Spacing

log = structlog.get_logger(__name__)

SHUTDOWN = 10.0  # seconds that requests under way may still take when everything ends
GRACE = 1.0  # seconds that a cancelled job's requests under way may still take: people wait for it


class Runner:
    """Starts what is due, and carries on what is under way.

    Args:
        lanes: by back end.
        at_rest: told of each image that this stage is done with, so that the next stage looks.
    """

    def __init__(
        self,
        ledger: Ledger,
        worker: Worker,
        *,
        lanes: Mapping[str, Lane],
        patience: Patience,
        at_rest: Callable[[Image], None],
        clock: Clock = now,
    ) -> None:
        self._ledger = ledger
        self._worker = worker
        self._lanes = lanes
        self._patience = patience
        self._at_rest = at_rest
        self._clock = clock
        self._checks = Checks()
        self._crews: dict[str, Crew] = {}
        self._spacings: dict[str, Spacing] = {}  # by job, for those with a stagger of their own
        self._nursery: trio.Nursery | None = None
        self._resting: set[str] = set()  # jobs that a person has paused
        self._lost_track = Bell()
        self.turns = Turns()
        worker.recorded = self._recorded

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up what is under way, then start what waits; never returns.

        Raises:
            IndexTrouble: the index cannot be read at the start.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for image in self._ledger.at_backends():
                self._resume(image)
            for turn in self._ledger.turns():
                self.join(turn)
            for lane in self._lanes.values():
                nursery.start_soon(lane.keep_watch)
                nursery.start_soon(self._starts, lane)
            task_status.started()
            try:
                await self._keep_track()
            finally:
                self._worker.hurry(SHUTDOWN)

    def due(self, *job_ids: str) -> None:
        """Take note that jobs have images to start: they were accepted, numbered, retried or resumed."""
        self._join_all(partial(self._ledger.turns_among, job_ids))

    def owner_due(self, owner: str) -> None:
        """Take note that an owner's waiting jobs were numbered."""
        self._join_all(partial(self._ledger.turns_of, owner))

    def _join_all(self, ask: Callable[[], list[Turn]]) -> None:
        try:
            turns = ask()
        except IndexTrouble:
            self._lost_track.ring()
            return
        for turn in turns:
            self.join(turn)

    def join(self, turn: Turn) -> None:
        """Let a job stand in line for those of its back ends that there are; for none, it waits where it can be seen."""
        if turn.job_id in self._resting:
            return
        there = tuple(name for name in turn.backends if name in self._lanes)
        turn_here = turn if there in (turn.backends, ()) else replace(turn, backends=there)
        self.turns.join(turn_here, self._free_at(turn))
        self._ring(turn.backends)

    def _free_at(self, turn: Turn) -> float:
        """When a job's own stagger lets it start; after a restart or a rest the index tells when it last did."""
        own = self._spacings.get(turn.job_id)
        if own is not None:
            return own.free_at
        if turn.last_start is None:
            return -FOREVER
        gone = max(0.0, (self._clock() - turn.last_start) / 1000)  # the clock may have been set back
        return trio.current_time() + turn.stagger - gone

    def rest(self, job_id: str) -> None:
        """Start no more images of a job until `wake` (it was paused); those under way go on."""
        self._resting.add(job_id)
        self.turns.leave(job_id)

    def wake(self, job_id: str) -> None:
        """Let a job that rested stand in line again."""
        self._resting.discard(job_id)
        self.due(job_id)

    @property
    def resting(self) -> bool:
        """Whether images wait for nothing but a person's `resume`."""
        return any(self._ledger.turn(job_id) is not None for job_id in self._resting)

    async def cancel(self, job_id: str) -> Withdrawn:
        """End a job's images that no store has been handed yet: those that wait at once, others at their back ends first."""
        self.turns.leave(job_id)
        withdrawal = Withdrawal(job_id, self._ledger, self._worker, self._lanes, self._at_rest)
        await withdrawal.end_planned()
        crew = self._crews.get(job_id)
        if crew is not None:
            self._worker.hurry(GRACE, job_id)
            crew.scope.cancel()
            await crew.gone.wait()
        await withdrawal.end_at_backends()
        await withdrawal.end_planned()  # what came back in between
        self.turns.leave(job_id)
        self._spacings.pop(job_id, None)
        return withdrawal.gone

    @property
    def under_way(self) -> int:
        """How many images are in the hands of this stage."""
        return sum(crew.under_way for crew in self._crews.values())

    async def _keep_track(self) -> None:
        """Read all turns again whenever an index that could not be read has kept one from us."""
        while True:
            await self._lost_track.wait()
            for turn in await self._patience.until_done("the index", self._all_turns):
                self.join(turn)

    async def _all_turns(self) -> list[Turn]:
        await trio.lowlevel.checkpoint()
        return self._ledger.turns()

    async def _starts(self, lane: Lane) -> None:
        while True:
            rest = lane.hindrance()
            if rest is None:
                image = await self._patience.until_done("the index", lambda: self._draw(lane))
                if image is not None:
                    own = self._spacings.get(image.job_id)
                    self._begin(image, lane, lane.start() if own is None else lane.start(own))
                    continue
                rest = self.turns.rest(lane.name, trio.current_time())
            await lane.bell.wait(rest)

    async def _draw(self, lane: Lane) -> Image | None:
        """Find the image whose turn it is; what the lines say is a hint, what the index says is so."""
        await trio.lowlevel.checkpoint()
        while (turn := self.turns.take(lane.name, trio.current_time())) is not None:
            image = self._next_planned(turn.job_id, self._crews.get(turn.job_id))
            if image is not None:
                if turn.stagger:
                    self._spacings.setdefault(turn.job_id, Spacing(turn.stagger))
                return image
            self.turns.leave(turn.job_id)
        return None

    def _next_planned(self, job_id: str, crew: Crew | None) -> Image | None:
        """Read the job's next image; while others are under way, one that comes back from a failed attempt goes to the end."""
        if crew is None:
            found = self._ledger.planned(job_id, 1)
        else:
            found = self._ledger.planned(job_id, 1, crew.last_place)
            found = found or self._ledger.planned(job_id, len(crew.unrecorded) + 1)
            found = [image for image in found if image.row not in crew.unrecorded]
        return found[0] if found else None

    def _resume(self, image: Image) -> None:
        lane = self._lanes.get(image.backend or "")
        elsewhere = lane is not None and image.submission is not None and lane.moved(image.submission.base_url)
        self._begin(image, lane, Slot(None) if lane is None or elsewhere else lane.resume())

    def _begin(self, image: Image, lane: Lane | None, slot: Slot) -> None:
        crew = self._crews.get(image.job_id)
        if crew is None:
            assert self._nursery is not None
            crew = self._crews[image.job_id] = Crew(self._carry)
            self._nursery.start_soon(self._hold, image.job_id, crew)
        crew.hand_over(image, lane, slot)

    async def _hold(self, job_id: str, crew: Crew) -> None:
        try:
            await crew.work()
        finally:
            self._disband(job_id, crew)

    def _disband(self, job_id: str, crew: Crew) -> None:
        if self._crews.get(job_id) is crew:
            del self._crews[job_id]

    async def _carry(self, crew: Crew, image: Image, lane: Lane | None, slot: Slot) -> None:
        pauses = Pauses()
        try:
            with slot:
                while True:
                    try:
                        image = await self._see_through(image, lane, slot)
                        break
                    except IndexTrouble as error:
                        log.warning("image_waits", **names_of(image), reason=str(error))
                    except Exception:  # a defect met by one image must not end the others' work
                        log.exception("image_stuck", **names_of(image))
                    await trio.sleep(pauses.next())
                    image = await self._patience.until_done("the index", partial(self._read_again, image))
        finally:
            if crew.let_go(image):
                self._disband(image.job_id, crew)
        if image.state is State.PLANNED:
            self._return(image)
        self.turns.retire(image.job_id)
        if image.job_id not in self._crews and image.job_id not in self.turns:
            self._spacings.pop(image.job_id, None)
        self._at_rest(image)

    async def _read_again(self, image: Image) -> Image:
        await trio.lowlevel.checkpoint()
        return self._ledger.image(image.row)

    async def _see_through(self, image: Image, lane: Lane | None, slot: Slot) -> Image:
        if lane is None:
            return await self._worker.forsake(image)
        if image.state is State.PLANNED:
            try:
                fault = await self._checks.obstacle(image, lane)
            except NotAccepted as error:
                lane.refused(error)
                return image
            if fault is not None:
                narrowed = self.turns.narrow(image.job_id, without=lane.name)
                return image if narrowed else await self._worker.end(image, GaveUp(fault))
        return await self._worker.carry(image, lane, slot)

    def _return(self, image: Image) -> None:
        """Let an image have another turn."""
        pool = self.turns.give_back(image.job_id)
        if pool is None:
            self.due(image.job_id)
        else:
            self._ring(pool)

    def _ring(self, backends: Iterable[str]) -> None:
        for name in backends:
            if name in self._lanes:
                self._lanes[name].bell.ring()

    def _recorded(self, image: Image) -> None:
        if image.state in {State.SUBMITTED, State.FETCHED}:
            self.turns.accepted(image.job_id)
        crew = self._crews.get(image.job_id)
        if crew is not None:
            crew.unrecorded.discard(image.row)
