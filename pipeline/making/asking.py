"""A back end asked about one submission, patiently: is it there, is its picture done, will it stop.

While the back end is down as a whole nothing can be learnt about any image, so every question waits for it to come back;
while it is up, a question may take as long as an image may, and no longer.
"""

import structlog
import trio

from pipeline.errors import BackendError, NotAccepted, OutOfTime, Unavailable
from pipeline.making.lane import Lane
from pipeline.model import Picture, Request, Submission
from pipeline.ports import CannotTell, NotThere
from pipeline.tools import room
from pipeline.tools.clock import Clock
from pipeline.tools.pauses import Pauses

log = structlog.get_logger(__name__)

LAST_LOOK = 30.0  # seconds that the look after a time-out may take, its download included
ASIDE = 30.0  # seconds that finding out what became of a submission may take besides waiting for its end
IN_VAIN = 5  # times that it is asked at least before it counts as not to be found out
PARTING = 10.0  # seconds that cancelling may take


async def find(request: Request, lane: Lane) -> Submission | NotThere | CannotTell:
    """Ask whether a submission was accepted, until there is an answer.

    Where the back end is up and this question alone has failed for as long as an image may take, nobody can tell.
    """
    pauses = Pauses()
    began, failures = trio.current_time(), 0
    while True:
        trouble: NotAccepted
        try:
            with trio.fail_after(1.1 * lane.timeout + ASIDE):
                return await lane.backend.find(request)
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


async def collect(request: Request, submission: Submission, lane: Lane, clock: Clock) -> Picture:
    """Wait for the picture until the deadline, then look once more.

    Raises:
        OutOfTime: it is really over.
        BackendError: the submission has failed.
    """
    left = seconds_left(submission, clock)
    if lane.moved(submission.base_url):
        made = await _within(max(left, lane.timeout), request, submission, lane)
        if made is None:
            said = f"{lane.name} has a new address, and the old one was silent for {lane.timeout:g} s"
            raise OutOfTime(said, code="lost")
        return made
    made = await _within(left, request, submission, lane) if left > 0 else None
    while made is None:
        await lane.up()
        made = await _within(LAST_LOOK, request, submission, lane)
        if made is None and await lane.answers():
            raise OutOfTime(f"no picture from {lane.name} within {lane.timeout:g} s")
    return made


def seconds_left(submission: Submission, clock: Clock) -> float:
    """Tell how long a submission may still take; a clock that was put back leaves no more than was given at first."""
    given = submission.deadline - submission.accepted_at
    return min(submission.deadline - clock(), given) / 1000


async def _within(seconds: float, request: Request, submission: Submission, lane: Lane) -> Picture | None:
    pauses = Pauses()
    with room.move_on_after(seconds):
        while True:
            try:
                return await lane.backend.collect(request, submission)
            except NotAccepted as error:
                room.let_go()
                if not lane.moved(submission.base_url):
                    lane.troubled(error)
                await trio.sleep(pauses.next(error.retry_after))
            await lane.up()
    return None


async def cancel(submission: Submission, lane: Lane) -> bool:
    """Stop a submission as far as it can be: it costs money as long as it runs. Tell whether the back end heard it."""
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
