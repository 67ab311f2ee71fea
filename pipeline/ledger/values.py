"""What the ledger answers with, where it is no Image."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Taken:
    """The job is in the index for good."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same id with the same content is there already; nothing was written."""


@dataclass(frozen=True, slots=True)
class Declined:
    """The job cannot be taken as it is; `reason` is for the person who sent it."""

    reason: str


Verdict = Taken | Duplicate | Declined


@dataclass(frozen=True, slots=True)
class OwnerToAdopt:
    """An owner whose jobs wait for a listing of the store; `slug` is the first choice for the folder."""

    owner: str
    slug: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What the starts need to know of a job with planned images."""

    job_id: str
    priority: int
    backends: tuple[str, ...]
    stagger: float
    planned: int
    last_start: int | None = None  # when it sent its last image away (milliseconds); told where it has a stagger


@dataclass(frozen=True, slots=True)
class Notice:
    """An end of a job that somebody is to be told of."""

    id: str
    job_id: str
    url: str = field(repr=False)  # may hold a key of the receiver's
    attempts: int
    tried_at: int | None  # when it was tried for the first time
