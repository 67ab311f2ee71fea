"""How a command has its order carried out: by the daemon that holds the state folder, or else by itself."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pipeline.errors import HeldElsewhere, PipelineError
from pipeline.orders.desk import Desk
from pipeline.orders.kinds import Order, Reply
from pipeline.tools.locks import hold, holder

EVERY = 0.05  # seconds between two looks for the reply
PATIENCE = 30.0
LASTING_PATIENCE = 900.0


class NoReply(PipelineError):
    """Whoever holds the state folder has not carried the order out yet; it stays."""


class NotLeft(PipelineError):
    """The order could not be left for whoever holds the state folder: nothing is done."""


def deliver(
    state: Path, order: Order, carry_out: Callable[[Order], Reply], *, process: str, patience: float | None = None
) -> Reply:
    """Return what became of an order.

    Args:
        state: the state folder.
        order: what is asked.
        carry_out: does it in this process, with the state folder held.
        process: what others are told about this process while it holds the folder.
        patience: seconds to wait for a daemon's reply.

    Raises:
        NoReply: none came in time; the order stays and is carried out.
        NotLeft: the disk is full, or the folder belongs to somebody else.
    """
    with (
        suppress(HeldElsewhere),
        hold(state, process=process, brief=True),
    ):  # who holds it, a daemon as a rule, is left the order
        return carry_out(order)
    desk = Desk(state)
    name = _left(order, desk, state)

    def alone() -> Reply | None:
        with suppress(HeldElsewhere), hold(state, process=process, brief=True):  # another may be quicker
            if desk.lies_there(name):  # else it was answered, which the next look finds
                reply = carry_out(order)
                desk.withdraw(name)
                return reply
        return None

    if patience is None:
        patience = LASTING_PATIENCE if order.lasting else PATIENCE
    deadline = time.monotonic() + patience
    try:
        while time.monotonic() < deadline:
            reply = desk.take_reply(name)
            if reply is None and holder(state) is None:  # whoever held it has ended meanwhile
                reply = alone()
            if reply is not None:
                return reply
            time.sleep(EVERY)
    except KeyboardInterrupt:
        desk.withdraw(name)
        raise
    raise NoReply(
        f"{_whoever_holds(state)} has not answered within {patience:g} s; the order stays in {desk.folder} and is carried out"
    )


def _left(order: Order, desk: Desk, state: Path) -> str:
    try:
        return desk.leave(order)
    except OSError as error:
        raise NotLeft(
            f"{desk.folder}: the order cannot be left there ({error.strerror}), so nothing is done; make room or mend the "
            f"permissions, or stop {_whoever_holds(state)}: without it the command does the work itself"
        ) from error


def _whoever_holds(state: Path) -> str:
    held_by = holder(state)
    return f"process {held_by.pid} ({held_by.process})" if held_by else "whoever held the state folder"
