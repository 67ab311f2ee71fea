"""What the catalogue answers with: rows, close to what the outside is shown."""

from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

from pipeline.errors import UserError
from pipeline.model import Stored

R = TypeVar("R")


class BadCursor(UserError):
    """The cursor is none that this program gave out."""


class Whose(NamedTuple):
    """Who may see a character's gallery, and which state of it is the present one."""

    owner: str
    revision: int  # grows with anything that the gallery shows


class CharacterRow(NamedTuple):
    """A character, with its images counted by status."""

    row: int
    id: str
    name: str
    owner: str
    slug: str
    embedding: str | None
    created_at: int
    newest_at: int | None  # when its newest image was stored
    counts: Mapping[str, int]


class JobRow(NamedTuple):
    """A job, with its images counted by status."""

    seq: int
    id: str
    character_id: str
    character_name: str
    status: str
    reason: str | None  # what it waits for, in words, while it is queued
    prompt: str | tuple[str, ...]
    style: str | None
    labels: tuple[str, ...]
    backends: tuple[str, ...]
    priority: int
    quantity: int
    first_number: int | None
    counts: Mapping[str, int]
    created_at: int
    started_at: int | None
    finished_at: int | None
    version: int  # grows with every step of its images


class NoticeRow(NamedTuple):
    """An end of a job that somebody was, or is, to be told of."""

    receiver: str  # host and port; the address itself may hold a key
    next_at: int | None  # None: delivered, or given up
    delivered_at: int | None
    trouble: str | None  # why the last try failed


class Page(NamedTuple, Generic[R]):
    """Some rows of an answer, how many there are in all, and the cursor of the next page."""

    rows: tuple[R, ...]
    total: int
    next: str | None


class MediaFile(NamedTuple):
    """A file of the local store, found through the index."""

    owner: str
    stored: Stored


class Day(NamedTuple):
    """What one back end brought on one day (UTC)."""

    backend: str
    done: int
    placeholder: int
    failed: int
    gpu_seconds: float


class Summary(NamedTuple):
    """The whole index in a few numbers."""

    jobs_running: int
    jobs_queued: int
    images: Mapping[str, int]  # by status
    retrying: int
    to_store: int  # images that wait for the store
    spool_bytes: int  # what they hold in the spool
    today: tuple[Day, ...]
    oldest_waiting: int | None  # when the oldest unfinished job was accepted


class TroubleRow(NamedTuple):
    """Something beside the back ends that keeps work from going on."""

    what: str  # as of `model.Trouble`
    reason: str
    since: int
    next_try: int | None


class Work(NamedTuple):
    """What one back end has brought on all days together."""

    backend: str
    done: int
    placeholder: int
    failed: int
    attempts: int  # submissions that were accepted
    attempts_failed: int
    doubtful: int  # submissions that may have been paid twice
    gpu_seconds: float


class Durations(NamedTuple):
    """How long images took at one back end, from the submission to the picture."""

    backend: str
    buckets: tuple[tuple[float, int], ...]  # upper bound in seconds -> images above the bound before it
    seconds: float  # of all of them


class Figures(NamedTuple):
    """What `/metrics` tells of the index beside its summary."""

    work: tuple[Work, ...]
    durations: tuple[Durations, ...]
    in_progress: tuple[tuple[str, str, int], ...]  # state, back end, images
    oldest_waiting: int | None  # when the job of the oldest image that waits for its turn was accepted


class Step(NamedTuple):
    """One recorded step of an image."""

    at: int
    event: str
    detail: Mapping[str, object]


class Problem(NamedTuple):
    """Something in the index that cannot be as it is."""

    kind: str  # a word for programs
    subject: str  # the character, image or job it is about
    message: str
