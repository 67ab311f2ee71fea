"""A real index and a real images folder with something in them, and the gallery over both."""

from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import httpx

from pipeline import placeholder
from pipeline.backends import sketch
from pipeline.catalogue import Catalogue
from pipeline.gallery.app import make_app
from pipeline.gallery.settings import GallerySettings, LocalFiles
from pipeline.gallery.tokens import Tokens
from pipeline.ledger import open_ledger
from pipeline.lifecycle import Accepted, Cancelled, Drawn, Fetched, GaveUp, StoredAt, Submitting
from pipeline.model import CharacterRef, Fault, Item, Job, PlannedImage, Recipe, Request, Status, Submission
from pipeline.stores import layout
from pipeline.stores.delivery import LocalDelivery
from pipeline.stores.local import LocalStore
from tests.support.index import images_of
from tests.support.pictures import artifact, plain
from tests.support.waiting import EPOCH, inline

START = EPOCH
KEY = b"k" * 32
BASE = "http://testserver"


class Studio:
    """Makes jobs and carries their images as the stages would, through the ledger's own law."""

    def __init__(self, folder, ledger, *, drawn, public_url=BASE):
        self.folder = folder
        self.ledger = ledger
        self.drawn = drawn
        self.store = LocalStore(folder / "images", public_url=public_url, run_sync=inline)
        self.moment = START
        self._names = count(1)
        self._shades = count(1)

    def now(self):
        return self.moment

    async def job(
        self, character="mary", *, owner="alice", n=1, prompts=None, name=None, recipe=None, labels=(), seed=1, **more
    ):
        prompts = prompts or [f"a portrait in garden {i}" for i in range(1, n + 1)]
        job = Job(
            id=name or f"job-{next(self._names)}",
            own_id=True,
            character=CharacterRef(character, more.pop("display", None)),
            owner=owner,
            default_owner="me",
            prompt=prompts[0] if len(set(prompts)) == 1 else tuple(prompts),
            images=tuple(PlannedImage(prompt, seed + i) for i, prompt in enumerate(prompts)),
            recipe=recipe or Recipe(width=64, height=96, style="anime", steps=28),
            backends=("pod",),
            labels=tuple(labels),
            digest=f"digest {character} {name} {len(prompts)}",
            file="x.yaml",
            **more,
        )
        await self.ledger.accept([job])
        for waiting in self.ledger.owners_to_adopt():
            await self.ledger.adopt(waiting.owner, next(self.ledger.folder_choices(waiting.owner)), [])
        return job.id

    async def start(self, character, number):
        image = self.ledger.image_by_number(character, number)
        image = await self.ledger.record(image, Submitting("pod", f"ticket-{image.row}"))
        return await self.ledger.record(
            image, Accepted(Submission("r", "http://pod", self.moment, self.moment + 600_000))
        )

    async def finish(self, character, number):
        image = self.ledger.image_by_number(character, number)
        if image.state == "planned":
            image = await self.start(character, number)
        data = self._picture(image)
        image = await self.ledger.record(image, Fetched(artifact(data), gpu_seconds=2.5))
        return await self._keep(image, data, Status.DONE)

    async def give_up(self, character, number, fault=None):
        image = self.ledger.image_by_number(character, number)
        fault = fault or Fault("timed_out", "it took longer than 600 s")
        image = await self.ledger.record(image, GaveUp(fault))
        if image.state == "failed":
            return image
        data = placeholder.draw(
            image.recipe.width, image.recipe.height, character=image.character_name, number=number, reason=fault
        )
        image = await self.ledger.record(image, Drawn(artifact(data)))
        return await self._keep(image, data, Status.PLACEHOLDER)

    async def cancel(self, character, number):
        return await self.ledger.record(self.ledger.image_by_number(character, number), Cancelled())

    async def favorite(self, character, number):
        await self.ledger.favorite(self.ledger.image_by_number(character, number), chosen=True)

    async def note(self, job, reason):
        await self.ledger.notes.jobs([job], reason)

    async def made(self, character="mary", n=1, **more):
        """A job whose images are all done; the numbers of the last ones."""
        job = await self.job(character, n=n, **more)
        images = images_of(self.ledger, job)
        for image in images:
            await self.finish(character, image.number)
            self.moment += 1000
        return [image.number for image in images]

    def _picture(self, image):
        if not self.drawn:
            return plain(shade=next(self._shades))
        return sketch.draw(Request("t", image.prompt, image.seed, image.recipe, 1, 60.0))

    async def _keep(self, image, data, status):
        item = Item(
            public_id=image.public_id, data=data, artifact=image.artifact, status=status, number=image.number, owner=image.owner,
            character_id=image.character_id, character_name=image.character_name, job_id=image.job_id, prompt=image.prompt,
            seed=image.seed, created_at=self.ledger.stored_moment(image), labels=image.labels, color=image.artifact.color,
        )  # fmt: skip
        return await self.ledger.record(image, StoredAt(await self.store.put(item, replace=image.stored)))


@asynccontextmanager
async def studio(folder, *, drawn=False, public_url=BASE):
    index = folder / ".pipeline" / "index.db"
    index.parent.mkdir(exist_ok=True)
    held = []
    async with open_ledger(index, clock=lambda: held[0].moment if held else START, run_sync=inline) as ledger:
        held.append(Studio(folder, ledger, drawn=drawn, public_url=public_url))
        yield held[0]


class House:
    """A studio and its gallery, asked over ASGI without a socket."""

    def __init__(self, made, **changes):
        self.studio = made
        self.catalogue = Catalogue(made.folder / ".pipeline" / "index.db", images=made.store.folder)
        self.tokens = Tokens(made.folder / ".pipeline" / "tokens", now=made.now)
        self.settings = replace(GallerySettings(public_url=BASE), **changes.pop("settings", {}))
        self.files = LocalFiles(KEY, layout.thumbnail_beside)
        self.app = make_app(
            self.catalogue, self.tokens, changes.pop("delivery", None) or LocalDelivery(self.settings.public_url, KEY),
            settings=self.settings, files=self.files, now=made.now, **changes,
        )  # fmt: skip
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False),
            base_url=BASE,
            headers={"accept-encoding": "identity"},
        )
        self.alice = self.tokens.create("alice")

    async def get(self, path, token=None, **headers):
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        bearer = self.alice if token is None else token
        return await self.client.get(path, headers={"authorization": f"Bearer {bearer}", **fields})

    async def data(self, path, token=None):
        answer = await self.get(path, token)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def images(self, character="mary"):
        return f"/api/image-generation/character/{character}"


@asynccontextmanager
async def house(folder, *, drawn=False, **changes):
    async with studio(folder, drawn=drawn) as made:
        home = House(made, **changes)
        async with home.client:
            try:
                yield home
            finally:
                home.catalogue.close()
