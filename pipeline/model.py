"""The frozen values that all parts hand to each other. No I/O, no behaviour beyond reading themselves.

Moments are wall-clock milliseconds since 1970 UTC; durations are seconds; sizes are bytes.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, NamedTuple

DURATION_BOUNDS = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, float("inf"))  # of `/metrics`
Params = Mapping[str, Any]  # what `params` of a job holds: JSON values, handed on as they are
NO_PARAMS: Params = {}
LARGEST_FILE = 1 << 20  # bytes of a job file, or of the configuration


class State(StrEnum):
    """What has become of an image, in full; `Status` is what the outside is told."""

    PLANNED = "planned"  # waits for its turn at a back end
    SUBMITTING = "submitting"  # a request may be on its way under `ticket`
    UNCLEAR = "unclear"  # it went out; whether it was accepted is not known
    SUBMITTED = "submitted"  # accepted: `submission` tells where it is
    FETCHED = "fetched"  # the picture lies in the spool
    GIVEN_UP = "given_up"  # a placeholder is owed
    DRAWN = "drawn"  # the placeholder lies in the spool
    DONE = "done"
    PLACEHOLDER = "placeholder"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REMOVED = "removed"


class Status(StrEnum):
    """What the outside is told of an image, in answers, results and commands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    PLACEHOLDER = "placeholder"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REMOVED = "removed"


class OnFailure(StrEnum):
    """What stands under an image's number when it is given up."""

    PLACEHOLDER = "placeholder"
    FAIL = "fail"


class Fault(NamedTuple):
    """Why something went wrong: a word for programs, a sentence for people, no secrets in either."""

    code: str
    message: str


class Lora(NamedTuple):
    """A LoRA by the name its back end knows it by."""

    name: str
    weight: float = 1.0


class CharacterRef(NamedTuple):
    """The character as a job names it: `id` means exactly that id, `name` alone is looked up among its owner's."""

    id: str | None
    name: str | None
    embedding: str | None = None


class Recipe(NamedTuple):
    """What all images of a job have in common, styles and defaults already applied."""

    width: int = 1024
    height: int = 1536
    negative_prompt: str | None = None
    style: str | None = None
    model: str | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    sampler_name: str | None = None
    scheduler: str | None = None
    embedding: str | None = None  # the job's own, or the character's from acceptance on
    no_embedding: bool = False  # the job said `embedding: null`
    loras: tuple[Lora, ...] = ()
    params: Params = NO_PARAMS


class PlannedImage(NamedTuple):
    """One image of a job before it has a number: the prompt as it will be sent, and its seed."""

    prompt: str
    seed: int


class Job(NamedTuple):
    """A parsed job with its styles and defaults applied: what acceptance records and never reads from the file again."""

    id: str  # the spec's own, or made from time and file name
    own_id: bool  # the spec named it, so a second one is a duplicate or an error
    character: CharacterRef
    owner: str | None  # as the spec names it; None: the character's, else `default_owner`
    default_owner: str
    prompt: str | tuple[str, ...]  # what the job said
    images: tuple[PlannedImage, ...]
    recipe: Recipe
    backends: tuple[str, ...]  # the pool, in the job's order
    stagger: float = 0.0
    priority: int = 0
    on_failure: OnFailure = OnFailure.PLACEHOLDER
    notify: str | None = None
    labels: tuple[str, ...] = ()
    digest: str = ""  # equal for two specs that are equal after parsing
    file: str = ""  # the name in `active/`, extension included


class Submission(NamedTuple):
    """An accepted request at a back end: enough to find it again after a restart."""

    remote_id: str
    base_url: str
    accepted_at: int
    deadline: int  # when we stop waiting
    expires_at: int | None = None  # when the service forgets a finished result, as far as is known


class Artifact(NamedTuple):
    """Checked bytes in the spool, with what the index wants to know of them."""

    file: str  # name inside the spool folder
    md5: str  # hex, of the bytes
    bytes: int
    width: int
    height: int
    format: str  # "png", "jpeg", "webp"
    pixels: str  # hex SHA-256 over size and RGBA pixels
    color: str  # "#rrggbb", the dominant colour


class Stored(NamedTuple):
    """Where a store keeps an image; the same public id always means the same place."""

    public_id: str
    url: str  # plain (local) or delivery URL without expiry; the gallery mints what it shows
    version: str | None  # changes when the bytes are replaced
    md5: str
    bytes: int
    width: int
    height: int
    format: str
    path: str | None = None  # the local store's file
    created_at: int | None = None  # the store's own date, for what is adopted
    type: str = "upload"  # Cloudinary's delivery type; adopted assets keep theirs


class Asset(NamedTuple):
    """Something found in a store's listing: a Stored and what its context tells."""

    stored: Stored
    slug: str  # of the character's folder
    number: int
    owner: str | None
    character_id: str | None
    character_name: str | None = None
    status: Status = Status.DONE
    job_id: str | None = None
    seed: int | None = None
    prompt: str | None = None
    color: str | None = None


class Image(NamedTuple):  # each step makes one anew, which takes a dataclass of this width ten times as long
    """One row of the index: the image as the last recorded step left it."""

    row: int
    job_id: str
    character_id: str
    character_name: str
    owner: str
    number: int
    place: int  # in its job, from 0
    filename: str
    public_id: str
    prompt: str
    seed: int
    recipe: Recipe
    labels: tuple[str, ...]
    on_failure: OnFailure
    quantity: int  # images in the job
    state: State
    standing: State | None = None  # PLACEHOLDER or FAILED: what stands in the gallery while it is made again
    backend: str | None = None
    ticket: str | None = None  # our own id of the submission under way (a lower-case UUID)
    sent_to: str | None = None  # the address that this one went to, until it is accepted
    submission: Submission | None = None
    attempts: int = 0  # accepted submissions
    failures: int = 0  # of these, failed since the image was last (re)tried
    doubtful: int = 0  # submissions that may have been paid twice
    gpu_seconds: float = 0.0
    used_embedding: bool = False
    artifact: Artifact | None = None
    stored: Stored | None = None
    fault: Fault | None = None
    created_at: int | None = None  # when it, or its placeholder, was first stored


class Request(NamedTuple):
    """What one image asks of a back end."""

    ticket: str  # lower-case UUID: the submission's id where the caller may choose one
    prompt: str
    seed: int
    recipe: Recipe
    images_in_job: int
    timeout: float  # seconds this submission may take there
    sent_to: str | None = None  # where it went, if the back end has another address since


class Picture(NamedTuple):
    """What a back end made, before anybody has looked at the bytes."""

    data: bytes
    gpu_seconds: float | None = None
    used_embedding: bool = False


class Item(NamedTuple):
    """What a store is asked to keep, with all that is needed to rebuild the index from the store."""

    public_id: str
    data: bytes
    artifact: Artifact
    status: Status  # DONE or PLACEHOLDER
    number: int
    owner: str
    character_id: str
    character_name: str
    job_id: str
    prompt: str
    seed: int
    created_at: int
    labels: tuple[str, ...] = ()
    color: str | None = None


class Paused(NamedTuple):
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


class Trouble(NamedTuple):
    """Something beside the back ends that keeps work from going on, as it was last noted."""

    what: str  # "store", "spool", "disk", "intake", "files", "notification", "results"
    reason: str
    next_try: int | None = None  # moment of the next probe


class Pulse(NamedTuple):
    """How the daemon in this process is doing, for `/readyz` and `/metrics`; counts are since its start."""

    intake: str | None  # why no job files are taken; None: they are
    disk: str | None  # why the index or the spool cannot be written; None: they can
    taken: int
    rejected: int
    duplicates: int
    lag: float  # seconds that the job file taken last had lain in the folder
    passed_at: int | None  # moment at which the whole folder was last looked through
    free_bytes: int  # on the disk of the state folder
    deaf: str | None = None  # why new files are found by scanning alone; None: they are heard of


class LaneState(NamedTuple):
    """What `status` shows of a back end, as its lane last noted it."""

    name: str
    state: str  # "ready", "held", "down", "paused"
    slots: int
    busy: int
    waiting: int = 0  # images that could start there
    typical: float | None = None  # seconds one image takes
    reason: str | None = None  # why it is not ready, in words
    next_try: int | None = None  # moment of the next probe or start
