"""From the spool into the store: placeholders are drawn here, uploads run a few at a time, oldest image first."""

from collections.abc import Callable

import structlog
import trio
from structlog.contextvars import bound_contextvars

from pipeline import picture, placeholder
from pipeline.errors import SpoolTrouble, StaleImage, StoreConflict, StoreRefused, StoreUnavailable
from pipeline.ledger import Ledger
from pipeline.lifecycle import TO_STORE, Drawn, Event, Rejected, StoredAt
from pipeline.making.outcomes import names_of
from pipeline.model import Artifact, Fault, Image, Item, State, Status
from pipeline.ports import Store
from pipeline.spool import Spool
from pipeline.tools.brake import Bell
from pipeline.tools.patience import Patience
from pipeline.tools.pauses import Pauses
from pipeline.tools.threads import RunSync
from pipeline.weather import Weather

log = structlog.get_logger(__name__)

PARALLEL = 8  # uploads at once
COPIES = 3  # of an image's bytes that its upload has in memory: as read, labelled or wrapped for the wire, as sent
AHEAD = 4  # times as many as are stored at once are read from the index together


class Storing:
    """The stage: asks the index what lies in the spool or owes a placeholder, and stores it.

    Args:
        at_rest: told of each image that was stored, or that no store will take.
        run_sync: runs the drawing; tests under a virtual clock pass an inline one.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        store: Store,
        weather: Weather,
        patience: Patience,
        *,
        at_rest: Callable[[Image], None],
        run_sync: RunSync = trio.to_thread.run_sync,
        parallel: int = PARALLEL,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._store = store
        self._weather = weather
        self._patience = patience
        self._at_rest = at_rest
        self._run_sync = run_sync
        self._places = trio.Semaphore(parallel)
        self._at_once = AHEAD * parallel
        self._stopping = False
        self._idle = trio.Event()
        self.bell = Bell()
        self.under_way: set[int] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Store what is due, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._weather.keep_watch)
            task_status.started()
            while True:
                await self._weather.fine()
                due = await self._patience.until_done("the index", self._due)
                for image in due:
                    await self._places.acquire()
                    if self._weather.reason is not None:
                        self._places.release()
                        break
                    self.under_way.add(image.row)
                    nursery.start_soon(self._one, image)
                else:  # all were begun
                    if len(due) < self._at_once:
                        await self.bell.wait()

    async def drain(self) -> None:
        """Begin nothing new, and return when the uploads under way have ended."""
        self._stopping = True
        while self.under_way:
            self._idle = trio.Event()
            await self._idle.wait()

    async def _due(self) -> list[Image]:
        await trio.lowlevel.checkpoint()
        return [] if self._stopping else self._ledger.to_store(self._at_once, self.under_way)

    async def _one(self, image: Image) -> None:
        pauses = Pauses()
        try:
            while image.state in TO_STORE and not self._stopping:
                try:
                    with bound_contextvars(**names_of(image)):
                        image = await self._step(image)
                except StoreUnavailable as error:
                    self._weather.failed(error)
                    break
                except StaleImage:
                    break
                except Exception:  # a defect met by one image must not end the others' work
                    log.exception("storing_stuck", **names_of(image))
                    await self._step_aside(pauses.next())
        finally:
            self.under_way.discard(image.row)
            self._places.release()
            self._idle.set()
        if image.state in TO_STORE:
            self.bell.ring()
        else:
            self._at_rest(image)

    async def _step_aside(self, seconds: float) -> None:
        """Wait without a place: as many such images as there are places would keep all others from the store."""
        self._places.release()
        try:
            await trio.sleep(seconds)
        finally:
            with trio.CancelScope(shield=True):
                await self._places.acquire()

    async def _step(self, image: Image) -> Image:
        if image.state is State.GIVEN_UP:
            return await self._draw(image)
        try:
            return await self._upload(image)
        except SpoolTrouble as trouble:
            if not trouble.lost:
                raise
            return await self._restore(image)

    async def _draw(self, image: Image) -> Image:
        artifact = await self._drawn(image)
        return await self._record(image, Drawn(artifact))

    async def _drawn(self, image: Image) -> Artifact:
        size = image.recipe
        reason = image.fault or Fault("unknown", "the reason was not recorded")

        def draw() -> tuple[bytes, picture.Examined]:
            data = placeholder.draw(
                size.width,
                size.height,
                character=image.character_name,
                number=image.number,
                reason=reason,
                job_id=image.job_id,
            )
            return data, picture.examine(data)

        data, seen = await self._run_sync(draw)
        name = f"{image.row}-placeholder.img"
        await self._patience.until_done("the spool", lambda: self._spool.write(name, data))
        return Artifact(file=name, **seen._asdict())

    async def _upload(self, image: Image) -> Image:
        artifact = image.artifact
        assert artifact is not None
        with self._spool.room.hold() as hold:
            await hold.claim(COPIES * artifact.bytes)
            data = await self._spool.read(artifact.file)
            try:
                standing = image.stored if image.standing is State.PLACEHOLDER else None
                stored = await self._store.put(self._item(image, artifact, data), replace=standing)
            except StoreConflict as error:
                return await self._refused(image, artifact, Fault(error.code, str(error)), conflict=True)
            except StoreRefused as error:
                return await self._refused(image, artifact, Fault(error.code, str(error)), conflict=False)
        self._weather.went_well()
        image = await self._record(image, StoredAt(stored))
        log.info("image_stored", **names_of(image), status=image.state.value, gpu_seconds=round(image.gpu_seconds, 3))
        await self._patience.until_done("the spool", lambda: self._spool.drop(artifact.file))
        return image

    async def _refused(self, image: Image, artifact: Artifact, fault: Fault, *, conflict: bool) -> Image:
        """What was paid for is kept, before the index says that the spool no longer needs it."""
        paid = image.state is State.FETCHED
        log.warning("store_refused", **names_of(image), code=fault.code, reason=fault.message)
        if paid:
            await self._patience.until_done("the spool", lambda: self._spool.keep(artifact.file))
        image = await self._record(image, Rejected(fault, conflict=conflict))
        if not paid:
            await self._patience.until_done("the spool", lambda: self._spool.drop(artifact.file))
        return image

    async def _restore(self, image: Image) -> Image:
        """Mend a missing spool file: a placeholder is drawn again, a picture may have been put aside before a crash."""
        assert image.artifact is not None
        if image.state is State.DRAWN:
            await self._drawn(image)
            return image
        try:
            await self._spool.bring_back(image.artifact.file)
        except SpoolTrouble as trouble:
            if not trouble.lost:
                raise
            gone = Fault(
                "spool_lost", f"its bytes are gone from the spool ({image.artifact.file}): somebody removed them"
            )
            return await self._record(image, Rejected(gone))
        return image

    async def _record(self, image: Image, event: Event) -> Image:
        image = await self._patience.until_done("the index", lambda: self._ledger.record(image, event))
        log.debug("image_step", **names_of(image), step=type(event).__name__)
        return image

    def _item(self, image: Image, artifact: Artifact, data: bytes) -> Item:
        return Item(
            public_id=image.public_id,
            data=data,
            artifact=artifact,
            status=Status.DONE if image.state is State.FETCHED else Status.PLACEHOLDER,
            number=image.number,
            owner=image.owner,
            character_id=image.character_id,
            character_name=image.character_name,
            job_id=image.job_id,
            prompt=image.prompt,
            seed=image.seed,
            created_at=self._ledger.stored_moment(image),
            labels=image.labels,
            color=artifact.color,
        )
