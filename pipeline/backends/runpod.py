"""RunPod serverless: an endpoint's queue, asked by its id until the job has ended.

RunPod chooses the id, and nothing can be looked up without it: a crash between `/run` and the record of its answer is
the one place where an image may be paid twice. A finished result is kept for half an hour.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import structlog
import trio

from pipeline.backends.answers import is_id, over_at, seconds
from pipeline.backends.endurance import Endurance
from pipeline.backends.fetch import Fetcher
from pipeline.backends.outputs import Link, failure, images_in, is_objection, trouble_in, used_embedding, words_of
from pipeline.backends.pace import Looks, Pace
from pipeline.backends.runpod_inputs import Build
from pipeline.backends.transport import LOOK, Service, encoded
from pipeline.errors import (
    AcceptanceUnknown,
    AttemptFailed,
    BackendError,
    InvalidRequest,
    NotAccepted,
    OutOfTime,
    Unavailable,
)
from pipeline.model import Picture, Recipe, Request, Submission
from pipeline.ports import CannotTell, NotThere
from pipeline.tools import clock as wall
from pipeline.tools import sizes

log = structlog.get_logger(__name__)

KEPT = 30 * 60.0  # seconds that RunPod keeps a result after its job has ended
LARGEST_REQUEST = 10 << 20  # bytes
_HOUR = 3600.0
_SHORTEST_RUN = 5.0  # seconds: RunPod takes no smaller executionTimeout
_STILL_GOING = frozenset({"IN_QUEUE", "IN_PROGRESS", "RUNNING"})
_OVER_SIZE_HINT = "a result over RunPod's limit of some 10 MB never arrives and looks exactly like this: make images smaller, or let the worker upload them"


class Runpod:
    """One endpoint; `build` makes the `input` its worker wants."""

    def __init__(
        self,
        url: str,
        transport: httpx.AsyncBaseTransport,
        *,
        api_key: str | None,
        build: Build,
        pace: Pace,
        fetcher: Fetcher,
        clock: wall.Clock = wall.now,
    ) -> None:
        self._service = Service(
            url,
            transport,
            called="RunPod",
            remedy="set api_key (RUNPOD_API_KEY) to a key that may use this endpoint",
            key=api_key,
            always_there="health",
            clock=clock,
        )
        self._build = build
        self._pace = pace
        self._fetcher = fetcher
        self._clock = clock

    async def submit(self, request: Request) -> Submission:
        policy = {
            "executionTimeout": round(max(request.timeout, _SHORTEST_RUN) * 1000),
            "ttl": round(max(2 * _HOUR, request.timeout + _HOUR) * 1000),
        }
        body = encoded({"input": self._build(request), "policy": policy})
        if len(body) > LARGEST_REQUEST:
            raise _over_size(len(body))
        answer = await self._service.order("run", body, timeout=min(LOOK, request.timeout))
        if answer.status in (400, 413) and b"max body size" in answer.body:
            raise _over_size(len(body))
        told = self._service.taken(answer)
        accepted_at = self._clock()
        match told:
            case {"id": str(remote_id)} if is_id(remote_id, self._service.secrets):
                return Submission(
                    remote_id=remote_id,
                    base_url=self._service.url,
                    accepted_at=accepted_at,
                    deadline=accepted_at + round(request.timeout * 1000),
                    expires_at=accepted_at + round(KEPT * 1000),
                )
        raise AcceptanceUnknown(
            "RunPod accepted without giving an id that could be used: it cannot be asked for the result",
            code="no_answer",
        )

    async def find(self, request: Request) -> Submission | NotThere | CannotTell:
        return CannotTell("RunPod chooses a job's id itself and cannot be asked by ours")

    async def collect(self, request: Request, submission: Submission) -> Picture:
        endurance = Endurance()
        over = over_at(submission, self._clock())
        gone = 0
        looks = self._pace.looks(submission.accepted_at)
        async for _ in looks:
            try:
                job = await self._look(submission)
                picture = None if job is None else await self._judged(job, request, submission)
            except NotAccepted as error:
                await endurance.failed(error)
                continue
            endurance.went_well()
            if picture is not None:
                return picture
            if job is None:
                gone += 1
                if gone > 1:
                    raise self._gone(submission)
                continue
            gone = 0
            _note_wait(job, looks)
            if trio.current_time() >= over:
                status = self._service.scrub(_status_of(job))
                raise OutOfTime(
                    f"RunPod job {submission.remote_id} is still {status} after {request.timeout:g} s; {_OVER_SIZE_HINT}"
                )
        raise AssertionError("looks never end by themselves")

    async def cancel(self, submission: Submission) -> None:
        await self._service.ask(_path("cancel", submission), method="POST", base_url=submission.base_url)

    async def check(self, recipe: Recipe, *, images: int) -> None:
        sample = Request(
            ticket="00000000-0000-4000-8000-000000000000",
            prompt="check",
            seed=0,
            recipe=recipe,
            images_in_job=images,
            timeout=_HOUR,
        )
        encoded(self._build(sample))

    async def probe(self) -> None:
        answer = await self._service.ask("health")
        if not answer.is_success:
            raise self._service.down(answer, self._service.url)  # nothing was ordered

    async def _look(self, submission: Submission) -> Mapping[str, Any] | None:
        """Return the job as RunPod tells it; None: it knows no such job.

        Raises:
            NotAccepted, Unavailable: passing weather.
            AttemptFailed: the answer is larger than is taken.
        """
        answer = await self._service.ask_for_picture(_path("status", submission), base_url=submission.base_url)
        if answer.status == 404:
            return None
        try:
            job = answer.json()
        except ValueError:
            job = None
        if not answer.is_success or not isinstance(job, dict) or not isinstance(job.get("status"), str):
            words = answer.words(self._service.secrets)
            raise Unavailable(
                f"RunPod's status of {submission.remote_id} is none ({answer.status}): {words}", code="no_answer"
            )
        return job

    async def _judged(self, job: Mapping[str, Any], request: Request, submission: Submission) -> Picture | None:
        """Return the picture of a job that has ended well; None while it goes on. What it has cost is on every error, too."""
        try:
            return await self._outcome(job, request, submission)
        except BackendError as error:
            error.gpu_seconds = seconds(job.get("executionTime")) or 0.0
            raise

    async def _outcome(self, job: Mapping[str, Any], request: Request, submission: Submission) -> Picture | None:
        where = f"RunPod job {submission.remote_id}"
        output, error = job.get("output"), job.get("error")
        match _status_of(job):
            case "COMPLETED":
                return await self._picture(job, request, where)
            case "FAILED":
                said = "; ".join(
                    filter(None, (words_of(error), trouble_in(output) or words_of(_without_images(output))))
                )
                raise failure(said, where=f"{where} failed", secrets=self._service.secrets)
            case "TIMED_OUT":
                raise AttemptFailed(f"{where} timed out there; {_OVER_SIZE_HINT}", code="timed_out")
            case "CANCELLED":
                raise AttemptFailed(f"{where} was cancelled there", code="cancelled")
            case status if status not in _STILL_GOING:
                log.warning("unknown_status", remote=submission.remote_id, status=self._service.scrub(status))
        return None

    async def _picture(self, job: Mapping[str, Any], request: Request, where: str) -> Picture:
        output = job.get("output")
        found = images_in(output)
        if not found:
            said = "; ".join(filter(None, (words_of(job.get("error")), trouble_in(output))))
            if is_objection(output):
                raise InvalidRequest(f"{where} was refused: {self._service.scrub(said)}", code="invalid_request")
            if said:
                raise failure(said, where=f"{where} made no image", secrets=self._service.secrets)
            raise AttemptFailed(f"{where} completed, but there is no image in its output", code="empty_output")
        if len(found) > 1:
            log.info("several_images", where=where, taken=1, left=len(found) - 1)
        first = found[0]
        data = await self._fetcher.fetch(first.url) if isinstance(first, Link) else first
        spent = (seconds(job.get("executionTime")), seconds(job.get("delayTime")))
        if spent[0] is not None:
            waited = spent[1] or 0.0
            self._pace.learned(spent[0] + waited, waited=waited)
        name = request.recipe.embedding
        return Picture(data, gpu_seconds=spent[0], used_embedding=name is not None and used_embedding(output, name))

    def _gone(self, submission: Submission) -> AttemptFailed:
        if submission.expires_at is not None and self._clock() >= submission.expires_at:
            return AttemptFailed(
                f"RunPod no longer knows job {submission.remote_id}: results are kept for {KEPT / 60:.0f} minutes",
                code="expired",
            )
        return AttemptFailed(f"RunPod does not know job {submission.remote_id} any more", code="lost")


def _path(operation: str, submission: Submission) -> str:
    return f"{operation}/{quote(submission.remote_id, safe='')}"


def _note_wait(job: Mapping[str, Any], looks: Looks) -> None:
    match job["status"], seconds(job.get("delayTime")):
        case "IN_QUEUE", _:
            looks.waited()
        case "IN_PROGRESS", float(waited):
            looks.waited(waited)


def _status_of(job: Mapping[str, Any]) -> str:
    return str(job["status"])


def _without_images(output: object) -> object:
    return {key: value for key, value in output.items() if key != "images"} if isinstance(output, dict) else output


def _over_size(size: int) -> InvalidRequest:
    return InvalidRequest(
        f"the request is {sizes.in_words(size)}, and RunPod takes {LARGEST_REQUEST >> 20} MiB at most: "
        "make the pictures in params or in the workflow smaller, or name them by URL",
        code="too_large",
    )
