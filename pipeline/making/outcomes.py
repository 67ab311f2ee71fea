"""What an image asks of a back end, and which event the back end's answer comes to."""

from typing import Any

import structlog
import trio

from pipeline.errors import (
    AcceptanceUnknown,
    AttemptFailed,
    BackendError,
    InvalidRequest,
    NotAccepted,
    NotWorthRepeating,
)
from pipeline.lifecycle import AcceptanceLost, AttemptLost, Event, GaveUp, Refused
from pipeline.making.lane import Lane
from pipeline.model import Fault, Image, Request

log = structlog.get_logger(__name__)


def unsent(error: Exception, image: Image, lane: Lane) -> Event:
    """What a submission without a result comes to; the lane learns from it."""
    event: Event
    if isinstance(error, trio.TooSlowError):
        error = AcceptanceUnknown(f"{lane.name} gave no answer within {lane.timeout:g} s", code="timed_out")
    match error:
        case NotAccepted():
            lane.refused(error)
            event = Refused(fault_of(error))
        case AcceptanceUnknown():
            lane.refused(error)
            event = AcceptanceLost(fault_of(error))
        case InvalidRequest():
            event = GaveUp(fault_of(error))
        case AttemptFailed() | NotWorthRepeating():
            lane.accepted()
            event = lost(error, lane)
        case _:
            event = AcceptanceLost(defect(error, image))
    return event


def request_for(image: Image, lane: Lane) -> Request:
    """What an image under a ticket asks of its back end."""
    assert image.ticket is not None
    return Request(
        ticket=image.ticket,
        prompt=image.prompt,
        seed=image.seed,
        recipe=image.recipe,
        images_in_job=image.quantity,
        timeout=lane.timeout,
        sent_to=image.sent_to if image.sent_to is not None and lane.moved(image.sent_to) else None,
    )


def lost(error: BackendError, lane: Lane, gpu_seconds: float = 0.0) -> Event:
    """The end of an accepted attempt: worth another one, or not."""
    spent = gpu_seconds or error.gpu_seconds
    if isinstance(error, AttemptFailed):
        return AttemptLost(fault_of(error), lane.attempts, spent)
    return GaveUp(fault_of(error), paid=True, gpu_seconds=spent)


def fault_of(error: BackendError) -> Fault:
    """What the index keeps of an error."""
    return Fault(error.code, str(error))


def defect(error: Exception, image: Image) -> Fault:
    """What the index keeps of an exception that no adapter means to raise; the log has all of it."""
    log.error("adapter_broke", **names_of(image), exc_info=error)
    return Fault("unexpected", f"the adapter of {image.backend} broke with {type(error).__name__}; see the log")


def names_of(image: Image, before: Image | None = None) -> dict[str, Any]:
    """What every log line about an image names; a step that ended a submission (`before` it) names it still."""
    submission = image.submission or (before.submission if before is not None else None)
    remote = submission.remote_id if submission is not None else None
    return {"job": image.job_id, "image": image.filename, "backend": image.backend, "remote": remote}
