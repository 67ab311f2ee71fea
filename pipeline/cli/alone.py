"""An order carried out where no daemon runs, by the same steward over the same parts."""

import logging
import sys
from contextlib import suppress

import structlog
import trio

from pipeline.backends.pace import Pace
from pipeline.config import BackendConfig, Config
from pipeline.errors import ConfigError
from pipeline.opening import Openers, opened
from pipeline.orders.kinds import Cancel, Order, Reply
from pipeline.orders.stage import obeyed
from pipeline.orders.steward import Steward
from pipeline.stages import Stages

FILED_AT_ONCE = 100


def carry_out(config: Config, order: Order) -> Reply:
    """Carry an order out in this process, which holds the state folder."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    return trio.run(carry_out_alone, config, order, Openers())


async def carry_out_alone(config: Config, order: Order, openers: Openers) -> Reply:
    """Carry an order out without a daemon; the caller holds the state folder.

    Stages are put together and not run: what an order leaves to be made, uploaded or stored is found by the next start.

    Raises:
        ConfigError: the store cannot be used as it is configured.
        IndexTrouble, SpoolTrouble: the index or the spool cannot be opened.
    """
    config.state.chmod(0o700)
    backends = await _reachable(config, openers) if isinstance(order, Cancel) else {}
    async with opened(config.model_copy(update={"backends": backends}), openers) as parts:
        stages = Stages(parts)
        reply = await obeyed(Steward(parts, stages).carry_out, order)
        while due := parts.ledger.to_file(FILED_AT_ONCE):
            try:
                for job in due:
                    await stages.filing.file(job)
            except OSError as error:
                told = f"a result file could not be written ({error.strerror}); the next start does it"
                return reply.model_copy(update={"lines": (*reply.lines, told)})
        return reply


async def _reachable(config: Config, openers: Openers) -> dict[str, BackendConfig]:
    """Keep the back ends that can be opened at all: one that cannot must not stand in the way of cancelling elsewhere."""
    found: dict[str, BackendConfig] = {}
    for name, settings in config.backends.items():
        with suppress(ConfigError):
            async with openers.backend(settings, Pace(settings.poll_rate)):
                found[name] = settings
    return found
