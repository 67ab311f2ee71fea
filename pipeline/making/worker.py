"""Hands: carry one image from where its last recorded step left it to a picture in the spool, or to its end.

The way is the same for a new image and for one found half-done after a crash. Every answer of a back end is turned
into one event of `lifecycle` here, and into what the lane should learn from it.
"""

import uuid
from collections.abc import Callable

import structlog
import trio
from structlog.contextvars import bound_contextvars

from pipeline import picture
from pipeline.errors import (
    AttemptFailed,
    InvalidRequest,
    NotWorthRepeating,
    OutOfTime,
    RepeatedOutput,
    StaleImage,
)
from pipeline.ledger import Ledger
from pipeline.lifecycle import (
    AT_BACKEND,
    Absent,
    Accepted,
    AttemptLost,
    Doubtful,
    Event,
    Fetched,
    GaveUp,
    Submitting,
)
from pipeline.making import asking
from pipeline.making.lane import Lane, Slot
from pipeline.making.outcomes import defect, lost, names_of, request_for, unsent
from pipeline.model import Artifact, Fault, Image, Picture, State, Submission
from pipeline.ports import CannotTell, NotThere
from pipeline.spool import Spool
from pipeline.tools import room, spacing
from pipeline.tools.clock import Clock, now
from pipeline.tools.patience import Patience

log = structlog.get_logger(__name__)

FETCHED_AGAIN = 1.0  # seconds until bytes that are no picture are fetched a second time
SPARED = 5  # times `attempts`: an image that outages left in doubt more often may well be their cause
FORSAKEN = 3  # failures allowed where no lane says how many


class Worker:
    """Does what is due for an image at a back end; holds no image and no state beyond the submissions under way."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        patience: Patience,
        *,
        clock: Clock = now,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._patience = patience
        self.recorded: Callable[[Image], None] = lambda _: None  # told of every recorded step, after the fact
        self._clock = clock
        self._going_out: dict[trio.CancelScope, str] = {}

    async def carry(self, image: Image, lane: Lane, slot: Slot) -> Image:
        """Bring an image as far as this back end brings it; the slot is freed as soon as the bytes are here.

        Returns:
            The image in the spool, given up, ended, or `planned` again for another turn.
        """
        try:
            with self._spool.room.hold():
                if image.state is State.PLANNED:
                    with bound_contextvars(**names_of(image) | {"backend": lane.name}):
                        image = await self._send(image, lane, slot)
                while image.state in AT_BACKEND:
                    with bound_contextvars(**names_of(image)):
                        submitted = image.state is State.SUBMITTED
                        event = await (self._collect(image, lane, slot) if submitted else self._settle(image, lane))
                        image = await self.record(image, event)
        except StaleImage:  # somebody cancelled it meanwhile
            image = self._ledger.image(image.row)
        return image

    async def record(self, image: Image, event: Event) -> Image:
        """Write a step down, waiting for room on the disk where there is none.

        Raises:
            StaleImage: the row has moved on since.
        """
        try:
            after = await self._patience.until_done("the index", lambda: self._ledger.record(image, event))
        except RepeatedOutput as repeated:
            assert isinstance(event, Fetched)
            await self._patience.until_done("the spool", lambda: self._spool.drop(event.artifact.file))
            fault = Fault("repeated_output", str(repeated))
            return await self.record(image, GaveUp(fault, paid=True, gpu_seconds=event.gpu_seconds))
        if after.fault is not None and after.fault != image.fault:
            log.info("image_trouble", **names_of(after, image), step=type(event).__name__, **after.fault._asdict())
        else:
            log.debug("image_step", **names_of(after, image), step=type(event).__name__)
        self.recorded(after)
        return after

    def hurry(self, seconds: float, job_id: str | None = None) -> None:
        """Allow submissions under way (all, or those of one job) only so much longer.

        They are shielded from cancellation until then: to drop a request whose answer is on its way would mean to
        pay for it twice.
        """
        for scope, of_job in self._going_out.items():
            if job_id in {None, of_job}:
                scope.deadline = min(scope.deadline, trio.current_time() + seconds)

    async def end(self, image: Image, event: Event) -> Image:
        """Record what ends an image; where somebody else's step came first, that one stands."""
        try:
            return await self.record(image, event)
        except StaleImage:
            return self._ledger.image(image.row)

    async def forsake(self, image: Image) -> Image:
        """End the waiting for an image whose back end the configuration no longer names.

        Until its time is over somebody may see the missing entry and put it back.
        """
        fault = Fault("lost", f"back end {image.backend} is no longer configured")
        if image.submission is None:
            return await self.end(image, Doubtful(fault, FORSAKEN))
        log.warning("backend_missing", **names_of(image))
        await trio.sleep(max(asking.seconds_left(image.submission, self._clock), 0.0))
        return await self.end(image, AttemptLost(fault, FORSAKEN))

    async def _send(self, image: Image, lane: Lane, slot: Slot) -> Image:
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True) as scope:  # from before the record, so that `hurry` misses none
            self._going_out[scope] = image.job_id
            try:
                image = await self.record(image, Submitting(lane.name, str(uuid.uuid4()), lane.base_url))
                image = await self.record(image, await self._submit(image, lane, slot))
            finally:
                del self._going_out[scope]
        await trio.lowlevel.checkpoint_if_cancelled()
        return image

    async def _submit(self, image: Image, lane: Lane, slot: Slot) -> Event:
        began = trio.current_time()
        request = request_for(image, lane)
        try:
            with room.fail_after(lane.timeout), spacing.kept(slot.spacings):
                answer = await lane.backend.submit(request)
        except Exception as error:  # noqa: BLE001 - what no adapter means to raise must not end the others' work
            return unsent(error, image, lane)
        lane.accepted()
        if isinstance(answer, Submission):
            return Accepted(answer)
        lane.pace.learned(trio.current_time() - began)
        return await self._keep(image, answer, lane, slot)

    async def _settle(self, image: Image, lane: Lane) -> Event:
        there = await lane.there()  # asked first: once it is found, the outage is over
        limit = lane.attempts if there or image.doubtful >= SPARED * lane.attempts else None
        try:
            found = await asking.find(request_for(image, lane), lane)
        except Exception as error:  # noqa: BLE001 - as above; what cannot be found out is made again
            found = CannotTell(defect(error, image).message)
        match found:
            case Submission():
                lane.accepted()
                return Accepted(found)
            case NotThere():
                return Absent(limit)
            case CannotTell(reason):
                unknown = Fault("acceptance_unknown", f"whether {lane.name} took it is not known: {reason}")
                if limit is not None and image.state is State.UNCLEAR:
                    lane.doubted(unknown.message)
                return Doubtful(unknown, limit)

    async def _collect(self, image: Image, lane: Lane, slot: Slot) -> Event:
        made = await self._made(image, lane)
        if not isinstance(made, Picture):
            return made
        event = await self._keep(image, made, lane, slot)
        if not isinstance(event, AttemptLost):
            return event
        room.let_go()
        await trio.sleep(FETCHED_AGAIN)  # it may have been damaged on its way, and what is there is not bought again
        made = await self._made(image, lane)
        return await self._keep(image, made, lane, slot) if isinstance(made, Picture) else event

    async def _made(self, image: Image, lane: Lane) -> Picture | Event:
        """Wait for the picture; return what it came to where there is none."""
        assert image.submission is not None
        try:
            return await asking.collect(request_for(image, lane), image.submission, lane, self._clock)
        except OutOfTime as error:
            await asking.cancel(image.submission, lane)
            return lost(error, lane)
        except (AttemptFailed, NotWorthRepeating, InvalidRequest) as error:
            return lost(error, lane)
        except Exception as error:  # noqa: BLE001 - as above; charged as an attempt, so that it ends
            return AttemptLost(defect(error, image), lane.attempts)

    async def _keep(self, image: Image, made: Picture, lane: Lane, slot: Slot) -> Event:
        gpu_seconds = made.gpu_seconds or 0.0
        await room.claim(len(made.data))
        slot.release()
        name = f"{image.row}-{image.ticket}.img"
        try:
            seen = await self._patience.until_done(
                "the spool", lambda: self._spool.write_examined(name, made.data, picture.examine)
            )
        except (AttemptFailed, NotWorthRepeating) as error:
            return lost(error, lane, gpu_seconds)
        room.let_go()
        return Fetched(Artifact(file=name, **seen._asdict()), gpu_seconds, made.used_embedding)
