"""What the ledger answers with, where it is no Image."""

from dataclasses import dataclass, field
from typing import Literal


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


@dataclass(frozen=True, slots=True)
class Notice:
    """An end of a job that somebody is to be told of."""

    id: str
    job_id: str
    url: str = field(repr=False)  # may hold a key of the receiver's
    attempts: int
    tried_at: int | None  # when it was tried for the first time


@dataclass(frozen=True, slots=True)
class Pause:
    """Something that a person has paused: everything, a back end, or a job."""

    kind: Literal["all", "backend", "job"]
    name: str = ""  # empty for everything

    @property
    def reason(self) -> str:
        """What waiting jobs are said to wait for, with the remedy."""
        match self.kind:
            case "all":
                return "everything is paused; `pipeline resume` lets it go on"
            case "backend":
                return f"back end {self.name} is paused; `pipeline resume --backend {self.name}` lets it go on"
            case "job":
                return f"the job is paused; `pipeline resume {self.name}` lets it go on"
