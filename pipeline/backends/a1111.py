"""AUTOMATIC1111: one blocking request an image, answered with the picture itself.

A request that breaks off goes on running there, and its picture can be fetched by nobody: A1111 keeps none. Our own task
id tells only whether it still runs, and only where the web interface is up. What is in doubt is therefore waited for and
then made again with the same body and seed.
"""

from collections.abc import Iterable

import httpx
import structlog
import trio

from pipeline.backends.answers import Answer
from pipeline.backends.installed import missing, resolved
from pipeline.backends.outputs import failure, images_in, trouble_in, used_embedding, words_of
from pipeline.backends.pace import Pace
from pipeline.backends.samplers import Sampling, for_a1111
from pipeline.backends.transport import LARGE, Service
from pipeline.backends.txt2img import txt2img_body
from pipeline.errors import (
    AcceptanceUnknown,
    AttemptFailed,
    BackendError,
    InvalidRequest,
    NotAccepted,
    Unavailable,
)
from pipeline.model import Picture, Recipe, Request, Submission
from pipeline.ports import CannotTell, NotThere
from pipeline.tools import clock as wall

log = structlog.get_logger(__name__)

_PARTING = 10.0  # seconds for stopping a request that took too long, within the time an image may take
_LEAST_PARTING = 1.0  # seconds: a busy machine asks and interrupts no faster; of a short timeout a quarter
_PROXY_HINT = (
    "RunPod's proxy ends every request after 100 s, and A1111 answers only when the image is done, so longer ones are "
    "lost: use worker-a1111 on a serverless endpoint, ComfyUI, or a direct TCP port"
)
_API = "sdapi/v1"
_PROGRESS = f"{_API}/progress?skip_current_image=true"


class A1111:
    """One web UI started with `--api`; `login` where it was started with `--api-auth`."""

    def __init__(
        self,
        url: str,
        transport: httpx.AsyncBaseTransport,
        *,
        login: tuple[str, str] | None = None,
        pace: Pace,
        clock: wall.Clock = wall.now,
    ) -> None:
        self._service = Service(
            url,
            transport,
            called="A1111",
            remedy="set user and password to those of --api-auth",
            login=login,
            always_there=_PROGRESS,
            clock=clock,
        )
        self._pace = pace
        self._clock = clock
        if httpx.URL(self._service.url).host.endswith(".proxy.runpod.net"):
            log.warning("proxy_limit", url=self._service.url, hint=_PROXY_HINT)

    async def submit(self, request: Request) -> Picture:
        began = trio.current_time()
        with self._service.objecting():
            sampling = await self._sampling(request.recipe)
        asked = request.recipe.embedding
        offered = await self._embeddings() if asked is not None else None
        embedding = _same(asked, [*offered[0], *offered[1]]) if asked and offered else None
        body = txt2img_body(request, sampling, embedding=embedding)
        spare = min(_PARTING, max(request.timeout / 10, min(_LEAST_PARTING, request.timeout / 4)))
        left = request.timeout - (trio.current_time() - began) - spare
        try:
            answer = await self._service.order(f"{_API}/txt2img", body, timeout=max(left, 0.0), limit=LARGE)
        except AcceptanceUnknown as error:
            if error.code == "too_large":
                raise AttemptFailed(str(error), code="too_large") from None
            if error.code == "timed_out" and await self._stopped(request.ticket, within=0.9 * spare):
                raise AttemptFailed(f"A1111 had not made it after {left:.3g} s", code="timed_out") from None
            raise
        if not answer.is_success:
            raise self._refusal(answer)
        output = self._service.taken(answer)
        found = [image for image in images_in(output) if isinstance(image, bytes)]
        if not found:
            said = self._service.scrub(trouble_in(output)) or "no reason given"
            raise AttemptFailed(f"A1111 answered without an image: {said}", code="empty_output")
        used = embedding is not None and offered is not None and embedding in offered[0]
        return Picture(found[0], used_embedding=used or (embedding is not None and used_embedding(output, embedding)))

    async def find(self, request: Request) -> Submission | NotThere | CannotTell:
        """Wait, at most as long as an image may take, until it has ended there: two at once would only take longer."""
        began = trio.current_time()
        async for _ in self._pace.looks(self._clock()):
            match await self._goes_on(request.ticket):
                case None:
                    return CannotTell("without its web interface (--nowebui) A1111 tells nothing of single requests")
                case False:
                    return CannotTell("A1111 keeps no picture: one that did not arrive with its answer is gone")
            if trio.current_time() - began >= request.timeout:
                await self._stopped(request.ticket, within=_PARTING)  # it would go on beside the one made in its place
                return CannotTell(f"A1111 says that it still runs, after a further {request.timeout:g} s")
        raise AssertionError("looks never end by themselves")

    async def collect(self, request: Request, submission: Submission) -> Picture:
        raise AttemptFailed("A1111 keeps no picture: one that did not arrive with its answer is gone", code="lost")

    async def cancel(self, submission: Submission) -> None:
        await self._stopped(submission.remote_id, within=_PARTING)

    async def check(self, recipe: Recipe, *, images: int) -> None:
        with self._service.objecting():
            await self._compare(recipe)

    async def probe(self) -> None:
        await self._current_task()

    async def _compare(self, recipe: Recipe) -> None:
        """Raise the first name that is not offered there."""
        await self._sampling(recipe, sure=True)
        if recipe.model is not None and (titles := await self._listed("sd-models", "title")) is not None:
            resolved("model", recipe.model.partition(" [")[0], [title.partition(" [")[0] for title in titles])
        if recipe.embedding is not None and (offered := await self._embeddings()) is not None:
            everything = [*offered[0], *offered[1]]
            if _same(recipe.embedding, everything) is None:
                raise missing("embedding", recipe.embedding, everything)
        if recipe.loras and (offered_loras := await self._listed("loras", "name", "alias")) is not None:
            for lora in recipe.loras:
                if _same(lora.name.removesuffix(".safetensors"), offered_loras) is None:
                    raise missing("lora", lora.name, offered_loras)

    async def _sampling(self, recipe: Recipe, *, sure: bool = False) -> Sampling:
        """Translate sampler and scheduler; what we do not know may come from an extension there."""
        asked = recipe.sampler_name, recipe.scheduler
        try:
            known = for_a1111(*asked)
        except InvalidRequest:
            samplers, schedulers = await self._samplers(), await self._schedulers()
            return for_a1111(*asked, samplers=samplers or (), schedulers=schedulers or ())
        wanted = (("sampler", known.sampler, self._samplers), ("scheduler", known.scheduler, self._schedulers))
        for word, name, offered in wanted:
            there = await offered() if sure and name is not None else None
            if name is not None and there is not None and name not in there:
                raise missing(word, name, there)
        return known

    async def _samplers(self) -> list[str] | None:
        return await self._listed("samplers", "name", "aliases")

    async def _schedulers(self) -> list[str] | None:
        return await self._listed("schedulers", "name", "label")

    async def _embeddings(self) -> tuple[list[str], list[str]] | None:
        """Return the embeddings that fit the model loaded now, and the others; None where it does not tell."""
        told = _json(await self._service.ask(f"{_API}/embeddings", limit=LARGE))
        match told:
            case {"loaded": dict(loaded), "skipped": dict(skipped)}:
                return list(loaded), list(skipped)
        return None

    async def _listed(self, what: str, *keys: str) -> list[str] | None:
        """Return all names in one of its lists; None where it has no such list."""
        told = _json(await self._service.ask(f"{_API}/{what}", limit=LARGE))
        if not isinstance(told, list):
            return None
        values = [item.get(key) for item in told if isinstance(item, dict) for key in keys]
        names = [name for value in values for name in (value if isinstance(value, list) else [value])]
        return list(dict.fromkeys(name for name in names if isinstance(name, str)))

    async def _current_task(self) -> str | None:
        answer = await self._service.ask(_PROGRESS)
        told = _json(answer)
        if answer.status == 404:
            raise self._without_api()
        if not isinstance(told, dict) or not answer.is_success:
            words = answer.words(self._service.secrets)
            raise Unavailable(f"{self._service.url} tells no progress ({answer.status}): {words}", code="no_answer")
        task = told.get("current_task")
        return task if isinstance(task, str) else None

    async def _goes_on(self, ticket: str) -> bool | None:
        """Tell whether a request runs or waits there; None where that cannot be told."""
        question = {"id_task": ticket, "id_live_preview": -1, "live_preview": False}
        try:
            told = _json(await self._service.ask("internal/progress", method="POST", body=question))
        except Unavailable as error:
            if error.code != "credentials":  # the web interface may have a login of its own
                raise
            told = None
        if isinstance(told, dict) and "active" in told:
            return bool(told["active"] or told.get("queued"))
        return True if await self._current_task() == ticket else None

    async def _stopped(self, ticket: str, *, within: float) -> bool:
        """Interrupt the running image if it is this one: an interrupt has no address and would hit any other.

        Returns:
            Whether it ran or waited there, and so was accepted.
        """
        there = False
        with trio.move_on_after(within):
            try:
                if await self._current_task() != ticket:
                    return bool(await self._goes_on(ticket))
                there = True
                await self._service.ask(f"{_API}/interrupt", method="POST", body={})
            except NotAccepted as error:
                log.info("interrupt_failed", url=self._service.url, reason=str(error))
        return there

    def _refusal(self, answer: Answer) -> BackendError:
        told = _json(answer)
        if not isinstance(told, dict) or not told.keys() & {"detail", "error"}:
            return self._service.refusal(answer)
        said = words_of(told)
        if answer.status == 404 and said.lower() == "not found":
            return self._without_api()
        if answer.status in (400, 404, 422):
            return InvalidRequest(f"A1111 refuses the request: {self._service.scrub(said)}", code="invalid_request")
        if answer.status == 500 and "error" in told:
            return failure(said, where="A1111 failed", secrets=self._service.secrets)
        return self._service.refusal(answer)

    def _without_api(self) -> Unavailable:
        return Unavailable(f"{self._service.url} has no /{_API}: start the web UI with --api", code="not_found")


def _json(answer: Answer) -> object:
    try:
        return answer.json() if answer.is_success or answer.status >= 400 else None
    except ValueError:
        return None


def _same(name: str, offered: Iterable[str]) -> str | None:
    return next((there for there in offered if there.casefold() == name.casefold()), None)
