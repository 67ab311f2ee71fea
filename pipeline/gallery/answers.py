"""The JSON answers, as types: the routes build exactly these, and `/openapi.json` is generated from them.

TypedDicts rather than models, so that a page of a thousand images costs no validation: mypy checks what the routes
build, and the tests validate real answers against the same types. The keys are the answer's own, hence camelCase.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

StatusWord = Literal["queued", "running", "done", "placeholder", "failed", "cancelled", "removed"]
JobStatusWord = Literal["queued", "running", "done", "cancelled"]
Moment = Annotated[str, Field(description="RFC 3339, UTC, milliseconds", json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0)]


class ErrorAnswer(TypedDict):
    """Every answer that is not the thing asked for."""

    success: Literal[False]
    error: Annotated[str, Field(description="A sentence for people.")]
    code: Annotated[str, Field(description="A word for programs.")]


class FaultAnswer(TypedDict):
    """Why an image was given up, or what the last attempt met."""

    code: str
    message: str


class ImageAnswer(TypedDict):
    """One image of a gallery."""

    url: Annotated[str | None, Field(description="Opens as it is; null until the image is stored.")]
    publicId: str
    createdAt: Annotated[Moment | None, Field(description="When it, or its placeholder, was first stored.")]
    filename: str
    number: Annotated[int, Field(ge=1)]
    status: StatusWord
    updatedAt: Moment
    thumbnailUrl: str | None
    width: int
    height: int
    format: str | None
    bytes: int | None
    color: Annotated[str | None, Field(description="The dominant colour, #rrggbb.")]
    prompt: str | None
    negativePrompt: str | None
    seed: int | None
    style: str | None
    model: str | None
    steps: int | None
    cfgScale: float | None
    samplerName: str | None
    backend: str | None
    gpuSeconds: float
    attempts: Annotated[int, Field(ge=0, description="Accepted submissions, the successful one included.")]
    labels: list[str]
    favorite: bool
    retrying: Annotated[bool, Field(description="It is being made again; this is what stands meanwhile.")]
    error: FaultAnswer | None
    jobId: str | None


class GalleryData(TypedDict):
    """A page of a character's gallery."""

    images: list[ImageAnswer]
    totalCount: Annotated[int, Field(ge=0, description="Of the filter, over all pages.")]
    characterId: str
    next: Annotated[str | None, Field(description="Opaque; send it as `cursor` for the following page.")]


class GalleryAnswer(TypedDict):
    """The owner's gallery of one character, newest first."""

    success: Literal[True]
    data: GalleryData


class JobFileData(TypedDict):
    """An image written back as a job file."""

    filename: str
    quantity: Annotated[int, Field(ge=1)]
    jobFile: Annotated[str, Field(description="YAML, to be dropped into the jobs folder.")]


class JobFileAnswer(TypedDict):
    """The job file that makes an image again, or more like it."""

    success: Literal[True]
    data: JobFileData


class CountsAnswer(TypedDict):
    """How many images are in each status."""

    queued: Count
    running: Count
    done: Count
    placeholder: Count
    failed: Count
    cancelled: Count
    removed: Count


class NewestAnswer(TypedDict):
    """The newest picture of a character, for its card."""

    number: int
    url: str
    thumbnailUrl: str
    width: int
    height: int
    color: str | None
    createdAt: Moment


class CharacterAnswer(TypedDict):
    """A character and what there is of it."""

    characterId: str
    name: str
    slug: str
    owner: str
    embedding: str | None
    createdAt: Moment
    updatedAt: Moment | None
    counts: CountsAnswer
    newest: NewestAnswer | None


class CharactersData(TypedDict):
    """A page of characters."""

    characters: list[CharacterAnswer]
    totalCount: int
    next: str | None


class CharactersAnswer(TypedDict):
    """The caller's characters, the newest first."""

    success: Literal[True]
    data: CharactersData


class OneCharacterAnswer(TypedDict):
    """One character, as in the list."""

    success: Literal[True]
    data: CharacterAnswer


class JobSummaryAnswer(TypedDict):
    """A job without its images."""

    jobId: str
    status: JobStatusWord
    reason: str | None
    characterId: str
    requestedCount: int
    generatedCount: int
    placeholderCount: int
    failedCount: int
    cancelledCount: int
    runningCount: int
    queuedCount: int
    prompt: str | list[str]
    style: str | None
    labels: list[str]
    createdAt: Moment
    startedAt: Moment | None
    finishedAt: Moment | None


class JobsData(TypedDict):
    """A page of jobs."""

    jobs: list[JobSummaryAnswer]
    totalCount: int
    next: str | None


class JobsAnswer(TypedDict):
    """The caller's jobs, newest first."""

    success: Literal[True]
    data: JobsData


class JobImageAnswer(TypedDict):
    """One image of a job, as in the job's result file."""

    number: int
    filename: str
    status: StatusWord
    url: str | None
    path: str | None
    publicId: str
    prompt: str | None
    seed: int | None
    backend: str | None
    attempts: int
    gpuSeconds: float
    error: FaultAnswer | None


class JobData(JobSummaryAnswer):
    """A job with its images, exactly as in its result file."""

    imageUrl: str | None
    imageUrls: list[str]
    maybePaidTwice: int
    gpuSeconds: float
    usedEmbedding: bool
    images: list[JobImageAnswer]


class JobAnswer(TypedDict):
    """A job; `success` is false where it has ended without one real image."""

    success: bool
    data: JobData


class HealthData(TypedDict):
    """How the process is; `notes` tell what is amiss although the work goes on."""

    status: Literal["alive", "ready"]
    notes: NotRequired[list[str]]


class HealthAnswer(TypedDict):
    """The process is alive."""

    success: Literal[True]
    data: HealthData
