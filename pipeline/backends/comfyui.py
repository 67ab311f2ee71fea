"""ComfyUI: local, or behind a pod's proxy URL.

Our ticket is the `prompt_id`, and part of the name the image is saved under. So a submission whose answer was lost
is looked up in the queue and the history, and, where ComfyUI was restarted and has forgotten both, by its file.
ComfyUI itself does not notice a repeated id: look first, then submit.
"""

import uuid
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import quote

import httpx
import trio

from pipeline.backends import comfy_words
from pipeline.backends.answers import Answer, is_id, over_at
from pipeline.backends.binding import Binding
from pipeline.backends.comfy_names import Look, spelt
from pipeline.backends.comfy_words import File, Finished
from pipeline.backends.endurance import Endurance
from pipeline.backends.filling import FOLDER, RawGraph, fill, prefix_of
from pipeline.backends.installed import Installed
from pipeline.backends.pace import Pace
from pipeline.backends.transport import LARGE, Service
from pipeline.errors import AcceptanceUnknown, AttemptFailed, InvalidRequest, NotAccepted, OutOfTime, Unavailable
from pipeline.model import Picture, Recipe, Request, Submission
from pipeline.ports import CannotTell, NotThere
from pipeline.tools.clock import Clock, now

ORDER = 60.0  # seconds for POST /prompt: a cold disk is searched for models before it answers
LISTING = 60.0  # seconds for /object_info, which asks every custom node
SECOND_LOOK = 1.0  # seconds: a request held up in a proxy may arrive after the first look for it, a file be late
_NO_SUCH_FILE = (400, 404)  # what /view says of a name that it will not look for, or does not find
_OVERTAKEN = 1.0  # seconds: a result that is found at once, but later than this, tells nothing of how long it took


class ComfyUI:
    """One server and one workflow; `login` where a proxy before it asks for user and password."""

    def __init__(
        self,
        url: str,
        transport: httpx.AsyncBaseTransport,
        *,
        binding: Binding,
        login: tuple[str, str] | None = None,
        pace: Pace,
        clock: Clock = now,
    ) -> None:
        remedy = "set user and password to those of the proxy before it"
        self._service = Service(
            url, transport, called="ComfyUI", remedy=remedy, login=login, always_there="queue", clock=clock
        )
        self._binding = binding
        self._pace = pace
        self._clock = clock

    async def submit(self, request: Request) -> Submission:
        """Queue one image under our own id; what it names without a file extension is looked up first."""
        graph = await self._graph(request, self._installed)
        answer = await self._service.order("prompt", {"prompt": graph, "prompt_id": request.ticket}, timeout=ORDER)
        if answer.status == 400:
            self._refuse(answer)
        told = self._service.taken(answer)
        match told:
            case {"prompt_id": str(remote_id)} if is_id(remote_id, self._service.secrets):
                submission = self._submission(request, remote_id, self._service.url)
            case _:
                raise AcceptanceUnknown(f"{self._at} took the prompt and gave no usable prompt_id", code="no_answer")
        if (said := comfy_words.complaints(told)) is not None:
            with suppress(NotAccepted):  # the valid part of the graph is of no use; the fault is told either way
                await self.cancel(submission)
            raise InvalidRequest(
                f"{self._at} can run only a part of the workflow: {self._scrub(said)}", code="invalid_workflow"
            )
        return submission

    async def find(self, request: Request) -> Submission | NotThere | CannotTell:
        """Look in the queue, the history and the output folder, in this order; twice, unless it is found."""
        base = request.sent_to or self._service.url
        match await self._trace(base, request, request.ticket):
            case str(remote_id):
                return self._submission(request, remote_id, base)
            case Finished():
                return self._submission(request, request.ticket, base)
        if await self._by_name(base, request) is not None:
            return self._submission(request, request.ticket, base)
        return NotThere()

    async def collect(self, request: Request, submission: Submission) -> Picture:
        """Ask until the history tells the end of it, or its time is over; no trace of it in two looks in a row means a restart."""
        endurance = Endurance()
        over = over_at(submission, self._clock())
        waited = False
        looks = self._pace.looks(submission.accepted_at)
        while True:
            await anext(looks)
            try:
                trace = await self._trace(submission.base_url, request, submission.remote_id)
                if trace is None:
                    return await self._left_behind(request, submission)
                if isinstance(trace, Finished):
                    took = (self._clock() - submission.accepted_at) / 1000
                    picture = await self._picture(request, submission, trace)
                    if waited or took <= _OVERTAKEN:
                        self._pace.learned(took)
                    return picture
                if trio.current_time() >= over:
                    raise OutOfTime(f"{self._at} had not made it after {request.timeout:g} s")
                endurance.went_well()
                waited = True
            except NotAccepted as error:
                await endurance.failed(error)
                looks = self._pace.looks(submission.accepted_at)  # what was not seen is looked at again at once

    async def cancel(self, submission: Submission) -> None:
        """Stop this prompt alone: never a global interrupt."""
        base, remote_id = submission.base_url, submission.remote_id
        answer = await self._service.ask(
            f"api/jobs/{quote(remote_id, safe='')}/cancel", method="POST", body={}, base_url=base
        )
        if answer.is_success:
            return
        # Servers before 0.26 have no such route: out of the queue, or, if it is the one that runs, interrupted.
        await self._service.ask("queue", method="POST", body={"delete": [remote_id]}, base_url=base)
        found = comfy_words.in_queue(await self._json("queue", base), prompt_id=remote_id)
        if found is not None and found[1]:
            await self._service.ask("interrupt", method="POST", body={"prompt_id": remote_id}, base_url=base)

    async def check(self, recipe: Recipe, *, images: int) -> None:
        """Compare the graph with what is installed there: node classes, models, LoRAs, samplers, the embedding."""
        answer = await self._service.ask("object_info", timeout=LISTING, limit=LARGE)
        told = self._told(answer) if answer.is_success else None
        installed = None if told is None else Installed(told)

        async def look(_kind: str) -> Installed | None:
            return installed

        sample = Request(
            ticket=str(uuid.UUID(int=0)),
            prompt="",
            seed=0,
            recipe=recipe,
            images_in_job=images,
            timeout=0,
        )
        graph = await self._graph(sample, look)
        if installed is not None:
            with self._service.objecting():
                for objection in installed.objections(graph):
                    raise objection

    async def probe(self) -> None:
        """Ask for the queue, which only a ComfyUI has."""
        told = await self._json("queue", self._service.url)
        if not isinstance(told, dict) or "queue_running" not in told:
            raise Unavailable(f"what answers at {self._service.url} is no ComfyUI", code="not_found")

    @property
    def _at(self) -> str:
        return self._service.at

    def _scrub(self, said: str) -> str:
        return self._service.scrub(said)

    def _submission(self, request: Request, remote_id: str, base: str) -> Submission:
        accepted_at = self._clock()
        deadline = accepted_at + round(request.timeout * 1000)
        return Submission(remote_id, base, accepted_at, deadline)

    def _refuse(self, answer: Answer) -> None:
        """Raise a 400 of ComfyUI's own in words; leave a proxy's to the transport."""
        with suppress(ValueError):
            told = answer.json()
            if (said := comfy_words.complaints(told)) is not None:
                kind = comfy_words.error_kind(told)
                unknown_node = kind in ("missing_node_type", "invalid_prompt")
                hint = "; is the custom node that provides it installed there?" if unknown_node else ""
                code = "missing_node" if unknown_node else "invalid_request"
                raise InvalidRequest(f"{self._at} refuses the workflow: {self._scrub(said)}{hint}", code=code)

    async def _trace(self, base: str, request: Request, prompt_id: str) -> str | Finished | None:
        """Return the id under which it waits or runs, or how it ended; None where two looks find neither.

        The queue comes first: a prompt moves from there to the history, never back.
        """
        for pause in (0.0, SECOND_LOOK):
            await trio.sleep(pause)
            told = await self._json("queue", base)
            named = prefix_of(request.ticket)
            if found := comfy_words.in_queue(told, prompt_id=prompt_id, prefix=named, secrets=self._service.secrets):
                return found[0]
            told = await self._json(f"history/{quote(prompt_id, safe='')}", base)
            if done := comfy_words.finished(told, prompt_id):
                return done
        return None

    async def _picture(self, request: Request, submission: Submission, done: Finished) -> Picture:
        if (failure := done.failure()) is not None:
            charged = AttemptFailed(self._scrub(str(failure)), code=failure.code)
            charged.gpu_seconds = done.gpu_seconds() or 0.0
            raise charged
        files = done.pictures(self._binding.saver.id)
        if not files:
            raise AttemptFailed(
                "the workflow ended without saving a picture: is its SaveImage node connected and not muted?",
                code="empty_output",
            )
        for pause in (0.0, SECOND_LOOK):
            await trio.sleep(pause)
            if (data := await self._view(submission.base_url, files[0])) is not None:
                return Picture(data, done.gpu_seconds(), used_embedding=request.recipe.embedding is not None)
        name = self._scrub(files[0].name)
        raise AttemptFailed(f"ComfyUI made {name}, and the file is not there any more", code="lost")

    async def _left_behind(self, request: Request, submission: Submission) -> Picture:
        data = await self._by_name(submission.base_url, request)
        if data is None:
            raise AttemptFailed(
                "ComfyUI does not know it any more and saved no picture of it: it was restarted, or its queue cleared",
                code="lost",
            )
        return Picture(data, used_embedding=request.recipe.embedding is not None)

    async def _by_name(self, base: str, request: Request) -> bytes | None:
        return await self._view(base, File(f"{request.ticket}_00001_.png", FOLDER, "output"))

    async def _view(self, base: str, file: File) -> bytes | None:
        answer = await self._service.ask_for_picture("view", params=file.query(), base_url=base)
        if answer.status in _NO_SUCH_FILE:
            return None
        self._own(answer)
        return answer.body

    async def _json(self, path: str, base: str) -> object:
        answer = await self._service.ask(path, base_url=base)
        return self._told(answer)

    def _own(self, answer: Answer) -> None:
        """Raise where a look was refused: that says nothing of the image, which may have been paid for."""
        if not answer.is_success:
            refusal = self._service.refusal(answer)
            raise refusal if isinstance(refusal, NotAccepted) else Unavailable(str(refusal), code="unavailable")

    def _told(self, answer: Answer) -> object:
        self._own(answer)
        try:
            return answer.json()
        except ValueError as error:
            raise Unavailable(f"{self._at} answered with no JSON, or half of it", code="unavailable") from error

    async def _graph(self, request: Request, look: Look) -> RawGraph:
        with self._service.objecting():
            named, offered = await spelt(request, self._binding, look, self._embeddings)
            return fill(self._binding, named, offered=offered)

    async def _embeddings(self) -> Collection[str] | None:
        answer = await self._service.ask("embeddings")
        if not answer.is_success:
            return None
        told = self._told(answer)
        return [name for name in told if isinstance(name, str)] if isinstance(told, list) else []

    async def _installed(self, kind: str) -> Installed | None:
        answer = await self._service.ask(f"object_info/{quote(kind, safe='')}", timeout=LISTING)
        return Installed(self._told(answer)) if answer.is_success else None
