"""The law: which events an image's state allows, and where each leads. Pure.

    planned ──Submitting──▶ submitting ──Accepted──▶ submitted ──Fetched──▶ fetched ──StoredAt──▶ done
       ▲                     │ │ │  └────Fetched (services that answer at once)──▲
       ├──Refused, Absent────┘ │ └──AcceptanceLost──▶ unclear ──Accepted──▶ submitted
       ├──Doubtful─────────────┴──────Absent─────────────┘
       └──AttemptLost, Doubtful, Absent, while failures are left
    planned, submitting, unclear, submitted ──GaveUp──▶ given_up ──Drawn──▶ drawn ──StoredAt──▶ placeholder
                                                 (on_failure: fail) └─▶ failed
    planned, submitting, unclear, submitted ──Cancelled──▶ cancelled
    fetched ──Rejected──▶ given_up, or failed on a conflict        drawn ──Rejected──▶ failed
    placeholder, failed ──Retried──▶ planned, or fetched where the paid bytes were kept
    done, placeholder, failed ──Removed──▶ removed

An image that is being made again remembers in `standing` what the gallery goes on showing; giving up or
cancelling brings it back there.
"""

from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol

from pipeline.errors import IllegalStep
from pipeline.model import Artifact, Fault, Image, OnFailure, State, Status, Stored, Submission

ENDS = frozenset({State.DONE, State.PLACEHOLDER, State.FAILED, State.CANCELLED, State.REMOVED})
AT_BACKEND = frozenset({State.SUBMITTING, State.UNCLEAR, State.SUBMITTED})
TO_STORE = frozenset({State.FETCHED, State.GIVEN_UP, State.DRAWN})


def status_of(state: State, standing: State | None) -> Status:
    """Translate to what the outside sees; what is being made again stays what it was."""
    if standing is not None:
        return Status(standing.value)
    if state is State.PLANNED:
        return Status.QUEUED
    return Status(state.value) if state in ENDS else Status.RUNNING


def advance(image: Image, event: "Event") -> Image:
    """Return the image as `event` leaves it.

    Raises:
        IllegalStep: the image's state does not allow this event.
    """
    if image.state not in event.allowed:
        raise IllegalStep(f"{image.public_id} is {image.state}: {type(event).__name__} is no step from there")
    return event.applied_to(image)


class Event(Protocol):
    """Something that happened to an image; each kind below knows where it is allowed and where it leads."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # each kind is a dataclass
    allowed: ClassVar[frozenset[State]]

    def applied_to(self, image: Image) -> Image:
        """Return the image after this event; called by `advance` alone."""
        ...


@dataclass(frozen=True, slots=True)
class Submitting:
    """Committed before the request goes out, so that a crash leaves a trace of it."""

    allowed: ClassVar = frozenset({State.PLANNED})
    backend: str
    ticket: str
    sent_to: str | None = None

    def applied_to(self, image: Image) -> Image:
        return image._replace(state=State.SUBMITTING, backend=self.backend, ticket=self.ticket, sent_to=self.sent_to)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The back end took the submission, or it was found there."""

    allowed: ClassVar = frozenset({State.SUBMITTING, State.UNCLEAR})
    submission: Submission

    def applied_to(self, image: Image) -> Image:
        return image._replace(
            state=State.SUBMITTED, submission=self.submission, sent_to=None, attempts=image.attempts + 1
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """Refused before acceptance: costs nothing, the image waits for another turn."""

    allowed: ClassVar = frozenset({State.SUBMITTING})
    fault: Fault

    def applied_to(self, image: Image) -> Image:
        return _plan_again(image, self.fault)


@dataclass(frozen=True, slots=True)
class AcceptanceLost:
    """The request went out and no usable answer came."""

    allowed: ClassVar = frozenset({State.SUBMITTING})
    fault: Fault

    def applied_to(self, image: Image) -> Image:
        return image._replace(state=State.UNCLEAR, fault=self.fault)


@dataclass(frozen=True, slots=True)
class Absent:
    """Looked up at the back end and certainly not there: it was never accepted.

    Nothing was bought, and yet a request that is answered so each time has to end: it is limited as `Doubtful` is.
    """

    allowed: ClassVar = frozenset({State.SUBMITTING, State.UNCLEAR})
    limit: int | None

    def applied_to(self, image: Image) -> Image:
        if image.state is State.SUBMITTING or self.limit is None:
            return _plan_again(image, image.fault)
        return _after_failure(image, image.fault, self.limit)


@dataclass(frozen=True, slots=True)
class Doubtful:
    """It cannot be looked up: made again with the same seed and counted as maybe paid twice.

    What a crash of ours left in doubt (still `submitting`) uses up no attempt, nor does what an outage did (no `limit`).
    """

    allowed: ClassVar = frozenset({State.SUBMITTING, State.UNCLEAR})
    fault: Fault
    limit: int | None

    def applied_to(self, image: Image) -> Image:
        counted = image._replace(doubtful=image.doubtful + 1)
        if image.state is State.SUBMITTING or self.limit is None:
            return _plan_again(counted, self.fault)
        return _after_failure(counted, self.fault, self.limit)


@dataclass(frozen=True, slots=True)
class AttemptLost:
    """An accepted submission failed, timed out or vanished; the `limit`-th failure ends the trying."""

    allowed: ClassVar = frozenset({State.SUBMITTING, State.SUBMITTED})
    fault: Fault
    limit: int
    gpu_seconds: float = 0.0

    def applied_to(self, image: Image) -> Image:
        return _after_failure(_paid(image, self.gpu_seconds), self.fault, self.limit)


@dataclass(frozen=True, slots=True)
class Fetched:
    """The picture was checked and lies in the spool."""

    allowed: ClassVar = frozenset({State.SUBMITTING, State.SUBMITTED})
    artifact: Artifact
    gpu_seconds: float = 0.0
    used_embedding: bool = False

    def applied_to(self, image: Image) -> Image:
        return _paid(image, self.gpu_seconds)._replace(
            state=State.FETCHED,
            artifact=self.artifact,
            used_embedding=self.used_embedding,
            submission=None,
            sent_to=None,
            ticket=None,
            fault=None,
        )


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No further attempt is worth making; `paid` where the last one had been accepted."""

    allowed: ClassVar = frozenset({State.PLANNED, State.SUBMITTING, State.UNCLEAR, State.SUBMITTED})
    fault: Fault
    paid: bool = False
    gpu_seconds: float = 0.0

    def applied_to(self, image: Image) -> Image:
        return _give_up(_paid(image, self.gpu_seconds) if self.paid else image, self.fault)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The placeholder lies in the spool."""

    allowed: ClassVar = frozenset({State.GIVEN_UP})
    artifact: Artifact

    def applied_to(self, image: Image) -> Image:
        return image._replace(state=State.DRAWN, artifact=self.artifact)


@dataclass(frozen=True, slots=True)
class StoredAt:
    """The store has it."""

    allowed: ClassVar = frozenset({State.FETCHED, State.DRAWN})
    stored: Stored

    def applied_to(self, image: Image) -> Image:
        if image.state is State.FETCHED:
            return image._replace(state=State.DONE, stored=self.stored, standing=None, fault=None)
        return image._replace(state=State.PLACEHOLDER, stored=self.stored, standing=None)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The store will never take it; `conflict` where a different image stands under the public id."""

    allowed: ClassVar = frozenset({State.FETCHED, State.DRAWN})
    fault: Fault
    conflict: bool = False

    def applied_to(self, image: Image) -> Image:
        if image.state is State.FETCHED and not self.conflict:
            return _give_up(image, self.fault)
        return image._replace(state=State.FAILED, standing=None, stored=None, fault=self.fault)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Its owner does not want it any more; the number stays held."""

    allowed: ClassVar = frozenset({State.PLANNED, State.SUBMITTING, State.UNCLEAR, State.SUBMITTED})

    def applied_to(self, image: Image) -> Image:
        return _at_rest(image, image.standing or State.CANCELLED)


@dataclass(frozen=True, slots=True)
class Retried:
    """Make it again in place; where paid bytes were `kept` they are only uploaded again."""

    allowed: ClassVar = frozenset({State.PLACEHOLDER, State.FAILED})
    kept: Artifact | None = None

    def applied_to(self, image: Image) -> Image:
        again = State.PLANNED if self.kept is None else State.FETCHED
        return image._replace(state=again, standing=image.state, failures=0, artifact=self.kept or image.artifact)


@dataclass(frozen=True, slots=True)
class Removed:
    """Deleted at the store; the row holds the number for good."""

    allowed: ClassVar = frozenset({State.DONE, State.PLACEHOLDER, State.FAILED})

    def applied_to(self, image: Image) -> Image:
        return image._replace(state=State.REMOVED, stored=None, artifact=None)


def _plan_again(image: Image, fault: Fault | None) -> Image:
    return image._replace(state=State.PLANNED, submission=None, sent_to=None, ticket=None, fault=fault)


def _paid(image: Image, gpu_seconds: float) -> Image:
    """An attempt that never was `submitted`, since the service answers at once, is counted where it ends."""
    attempts = image.attempts if image.state is State.SUBMITTED else image.attempts + 1
    return image._replace(attempts=attempts, gpu_seconds=image.gpu_seconds + gpu_seconds)


def _after_failure(image: Image, fault: Fault | None, limit: int) -> Image:
    failed_once_more = image._replace(failures=image.failures + 1)
    if failed_once_more.failures < limit:
        return _plan_again(failed_once_more, fault)
    return _give_up(failed_once_more, fault)


def _give_up(image: Image, fault: Fault | None) -> Image:
    if image.standing is not None:
        return _at_rest(image, image.standing)._replace(fault=fault)
    if image.on_failure is OnFailure.FAIL:
        return _at_rest(image, State.FAILED)._replace(fault=fault)
    return _at_rest(image, State.GIVEN_UP)._replace(fault=fault)


def _at_rest(image: Image, state: State) -> Image:
    return image._replace(state=state, standing=None, submission=None, sent_to=None, ticket=None)
