"""Asking a back end before images are queued whether it has what a job names; the answers are shared and kept a while."""

import hashlib

import structlog
import trio

from pipeline.errors import InvalidRequest, NotAccepted, Unavailable
from pipeline.making.lane import Lane
from pipeline.making.outcomes import names_of
from pipeline.model import Fault, Image, Recipe

log = structlog.get_logger(__name__)

KEPT_SECONDS = 60.0  # after that a model may have been installed, or removed
KEPT_ANSWERS = 1024

_Key = tuple[str, bytes, bool]


class Checks:
    """The recent answers of `Backend.check`, by what was asked; one question at a time per back end."""

    def __init__(self) -> None:
        self._answers: dict[_Key, tuple[float, Fault | None]] = {}
        self._asking: dict[str, trio.Lock] = {}
        self._in_vain_since: dict[str, float] = {}

    async def obstacle(self, image: Image, lane: Lane) -> Fault | None:
        """Return why this back end will never make the image; None where it may, or nobody can tell for too long.

        Raises:
            NotAccepted: it cannot be asked now; the lane has learnt of it where it is down.
        """
        key = (lane.name, _digest(image.recipe), image.quantity > 1)
        async with self._asking.setdefault(lane.name, trio.Lock()):
            until, fault = self._answers.get(key, (float("-inf"), None))
            if trio.current_time() < until:
                return fault
            try:
                fault = await self._ask(image, lane)
                self._in_vain_since.pop(lane.name, None)
            except Unavailable:
                since = self._in_vain_since.setdefault(lane.name, trio.current_time())
                if trio.current_time() - since < lane.timeout or not await lane.answers():
                    raise
                fault = None  # it is up, and only this question finds no answer: the submission will tell
            while len(self._answers) >= KEPT_ANSWERS:
                del self._answers[next(iter(self._answers))]
            self._answers.pop(key, None)
            self._answers[key] = (trio.current_time() + KEPT_SECONDS, fault)
            return fault

    async def _ask(self, image: Image, lane: Lane) -> Fault | None:
        try:
            with trio.fail_after(lane.timeout):
                await lane.backend.check(image.recipe, images=image.quantity)
        except InvalidRequest as error:
            return Fault(error.code, str(error))
        except trio.TooSlowError as slow:
            raise Unavailable(f"no answer to a check within {lane.timeout:g} s", code="timed_out") from slow
        except NotAccepted:
            raise
        except Exception:  # a defect of one adapter must not keep the image from going out: the submission will tell
            log.exception("check_broke", **names_of(image) | {"backend": lane.name})
        return None


def _digest(recipe: Recipe) -> bytes:
    """Tell recipes apart without keeping them: `params` may hold whole pictures."""
    return hashlib.blake2b(repr(recipe).encode(errors="surrogatepass"), digest_size=16).digest()
