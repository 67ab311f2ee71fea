"""Whoever wants to know is told how a job has ended: the result is posted, at least once, for a day if need be.

What is posted is the result as it is at that moment, so a late message tells what a retry has made better meanwhile.
Receivers do not wait for each other, and nothing waits for a receiver.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import urlsplit

import orjson
import structlog
import trio

from pipeline.catalogue import Catalogue, success
from pipeline.ending.webhook import NotDelivered
from pipeline.errors import IndexTrouble
from pipeline.ledger import Ledger, Notice
from pipeline.tools.brake import FOREVER, Bell
from pipeline.tools.clock import Clock, now, rfc3339
from pipeline.tools.pauses import Pauses, jittered

log = structlog.get_logger(__name__)

AT_A_RECEIVER = 2  # messages under way at once
AT_ALL = 32
FIRST = 5.0  # seconds until the second try; each further pause is twice as long
LONGEST = 3600.0
LOOKS = 60.0  # seconds between two looks where something is to come: the wall's clock may jump
GIVE_UP = 24 * 3600.0  # seconds after the first try

Post = Callable[[str, str, bytes], Awaitable[None]]  # url, message id, body; raises NotDelivered


class Notifying:
    """The stage: asks the index who is due to be told, and tells them.

    Args:
        draw: a number in [0, 1), for jitter.
    """

    def __init__(
        self, ledger: Ledger, catalogue: Catalogue, post: Post, *, draw: Callable[[], float], clock: Clock = now
    ) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._post = post
        self._clock = clock
        self._draw = draw
        self._room = trio.CapacityLimiter(AT_ALL)
        self._in_hand: dict[str, str] = {}  # notice -> receiver
        self.bell = Bell()

    async def run(self) -> None:
        """Tell who is due, for ever."""
        pauses = Pauses(longest=30.0, draw=self._draw)
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    rest = self._start(nursery)
                except IndexTrouble as error:
                    log.warning("notifying_stuck", reason=str(error))
                    rest = pauses.next()
                else:
                    pauses.reset()
                await self.bell.wait(rest)

    def at_rest(self) -> bool:
        """Tell whether nobody is being told and nobody is due, as far as the index can be asked."""
        try:
            present = self._clock()
            outbox = self._ledger.outbox
            return not self._in_hand and not any(outbox.due(host, present, 1) for host in outbox.receivers())
        except IndexTrouble:
            return True

    def _start(self, nursery: trio.Nursery) -> float:
        """Take on what is due and has room, and return the seconds until more becomes due by itself."""
        present = self._clock()
        outbox = self._ledger.outbox
        busy = Counter(self._in_hand.values())
        rest = FOREVER
        for receiver in outbox.receivers():
            free = AT_A_RECEIVER - busy[receiver]
            due = [one for one in outbox.due(receiver, present, AT_A_RECEIVER) if one.id not in self._in_hand]
            for notice in due[:free]:
                self._in_hand[notice.id] = receiver
                nursery.start_soon(self._tell, notice)
            following = outbox.next_at(receiver, present)
            if following is not None:
                rest = min(rest, (following - present) / 1000, LOOKS)
        return rest

    async def _tell(self, notice: Notice) -> None:
        """Try once, and keep what has come of it; an index that cannot keep it lets it be tried again."""
        try:
            async with self._room:
                record = await self._try(notice)
            with trio.CancelScope(shield=True):  # what was told should not be told again for want of a note
                await record()
        except IndexTrouble as error:
            log.warning("notifying_stuck", reason=str(error))
            await trio.sleep(FIRST)
        finally:
            del self._in_hand[notice.id]
            self.bell.ring()

    async def _try(self, notice: Notice) -> Callable[[], Awaitable[None]]:
        """Post a notice, and return how to record the outcome."""
        data = self._catalogue.result(notice.job_id)
        if data is None:
            raise IndexTrouble(f"the index has no job {notice.job_id} any more; see `pipeline verify`")
        about = log.bind(job=notice.job_id, receiver=urlsplit(notice.url).hostname, attempt=notice.attempts + 1)
        try:
            await self._post(notice.url, notice.id, orjson.dumps({"success": success(data), "data": data}))
        except NotDelivered as error:
            present = self._clock()
            following = None if error.for_good else self._next_try(notice, present, error.retry_after)
            next_try = "never" if following is None else rfc3339(following)
            about.warning("not_notified", reason=str(error), next_try=next_try)
            return partial(self._ledger.outbox.failed, notice, present, str(error), following)
        about.info("notified")
        return partial(self._ledger.outbox.delivered, notice, self._clock())

    def _next_try(self, notice: Notice, present: int, asked: float | None) -> int | None:
        """The moment of the next try, the last one a day after the first; None: that was it."""
        last = (present if notice.tried_at is None else notice.tried_at) + round(GIVE_UP * 1000)
        if present >= last:
            return None
        span = min(FIRST * (1 << min(notice.attempts, 20)), LONGEST)
        return min(present + round(jittered(span, self._draw, asked) * 1000), last)
