"""The steward: carries an order out, in the daemon or in a command's own process, by the same code.

Every order may be carried out twice (a crash may come between the deed and the reply): what is done already is left as
it is. Images change only by events of `lifecycle`, recorded in the ledger.
"""

from typing import assert_never

from pipeline.orders.cancelling import cancel
from pipeline.orders.keeping import favorite, remove
from pipeline.orders.kinds import Adopt, Cancel, Favorite, Order, Pause, Remove, Reply, Resume, Retry
from pipeline.orders.pausing import pause, put_in_force, resume
from pipeline.orders.retrying import retry
from pipeline.orders.taking import adopt
from pipeline.stages import Parts, Stages


class Steward:
    """Carries out orders over the parts and stages of a house; the stages need not run.

    Making one puts the pauses that the index keeps in force, so it is made before the stages run.
    """

    def __init__(self, parts: Parts, stages: Stages) -> None:
        self._parts = parts
        self._stages = stages
        for what in parts.ledger.pauses():
            put_in_force(what, parts, stages)

    async def carry_out(self, order: Order) -> Reply:
        """Do what an order says.

        Raises:
            UserError: it names what is not there, or cannot be done as it is.
            IndexTrouble: the index cannot be written; what was done until then is done.
            StoreUnavailable: the store cannot be listed now.
        """
        parts, stages = self._parts, self._stages
        match order:
            case Cancel():
                reply = await cancel(order, parts, stages)
            case Retry():
                reply = await retry(order, parts, stages)
            case Pause():
                reply = await pause(order, parts, stages)
            case Resume():
                reply = await resume(order, parts, stages)
            case Favorite():
                reply = await favorite(order, parts.ledger)
            case Remove():
                reply = await remove(order, parts)
            case Adopt():
                reply = await adopt(order, parts, stages)
            case _:
                assert_never(order)
        stages.filing.bell.ring()
        return reply
