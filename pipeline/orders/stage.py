"""The stage: looks at the desk, has orders carried out, and leaves the replies."""

import math
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
import trio

from pipeline.errors import PipelineError, UserError
from pipeline.orders.desk import Desk
from pipeline.orders.kinds import Order, Reply
from pipeline.tools.pauses import Pauses
from pipeline.tools.threads import RunSync

log = structlog.get_logger(__name__)

EVERY = 0.25  # seconds between two looks at the desk: an empty folder costs microseconds
UNANSWERED = 5.0  # seconds before a lasting order whose reply could not be written is carried out once more


async def obeyed(carry_out: Callable[[Order], Awaitable[Reply]], order: Order) -> Reply:
    """Carry an order out, and tell every failure as a reply."""
    try:
        return await carry_out(order)
    except Exception as error:  # a defect met by one order must end nothing else
        told = _ours(error)
        if told is None:
            log.exception("order_broke", kind=order.kind)
            return Reply(exit_code=1, lines=(f"the order broke with {type(error).__name__}; the log has the details",))
        return Reply(exit_code=2 if isinstance(told, UserError) else 1, lines=(str(told),))


def _ours(error: BaseException) -> PipelineError | None:
    """Return the error that was raised on purpose, also where a nursery has wrapped it; None: it is a defect."""
    if not isinstance(error, BaseExceptionGroup):
        return error if isinstance(error, PipelineError) else None
    found = [_ours(one) for one in error.exceptions]
    return None if None in found else found[0]


class Orders:
    """Carries orders out one after the other; those that may take minutes go in a line of their own."""

    def __init__(
        self,
        desk: Desk,
        carry_out: Callable[[Order], Awaitable[Reply]],
        *,
        run_sync: RunSync = trio.to_thread.run_sync,
    ) -> None:
        self._desk = desk
        self._carry_out = carry_out
        self._run_sync = run_sync
        self._in_hand: set[str] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work for ever; what was left before a crash is found at the first look.

        Raises:
            OSError: the folder cannot be made.
        """
        self._desk.open()
        self._desk.sweep()
        pauses = Pauses(longest=30.0)
        lasting, taken = trio.open_memory_channel[tuple[str, Order]](math.inf)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._work_through, taken)
            await self._try_to_look(lasting, pauses)
            task_status.started()
            while True:
                rest = await self._try_to_look(lasting, pauses)
                await trio.sleep(rest)

    async def _try_to_look(self, lasting: trio.MemorySendChannel[tuple[str, Order]], pauses: Pauses) -> float:
        """Carry out what is due, and return the seconds until the next look."""
        try:
            await self._look(lasting)
        except OSError as error:
            log.warning("orders_stuck", folder=str(self._desk.folder), reason=error.strerror)
            return pauses.next()
        pauses.reset()
        return EVERY

    async def _look(self, lasting: trio.MemorySendChannel[tuple[str, Order]]) -> None:
        for name in self._desk.waiting():
            if name in self._in_hand:
                continue
            try:
                order = self._desk.read(name)
            except FileNotFoundError:
                continue
            except UserError as error:
                log.warning("order_refused", order=name, reason=str(error))
                await self._run_sync(self._desk.set_aside, name, str(error))
                continue
            self._in_hand.add(name)
            if order.lasting:
                lasting.send_nowait((name, order))
            else:
                await self._one(name, order)

    async def _work_through(self, taken: trio.MemoryReceiveChannel[tuple[str, Order]]) -> None:
        async for name, order in taken:
            try:
                await self._one(name, order)
            except OSError as error:  # the reply could not be written: the order is found again at the next look
                log.warning("orders_stuck", folder=str(self._desk.folder), reason=error.strerror)
                await trio.sleep(UNANSWERED)

    async def _one(self, name: str, order: Order) -> None:
        try:
            reply = await obeyed(self._carry_out, order)
            log.info("order_carried_out", kind=order.kind, exit_code=reply.exit_code, said="; ".join(reply.lines[:3]))
            await self._run_sync(partial(self._desk.answer, name, reply))
            await self._run_sync(self._desk.sweep)
        finally:
            self._in_hand.discard(name)
