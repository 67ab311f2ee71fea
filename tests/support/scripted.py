"""A back end and a store that do as they are told, on trio's clock; and a house of stages built over them.

Both outlive the house: what was accepted there goes on while "the daemon" is down, as at a real service.
"""

import contextlib
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import trio

from pipeline.catalogue import Catalogue
from pipeline.errors import StoreConflict, Unavailable
from pipeline.ledger import open_ledger
from pipeline.making.lane import Lane, Limits
from pipeline.model import CharacterRef, Job, Picture, PlannedImage, Recipe, Stored, Submission
from pipeline.orders.steward import Steward
from pipeline.ports import CannotTell, NotThere
from pipeline.spool import Spool
from pipeline.stages import Parts, Stages
from pipeline.tools import spacing
from pipeline.tools.brake import Brake
from tests.support.index import images_of
from tests.support.pictures import plain
from tests.support.waiting import inline, wall


def no_jitter():
    """The random number with which every pause has its full length."""
    return 1.0


def job(job_id="j1", images=1, *, owner="alice", character="mary", backends=("pod",), seed=1, **changes):
    planned = tuple(PlannedImage(f"picture {n}", seed + n) for n in range(images))
    made = Job(
        id=job_id,
        own_id=True,
        character=CharacterRef(character, None),
        owner=owner,
        default_owner="me",
        prompt="picture",
        images=planned,
        recipe=Recipe(width=64, height=64),
        backends=backends,
        digest=job_id,
        file=f"{job_id}.yaml",
    )
    return made._replace(**changes)


@dataclass
class Remote:
    """A submission as the service knows it."""

    request: object
    submission: Submission
    ready_at: float
    cancelled: bool = False


class ScriptedBackend:
    """Accepts everything and is done `takes` seconds later, but for what a test has put into its scripts.

    `on_submit`, `on_find`, `on_collect` and `on_probe` are queues: an exception is raised, "hang" never returns,
    a number is a delay before the usual, a Picture is returned, None means the usual.
    """

    def __init__(self, takes=1.0, *, base_url="http://pod", at_once=False, blind=False, answers_in=0.0):
        self.takes = takes
        self.base_url = base_url
        self.at_once = at_once
        self.blind = blind
        self.answers_in = answers_in
        self.down = None
        self.on_submit = deque()
        self.on_find = deque()
        self.on_collect = deque()
        self.on_probe = deque()
        self.on_check = deque()
        self.starts = []  # (moment, seed) of each submission that went out
        self.looks = []
        self.checks = []
        self.probes = []
        self.cancels = []
        self.remote = {}
        self.busy = 0
        self.busiest = 0

    async def submit(self, request):
        await spacing.departure()
        self.starts.append((trio.current_time(), request.seed))
        await self._scripted(self.on_submit)
        if self.at_once:
            with self._working():
                await trio.sleep(self.takes)
            return self._picture(request)
        submission = self.accept(request)
        await trio.sleep(self.answers_in)
        return submission

    def accept(self, request):
        """What the service does, whether or not its answer arrives."""
        moment = wall()
        submission = Submission(
            f"r{len(self.remote) + 1}", self.base_url, moment, moment + round(request.timeout * 1000)
        )
        self.remote[submission.remote_id] = Remote(request, submission, trio.current_time() + self.takes)
        return submission

    async def find(self, request):
        await self._scripted(self.on_find)
        if self.blind:
            return CannotTell("it has no way of asking")
        for remote in self.remote.values():
            if remote.request.ticket == request.ticket:
                return remote.submission
        return NotThere()

    async def collect(self, request, submission):
        self.looks.append((trio.current_time(), submission.remote_id))
        with self._working():
            made = await self._scripted(self.on_collect)
            if made is not None:
                return made
            await trio.sleep_until(self.remote[submission.remote_id].ready_at)
            while self.down is not None:  # noqa: ASYNC110 - passing weather is waited out as an adapter does, by asking
                await trio.sleep(0.5)
        return self._picture(request)

    async def cancel(self, submission):
        self.cancels.append((trio.current_time(), submission.remote_id))
        self.remote[submission.remote_id].cancelled = True
        await trio.lowlevel.checkpoint()

    async def check(self, recipe, *, images):
        self.checks.append((trio.current_time(), images))
        await self._scripted(self.on_check, down=False)

    async def probe(self):
        self.probes.append(trio.current_time())
        await self._scripted(self.on_probe)

    def _picture(self, request):
        return Picture(plain(shade=request.seed), gpu_seconds=self.takes)

    async def _scripted(self, script, *, down=True):
        await trio.lowlevel.checkpoint()
        if down and self.down is not None and script is not self.on_collect:
            raise Unavailable(self.down, code="unreachable")
        step = script.popleft() if script else None
        if isinstance(step, BaseException):
            raise step
        if step == "hang":
            await trio.sleep_forever()
        if isinstance(step, (int, float)):
            await trio.sleep(step)
            return None
        return step

    @contextlib.contextmanager
    def _working(self):
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            yield
        finally:
            self.busy -= 1


class ScriptedStore:
    """Keeps items in memory; `on_put`, `on_listing` and `on_probe` are queues of exceptions, delays or None."""

    def __init__(self, takes=0.0):
        self.takes = takes
        self.items = {}
        self.assets = {}  # by owner slug
        self.puts = []
        self.listings = []
        self.probes = []
        self.on_put = deque()
        self.on_listing = deque()
        self.on_probe = deque()
        self.busy = 0
        self.busiest = 0

    async def put(self, item, *, replace=None):
        self.puts.append((trio.current_time(), item.public_id, replace))
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await self._scripted(self.on_put)
            await trio.sleep(self.takes)
        finally:
            self.busy -= 1
        there = self.items.get(item.public_id)
        if there is not None and there.artifact.md5 not in {item.artifact.md5, replace and replace.md5}:
            raise StoreConflict(f"{item.public_id} holds another image", code="conflict")
        self.items[item.public_id] = item
        found = item.artifact
        url = f"http://store/{item.public_id}"
        return Stored(item.public_id, url, "1", found.md5, found.bytes, found.width, found.height, found.format)

    async def remove(self, stored):
        await trio.lowlevel.checkpoint()
        self.items.pop(stored.public_id, None)

    async def listing(self, owner_slug):
        self.listings.append((trio.current_time(), owner_slug))
        await self._scripted(self.on_listing)
        for asset in self.assets.get(owner_slug, ()):
            yield asset

    async def probe(self):
        self.probes.append(trio.current_time())
        await self._scripted(self.on_probe)

    async def _scripted(self, script):
        await trio.lowlevel.checkpoint()
        step = script.popleft() if script else None
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, (int, float)):
            await trio.sleep(step)


class Crashing:
    """A ledger that ends the world right after its `n`-th recorded step, and answers nobody from then on."""

    def __init__(self, ledger, after, crash):
        self._ledger = ledger
        self._after = after
        self._crash = crash
        self.recorded = []

    def __getattr__(self, name):
        return getattr(self._ledger, name)

    async def record(self, image, event):
        if len(self.recorded) == self._after:
            await trio.sleep_forever()
        made = await self._ledger.record(image, event)
        self.recorded.append(type(event).__name__)
        if len(self.recorded) == self._after:
            self._crash()
            await trio.sleep_forever()
        return made


@dataclass
class House:
    ledger: object
    spool: Spool
    stages: Stages
    lanes: dict
    brake: Brake
    jobs: Path
    parts: Parts
    steward: Steward
    stop: trio.Event = field(default_factory=trio.Event)
    gone: trio.Event = field(default_factory=trio.Event)

    async def run(self, *, task_status):
        await self.stages.run(self.stop, task_status=task_status)
        self.gone.set()

    async def accept(self, *jobs):
        verdicts = await self.ledger.accept(jobs)
        for one in jobs:
            (self.jobs / "active" / one.file).write_text(one.id)
        self.stages.accepted([one.id for one in jobs])
        return verdicts

    async def settled(self, every=0.25):
        while not self.stages.settled():  # noqa: ASYNC110 - it is a question to the index, nothing tells of it
            await trio.sleep(every)

    def states(self, job_id="j1"):
        return [image.state.value for image in images_of(self.ledger, job_id)]


def lane(name, backend, brake, **settings):
    limits = Limits(**{"concurrency": 2, "timeout": 60.0} | settings)
    return Lane(name, backend, limits, brake=brake, base_url=backend.base_url, clock=wall, draw=no_jitter)


@contextlib.asynccontextmanager
async def reading(index):
    """A catalogue of an index, which need not be there yet."""
    catalogue = Catalogue(index)
    try:
        yield catalogue
    finally:
        catalogue.close()


@contextlib.asynccontextmanager
async def house(
    folder,
    backends,
    store=None,
    *,
    settings=None,
    limit=10**9,
    crash_after=None,
    uploads=8,
    commits=inline,
    **lane_settings,
):
    """Open a house on `folder`, its stages running; leaving the block is a crash, unless `gone` is awaited after `stop`.

    `settings` holds lane settings by back end, further keywords are for all of them. `commits` is the ledger's `run_sync`.
    """
    jobs = folder / "jobs"
    for name in ("active", "done"):
        (jobs / name).mkdir(parents=True, exist_ok=True)
    brake = Brake()
    lanes = {
        name: lane(name, backend, brake, **lane_settings, **(settings or {}).get(name, {}))
        for name, backend in backends.items()
    }
    index = folder / "index.db"
    async with (
        open_ledger(index, clock=wall, run_sync=commits) as opened,
        reading(index) as catalogue,
        trio.open_nursery() as nursery,
    ):
        ledger = opened if crash_after is None else Crashing(opened, crash_after, nursery.cancel_scope.cancel)
        spool = Spool(folder / "spool", folder / "kept", limit=limit, run_sync=inline)
        store = ScriptedStore() if store is None else store
        parts = Parts(ledger, catalogue, spool, store, lanes, brake, jobs, wall, inline, uploads, no_jitter)
        stages = Stages(parts)
        made = House(ledger, spool, stages, lanes, brake, jobs, parts, Steward(parts, stages))
        await nursery.start(made.run)
        try:
            yield made
        finally:
            stages.worker.hurry(0)
            nursery.cancel_scope.cancel()
