"""The JSON routes: galleries, characters, jobs. Each answer is made of one moment of the index and of one caller's own."""

import re
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from urllib.parse import quote, urlencode

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import Response

from pipeline.again import job_again, made_of
from pipeline.catalogue import BadCursor, Catalogue, CharacterRow, Filter, Whose, success
from pipeline.errors import PipelineError, UserError
from pipeline.gallery import answers, views
from pipeline.gallery.auth import Caller, Doorkeeper
from pipeline.gallery.changes import Changes
from pipeline.gallery.query import Asked
from pipeline.gallery.ready import AnswerCache, Ready
from pipeline.gallery.refusals import bad_request, no_job_file, not_found
from pipeline.gallery.settings import GallerySettings
from pipeline.ports import Delivery
from pipeline.stores.delivery import WINDOW
from pipeline.tools import clock

_NUMBER = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_PICTURES = Filter(statuses=("done",))
Revision = Callable[[], Hashable]  # what moves when an answer does
Made = tuple[Ready, Revision]
Maker = Callable[[Request, Caller], Made]


class Api:
    """The routes under `/api`."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        delivery: Delivery,
        doorkeeper: Doorkeeper,
        changes: Changes,
        cache: AnswerCache,
        settings: GallerySettings,
        now: clock.Clock,
    ) -> None:
        self._catalogue = catalogue
        self._delivery = delivery
        self._doorkeeper = doorkeeper
        self._changes = changes
        self._cache = cache
        self._settings = settings
        self._now = now
        vary = "Authorization, Accept-Encoding"
        self._headers = {"cache-control": "private, no-cache", "vary": vary, "x-content-type-options": "nosniff"}

    async def gallery(self, request: Request) -> Response:
        """`/api/image-generation/character/{characterId}`."""
        return await self._answer(request, self._gallery)

    async def job_file(self, request: Request) -> Response:
        """`/api/image-generation/character/{characterId}/images/{number}/job`."""
        return await self._answer(request, self._job_file)

    async def characters(self, request: Request) -> Response:
        """`/api/characters`."""
        return await self._answer(request, self._characters)

    async def character(self, request: Request) -> Response:
        """`/api/characters/{characterId}`."""
        return await self._answer(request, self._character)

    async def jobs(self, request: Request) -> Response:
        """`/api/jobs`."""
        return await self._answer(request, self._jobs)

    async def job(self, request: Request) -> Response:
        """`/api/jobs/{jobId}`."""
        return await self._answer(request, self._job)

    # -- what each answer is made of

    def _gallery(self, request: Request, caller: Caller) -> Made:
        asked = Asked(request.query_params)
        limit, after = asked.limit(), asked.cursor()
        wanted = Filter(
            statuses=asked.statuses(),
            job=asked.text("job"),
            label=asked.text("label"),
            since=asked.moment("since"),
            until=asked.moment("until"),
            seed=asked.seed(),
            favorite=asked.flag("favorite"),
            q=asked.words("q"),
        )
        character, whose = self._own_character(request, caller)

        def make() -> Ready:
            page = self._catalogue.page(character, wanted, limit=limit, after=after)
            if page is None:
                raise not_found()
            now = self._now()
            data: answers.GalleryData = {
                "images": [views.image(row, self._delivery, now) for row in page.rows],
                "totalCount": page.total,
                "characterId": character,
                "next": page.next,
            }
            return _ready({"success": True, "data": data}, page.next)

        key = ("gallery", character, wanted, limit, after)
        return self._kept(key, whose.revision, make), lambda: self._catalogue.whose(character)

    def _job_file(self, request: Request, caller: Caller) -> Made:
        quantity = Asked(request.query_params).quantity()
        character, _ = self._own_character(request, caller)
        number = request.path_params["number"]
        image = self._catalogue.image(character, int(number)) if _NUMBER.fullmatch(number) else None
        if image is None:
            raise not_found()
        try:
            text = job_again(made_of(self._catalogue, image), self._settings.rules, quantity=quantity)
        except UserError as error:
            raise no_job_file(f"{error}.") from None
        data: answers.JobFileData = {"filename": image.filename, "quantity": quantity, "jobFile": text}
        return _ready({"success": True, "data": data}, None), lambda: self._catalogue.whose(character)

    def _characters(self, request: Request, caller: Caller) -> Made:
        asked = Asked(request.query_params)
        limit, after = asked.limit(), asked.cursor()

        def make() -> Ready:
            page = self._catalogue.characters(caller.owner, limit=limit, after=after)
            data: answers.CharactersData = {
                "characters": [self._shown(row) for row in page.rows],
                "totalCount": page.total,
                "next": page.next,
            }
            return _ready({"success": True, "data": data}, page.next)

        key = ("characters", caller.owner, limit, after)
        return self._kept(key, self._catalogue.owner_revision(caller.owner), make), self._owner_revision(caller)

    def _character(self, request: Request, caller: Caller) -> Made:
        character, whose = self._own_character(request, caller)

        def make() -> Ready:
            row = self._catalogue.character(character)
            if row is None:
                raise not_found()
            return _ready({"success": True, "data": self._shown(row)}, None)

        ready = self._kept(("character", character), whose.revision, make)
        return ready, lambda: self._catalogue.whose(character)

    def _jobs(self, request: Request, caller: Caller) -> Made:
        asked = Asked(request.query_params)
        page = self._catalogue.jobs(caller.owner, limit=asked.limit(), after=asked.cursor())
        data: answers.JobsData = {
            "jobs": [views.job(row) for row in page.rows],
            "totalCount": page.total,
            "next": page.next,
        }
        return _ready({"success": True, "data": data}, page.next), self._owner_revision(caller)

    def _job(self, request: Request, caller: Caller) -> Made:
        job, owner = self._own_job(request, caller)
        result = self._catalogue.result(job)
        if result is None:
            raise not_found()
        ready = _ready({"success": success(result), "data": result}, None)
        return ready, lambda: self._catalogue.owner_revision(owner)

    # -- how answers are found, kept, held and sent

    async def _answer(self, request: Request, maker: Maker) -> Response:
        ready, _ = self._made(request, maker)
        seconds = Asked(request.query_params).wait(self._settings.longest_wait)
        if seconds and ready.known_tag(request.headers) is not None:
            ready = await self._held(request, maker, seconds)
        headers = self._headers
        if ready.next is not None:
            headers = {**headers, "link": f'<{self._following(request, ready.next)}>; rel="next"'}
        return ready.response(request, headers=headers)

    async def _held(self, request: Request, maker: Maker, seconds: float) -> Ready:
        """Wait until the answer is another one; who may see it is asked again each time."""
        with anyio.move_on_after(seconds):
            while not self._changes.closed:
                _, revision = self._made(request, maker)
                seen = revision()
                ready, revision = self._made(request, maker)
                if ready.known_tag(request.headers) is None:
                    return ready
                key = (request.url.path, request.headers["authorization"])
                if await _gone_while(request, partial(self._changes.wait, key, revision, seen)):
                    break
        return self._made(request, maker)[0]

    def _made(self, request: Request, maker: Maker) -> Made:
        try:
            return maker(request, self._doorkeeper.caller(request))
        except BadCursor as error:
            raise bad_request(f"{error}.") from None

    def _kept(self, key: Hashable, revision: Hashable, make: Callable[[], Ready]) -> Ready:
        version = (revision, self._now() // 1000 // WINDOW)  # addresses change with the window
        ready = self._cache.get(key, version)
        if ready is None:
            ready = make()
            self._cache.put(key, version, ready)
        return ready

    def _own_character(self, request: Request, caller: Caller) -> tuple[str, Whose]:
        character: str = request.path_params["character_id"]
        whose = self._catalogue.whose(character)
        if whose is None or not caller.may_see(whose.owner):
            raise not_found()
        return character, whose

    def _own_job(self, request: Request, caller: Caller) -> tuple[str, str]:
        job: str = request.path_params["job_id"]
        owner = self._catalogue.owner_of(job)
        if owner is None or not caller.may_see(owner):
            raise not_found()
        return job, owner

    def _owner_revision(self, caller: Caller) -> Revision:
        return lambda: self._catalogue.owner_revision(caller.owner)

    def _shown(self, row: CharacterRow) -> answers.CharacterAnswer:
        page = self._catalogue.page(row.id, _PICTURES, limit=1) if row.counts.get("done") else None
        newest = page.rows[0] if page is not None and page.rows else None
        return views.character(row, newest, self._delivery, self._now())

    def _following(self, request: Request, cursor: str) -> str:
        asked = [(name, value) for name, value in request.query_params.multi_items() if name not in {"cursor", "wait"}]
        return f"{self._settings.public_url}{quote(request.scope['path'])}?{urlencode([*asked, ('cursor', cursor)])}"


async def _gone_while(request: Request, wait: Callable[[], Awaitable[None]]) -> bool:
    """Wait, but no longer than the caller stays; tell whether it left. Errors come out as they are, not in a group."""
    left = False
    trouble: PipelineError | None = None

    async def listen(scope: anyio.CancelScope) -> None:
        nonlocal left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left = True
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(listen, group.cancel_scope)
        try:
            await wait()
        except PipelineError as error:
            trouble = error
        group.cancel_scope.cancel()
    if trouble is not None:
        raise trouble
    return left


def _ready(answer: object, following: str | None) -> Ready:
    return Ready(orjson.dumps(answer), following=following)
