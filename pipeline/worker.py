"""Hands: carry one image from where its last recorded step left it to a picture in the spool, or to its end.

The way is the same for a new image and for one found half-done after a crash. Every answer of a back end is turned
into one event of `lifecycle` here, and into what the lane should learn from it.
"""

import uuid
from collections.abc import Callable
from dataclasses import asdict

import structlog
import trio
from structlog.contextvars import bound_contextvars

from pipeline import picture, room, spacing
from pipeline.clock import Clock, now
from pipeline.errors import (
    AttemptFailed,
    BackendError,
    InvalidRequest,
    NotAccepted,
    NotWorthRepeating,
    RepeatedOutput,
    StaleImage,
    Unavailable,
)
from pipeline.lane import Lane, Slot
from pipeline.ledger import Ledger
from pipeline.lifecycle import (
    AT_BACKEND,
    Absent,
    Accepted,
    AttemptLost,
    Cancelled,
    Doubtful,
    Event,
    Fetched,
    GaveUp,
    Submitting,
)
from pipeline.model import Artifact, Fault, Image, Picture, Request, State, Submission
from pipeline.outcomes import defect, lost, names_of, request_for, unsent
from pipeline.patience import Patience
from pipeline.pauses import Pauses
from pipeline.ports import CannotTell, NotThere
from pipeline.spool import Spool

log = structlog.get_logger(__name__)

LAST_LOOK = 30.0  # seconds that the look after a time-out may take, its download included
ASIDE = 30.0  # seconds that finding out what became of a submission may take besides waiting for its end
IN_VAIN = 5  # times that it is asked at least before it counts as not to be found out
FORSAKEN = 3  # failures allowed where no lane says how many
PARTING = 10.0  # seconds that cancelling at the back end may take
SEARCH = 0.75  # seconds that looking for what is to be cancelled may take


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
                    follow = self._collect if image.state is State.SUBMITTED else self._settle
                    with bound_contextvars(**names_of(image)):
                        image = await self.record(image, await follow(image, lane, slot))
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
            log.info("image_trouble", **names_of(after, image), step=type(event).__name__, **asdict(after.fault))
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

    async def withdraw(self, image: Image, lane: Lane | None) -> tuple[Image, bool]:
        """Cancel an image, at its back end first where it is at one; one that cannot be reached is let go.

        Returns:
            The image, and whether nothing of it goes on at a back end, as far as that can be known.
        """
        if lane is None:
            return await self._close(image, Cancelled()), image.state not in AT_BACKEND
        submission, told = image.submission, True
        if image.state in {State.SUBMITTING, State.UNCLEAR}:
            told = False
            with trio.move_on_after(SEARCH):
                found = await self._ask(image, lane)
                submission = found if isinstance(found, Submission) else None
                told = isinstance(found, NotThere)
        if submission is not None:
            with bound_contextvars(**names_of(image)):
                told = await self._part(submission, lane)
        return await self._close(image, Cancelled()), told

    async def give_up(self, image: Image, fault: Fault) -> Image:
        """End an image that no back end of its job will ever make."""
        return await self._close(image, GaveUp(fault))

    async def forsake(self, image: Image) -> Image:
        """End the waiting for an image whose back end the configuration no longer names.

        Until its time is over somebody may see the missing entry and put it back.
        """
        fault = Fault("lost", f"back end {image.backend} is no longer configured")
        if image.submission is None:
            return await self._close(image, Doubtful(fault, FORSAKEN))
        log.warning("backend_missing", **names_of(image))
        await trio.sleep(max(image.submission.deadline - self._clock(), 0) / 1000)
        return await self._close(image, AttemptLost(fault, FORSAKEN))

    async def _close(self, image: Image, event: Event) -> Image:
        try:
            return await self.record(image, event)
        except StaleImage:
            return self._ledger.image(image.row)

    async def _send(self, image: Image, lane: Lane, slot: Slot) -> Image:
        ticket = str(uuid.uuid4())
        image = await self.record(image, Submitting(lane.name, ticket))
        with trio.CancelScope(shield=True) as scope:
            self._going_out[scope] = image.job_id
            try:
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

    async def _settle(self, image: Image, lane: Lane, slot: Slot) -> Event:
        try:
            found = await self._ask(image, lane)
        except Exception as error:  # noqa: BLE001 - as above; what cannot be found out is made again
            found = CannotTell(defect(error, image).message)
        match found:
            case Submission():
                lane.accepted()
                return Accepted(found)
            case NotThere():
                return Absent()
            case CannotTell(reason):
                unknown = Fault("acceptance_unknown", f"whether {lane.name} took it is not known: {reason}")
                there = await lane.there()
                if there and image.state is State.UNCLEAR:
                    lane.doubted(unknown.message)
                return Doubtful(unknown, lane.attempts if there else None)

    async def _ask(self, image: Image, lane: Lane) -> Submission | NotThere | CannotTell:
        """Ask until there is an answer: while the back end is down, the image waits.

        Where it is up and this question alone has failed for as long as an image may take, nobody can tell.
        """
        pauses = Pauses()
        began, failures = trio.current_time(), 0
        while True:
            trouble: NotAccepted
            try:
                with trio.fail_after(1.1 * lane.timeout + ASIDE):
                    return await lane.backend.find(request_for(image, lane))
            except NotAccepted as error:
                trouble = error
            except trio.TooSlowError:
                trouble = Unavailable("it has not answered", code="timed_out")
            failures += 1
            if isinstance(trouble, Unavailable) and not await lane.answers():
                began, failures = trio.current_time(), 0
            elif failures >= IN_VAIN and trio.current_time() - began >= lane.timeout:
                return CannotTell(str(trouble))
            await trio.sleep(pauses.next(trouble.retry_after))
            await lane.up()

    async def _collect(self, image: Image, lane: Lane, slot: Slot) -> Event:
        assert image.submission is not None
        try:
            made = await self._fetch(image, image.submission, lane)
        except (AttemptFailed, NotWorthRepeating, InvalidRequest) as error:
            return lost(error, lane)
        except Exception as error:  # noqa: BLE001 - as above; charged as an attempt, so that it ends
            return AttemptLost(defect(error, image), lane.attempts)
        if made is not None:
            return await self._keep(image, made, lane, slot)
        await self._part(image.submission, lane)
        if lane.moved(image.submission):
            fault = Fault("lost", f"{lane.name} has a new address, and the old one was silent for {lane.timeout:g} s")
        else:
            fault = Fault("timed_out", f"no picture from {lane.name} within {lane.timeout:g} s")
        return AttemptLost(fault, lane.attempts)

    async def _fetch(self, image: Image, submission: Submission, lane: Lane) -> Picture | None:
        """Wait for the picture until the deadline, then look once more; None: the time is really over.

        While the back end is down as a whole nothing can be learnt about the image, so the last look waits for it.
        """
        request = request_for(image, lane)
        given = submission.deadline - submission.accepted_at  # a clock that was put back leaves no more than that
        left = min(submission.deadline - self._clock(), given) / 1000
        if lane.moved(submission):
            return await self._within(max(left, lane.timeout), request, submission, lane)
        made = await self._within(left, request, submission, lane) if left > 0 else None
        while made is None:
            await lane.up()
            made = await self._within(LAST_LOOK, request, submission, lane)
            if made is None and await lane.answers():
                break
        return made

    async def _within(self, seconds: float, request: Request, submission: Submission, lane: Lane) -> Picture | None:
        pauses = Pauses()
        with room.move_on_after(seconds):
            while True:
                try:
                    return await lane.backend.collect(request, submission)
                except NotAccepted as error:
                    room.let_go()
                    if not lane.moved(submission):
                        lane.troubled(error)
                    await trio.sleep(pauses.next(error.retry_after))
                await lane.up()
        return None

    async def _part(self, submission: Submission, lane: Lane) -> bool:
        """Stop a submission at the back end as far as it can be: it costs money as long as it runs.

        Returns:
            Whether the back end heard it.
        """
        with trio.move_on_after(PARTING):
            try:
                await lane.backend.cancel(submission)
            except BackendError as error:
                log.info("cancel_failed", backend=lane.name, remote=submission.remote_id, reason=str(error))
            except Exception:  # a defect of one adapter must not keep the image from going on
                log.exception("cancel_broke", backend=lane.name, remote=submission.remote_id)
            else:
                return True
        return False

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
        return Fetched(Artifact(file=name, **asdict(seen)), gpu_seconds, made.used_embedding)
