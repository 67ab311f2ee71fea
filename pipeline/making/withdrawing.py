"""Cancelling a job's images: those that wait end at once, those at back ends are stopped there first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog
import trio
from structlog.contextvars import bound_contextvars

from pipeline.ledger import Ledger
from pipeline.lifecycle import AT_BACKEND, ENDS, Cancelled
from pipeline.making import asking
from pipeline.making.lane import Lane
from pipeline.making.outcomes import names_of, request_for
from pipeline.making.worker import Worker
from pipeline.model import Image, State, Submission
from pipeline.ports import CannotTell, NotThere

log = structlog.get_logger(__name__)

BATCH = 500  # images cancelled between two looks at the index
SEARCH = 0.75  # seconds that looking for what is to be cancelled may take: people wait for it


@dataclass(slots=True)
class Withdrawn:
    """What became of the images of a cancelled job."""

    images: int = 0  # cancelled; those that a store was to be handed already are still stored
    unheard: list[Image] = field(default_factory=list)  # may go on at a back end that could not be told


class Withdrawal:
    """Ends the images of one job that no store has been handed yet.

    Args:
        at_rest: told of each image that has ended.
    """

    def __init__(
        self,
        job_id: str,
        ledger: Ledger,
        worker: Worker,
        lanes: Mapping[str, Lane],
        at_rest: Callable[[Image], None],
    ) -> None:
        self.gone = Withdrawn()
        self._job_id = job_id
        self._ledger = ledger
        self._worker = worker
        self._lanes = lanes
        self._at_rest = at_rest

    async def end_planned(self) -> None:
        """End what waits for its turn."""
        while batch := self._ledger.planned(self._job_id, BATCH):
            await self._end_all(batch)

    async def end_at_backends(self) -> None:
        """End what is at a back end and in nobody's hands."""
        await self._end_all([image for image in self._ledger.at_backends() if image.job_id == self._job_id])

    async def _end_all(self, images: list[Image]) -> None:
        async with trio.open_nursery() as nursery:
            for image in images:
                nursery.start_soon(self._end, image)

    async def _end(self, image: Image) -> None:
        lane = self._lanes.get(image.backend or "")
        heard = image.state not in AT_BACKEND or (lane is not None and await _stop(image, lane))
        ended = await self._worker.end(image, Cancelled())
        if ended.state in ENDS:
            self.gone.images += 1
        if not heard:
            self.gone.unheard.append(ended)
        self._at_rest(ended)


async def _stop(image: Image, lane: Lane) -> bool:
    """Stop an image at its back end; tell whether nothing of it goes on there, as far as that can be known."""
    with bound_contextvars(**names_of(image)):
        submission, stopped = image.submission, False
        if image.state is not State.SUBMITTED:
            found = await _found(image, lane)
            submission = found if isinstance(found, Submission) else None
            stopped = isinstance(found, NotThere)
        return stopped if submission is None else await asking.cancel(submission, lane)


async def _found(image: Image, lane: Lane) -> Submission | NotThere | CannotTell | None:
    """Look for what may have been accepted; None: there was no answer in time, or the adapter broke."""
    with trio.move_on_after(SEARCH):
        try:
            return await asking.find(request_for(image, lane), lane)
        except Exception:  # a defect of one adapter must not keep the job from being cancelled
            log.exception("search_broke", **names_of(image))
    return None
