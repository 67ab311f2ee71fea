"""What others are asked: back ends and the store, each one harmless request; what styles and characters name there."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import islice

import httpx
import orjson
import trio

from pipeline.backends.connecting import proxy_for, tls
from pipeline.backends.opening import open_backend
from pipeline.catalogue import Catalogue
from pipeline.config import BackendConfig, CloudinaryConfig, ComfyuiConfig, Config, LocalConfig
from pipeline.doctor.findings import Finding, World
from pipeline.errors import IndexTrouble, PipelineError, SpecError
from pipeline.model import Fault, Job, Recipe
from pipeline.plan import read_job
from pipeline.ports import Backend
from pipeline.stores.opening import open_store
from pipeline.tools.clock import rfc3339

MOST_EMBEDDINGS = 100  # asked about: a ComfyUI sends some megabytes for each question
# What to do about faults whose own sentence does not say it, by code.
REMEDIES = {
    "unreachable": "start it, or correct its address in pipeline.yaml",
    "silent": "is it overloaded, or a firewall in between?",
    "unavailable": "its own log says why; images wait until it is well",
    "payment": "top it up; images wait until then",
    "pod_stopped": "start the pod, or put the address of its successor in url",
    "store_down": "is this machine online, and upload_prefix right? images wait in the spool until it answers",
    "rate_limited": "nothing is wrong: it is asked again later",
}
MAY_DIFFER = 300  # seconds between our clock and everybody else's


@dataclass(frozen=True, slots=True)
class Wish:
    """Something that images will ask of back ends."""

    whose: str  # style "anime", character Mary
    recipe: Recipe
    backends: tuple[str, ...]


async def store(config: Config, world: World) -> Finding:
    """Ask the store for next to nothing, with our credentials."""
    name = f"store ({config.store.type})"
    if isinstance(config.store, LocalConfig) and not config.store.folder.is_dir():
        return Finding(name, True, f"{config.store.folder}: made with the first image")
    place = config.store.folder if isinstance(config.store, LocalConfig) else f"cloud {config.store.cloud_name}"
    trouble = await _trouble(open_store(config.store, public_url=config.gallery.public_url).probe, world)
    return Finding(name, trouble is None, _with_remedy(trouble) if trouble is not None else f"{place}: answers")


async def backend(name: str, config: BackendConfig, wishes: list[Wish], world: World) -> list[Finding]:
    """Probe a back end; where it answers, ask whether it has what styles and characters name."""
    title = f"back end {name}"
    try:
        async with open_backend(config) as opened:
            trouble = await _trouble(opened.probe, world)
            if trouble is not None:
                return [Finding(title, False, _with_remedy(trouble))]
            found = [Finding(title, True, f"{config.base_url or config.type}: answers")]
            # The built-in workflow names no model: then a job, or its style, has to, and many do.
            open_end = isinstance(config, ComfyuiConfig) and config.workflow is None
            return found + await _wishes(title, opened, wishes, world, open_end=open_end)
    except PipelineError as error:
        return [Finding(title, False, str(error))]


async def _wishes(title: str, opened: Backend, wishes: list[Wish], world: World, *, open_end: bool) -> list[Finding]:
    """One finding for each thing that it will refuse; silence where it has all of it."""
    found: list[Finding] = []
    for wish in wishes:

        async def ask(wish: Wish = wish) -> None:
            await opened.check(wish.recipe, images=2)

        trouble = await _trouble(ask, world)
        if trouble is not None:
            only_open = open_end and wish.recipe.model is None and trouble.code == "missing_model"
            found.append(Finding(f"{title}, {wish.whose}", only_open, trouble.message))
    return found


def wishes(config: Config) -> tuple[list[Wish], list[Finding]]:
    """What images of each style, of no style, and of characters with an embedding will ask for, and what cannot be planned."""
    wanted: list[Wish] = []
    found: list[Finding] = []
    for style in (None, *config.styles):
        whose = "jobs without a style" if style is None else f'style "{style}"'
        try:
            job = _sample(config, style)
        except SpecError as error:
            found.append(Finding(whose, False, error.complaints[0].message))
            continue
        wanted.append(Wish(whose, job.recipe, job.backends))
    with_model = next((wish.recipe for wish in wanted if wish.recipe.model is not None), None)
    for plain in wanted[:1]:
        wanted += [
            Wish(f"character {character}", (with_model or plain.recipe)._replace(embedding=embedding), plain.backends)
            for embedding, character in islice(_embeddings(config).items(), MOST_EMBEDDINGS)
        ]
    return wanted, found


def _sample(config: Config, style: str | None) -> Job:
    said = {"character": "doctor", "prompt": "a portrait"} | ({"style": style} if style is not None else {})
    return read_job(orjson.dumps(said), file="doctor.json", rules=config.rules())


def _embeddings(config: Config) -> dict[str, str]:
    """Return each embedding that the index remembers, with a character that has it."""
    known: dict[str, str] = {}
    after: str | None = None
    try:
        with closing(Catalogue(config.index)) as catalogue:
            while True:
                page = catalogue.characters(None, after=after)
                known.update({row.embedding: row.id for row in page.rows if row.embedding is not None})
                after = page.next
                if after is None:
                    return known
    except IndexTrouble:  # told as a finding of its own
        return known


async def clock(config: Config, world: World) -> Finding:
    """Compare this machine's clock with what others say the time is."""
    told: dict[str, int] = {}

    async def ask(origin: str) -> None:
        moment = await _date(origin, world.timeout)
        if moment is not None:
            told[origin] = moment

    async with trio.open_nursery() as nursery:
        for origin in dict.fromkeys(_origins(config)):
            nursery.start_soon(ask, origin)
    present = world.clock()
    if not told:
        return Finding("clock", True, f"{rfc3339(present)}; nobody was there to compare it with")
    origin, nearest = min(told.items(), key=lambda one: abs(one[1] - present))
    seconds = (present - nearest) / 1000
    if abs(seconds) > MAY_DIFFER:
        way = "ahead of" if seconds > 0 else "behind"
        return Finding(
            "clock",
            False,
            f"{rfc3339(present)} is {abs(seconds):,.0f} s {way} {origin}; set it right "
            "(for example: timedatectl set-ntp true), or stores and logins will refuse what is signed with it",
        )
    return Finding("clock", True, f"{rfc3339(present)}, as {origin} says")


def _origins(config: Config) -> Iterator[str]:
    if isinstance(config.store, CloudinaryConfig):
        yield _origin(config.store.upload_prefix)
    for settings in config.backends.values():
        if settings.base_url is not None:
            yield _origin(settings.base_url)


def _origin(url: str) -> str:
    return str(httpx.URL(url).copy_with(username=None, password=None, raw_path=b"/"))


async def _date(origin: str, timeout: float) -> int | None:
    """Ask for nothing but the date; whatever else is answered does not matter here."""
    try:
        with trio.fail_after(timeout):
            transport = httpx.AsyncHTTPTransport(verify=tls(), proxy=proxy_for(origin))
            async with httpx.AsyncClient(transport=transport) as client:
                answer = await client.head(origin, follow_redirects=False)
        date = parsedate_to_datetime(answer.headers["date"])
    except (httpx.HTTPError, trio.TooSlowError, KeyError, ValueError):
        return None
    return round((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() * 1000)


def _with_remedy(trouble: Fault) -> str:
    remedy = REMEDIES.get(trouble.code)
    return trouble.message if remedy is None else f"{trouble.message}; {remedy}"


async def _trouble(ask: Callable[[], Awaitable[None]], world: World) -> Fault | None:
    try:
        with trio.fail_after(world.timeout):
            await ask()
    except trio.TooSlowError:
        return Fault("too_slow", f"no answer within {world.timeout:g} s; is it running, and reachable from here?")
    except PipelineError as error:
        return Fault(getattr(error, "code", "unusable"), str(error))
    except Exception as error:  # noqa: BLE001  # a defect of an adapter must not end the examination
        return Fault("defect", f"asking it broke with {type(error).__name__}; please report this")
    return None
