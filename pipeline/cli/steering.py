"""What the commands that change something share: the order goes to the daemon, or is carried out here where there is none."""

import logging
from contextlib import suppress
from functools import partial

import click
import trio

from pipeline import daemon
from pipeline.backends.pace import Pace
from pipeline.cli.common import FAILED, INVALID, say_json
from pipeline.config import Config
from pipeline.errors import ConfigError, IndexTrouble, SpoolTrouble
from pipeline.files import make_folder
from pipeline.locks import refuse_shared
from pipeline.log import set_up_logging
from pipeline.orders.delivering import NoReply, deliver
from pipeline.orders.kinds import Cancel, Order, Reply
from pipeline.orders.stage import obeyed
from pipeline.orders.steward import Steward
from pipeline.stages import Stages

FILED_AT_ONCE = 100


def give(config: Config, order: Order, *, as_json: bool, patience: float | None = None) -> None:
    """Have an order carried out, print what became of it, and leave with its exit code."""
    set_up_logging(level=logging.ERROR)
    make_folder(config.state, mode=0o700)
    refuse_shared(config.state)
    try:
        reply = deliver(
            config.state, order, partial(_alone, config), process=f"pipeline {order.kind}", patience=patience
        )
    except (NoReply, IndexTrouble, SpoolTrouble) as error:
        reply = Reply(exit_code=FAILED, lines=(str(error),))
    if as_json and reply.exit_code != INVALID:
        say_json({"success": reply.exit_code == 0, "messages": list(reply.lines), **reply.data})
    else:
        for line in reply.lines:
            click.echo(line, err=reply.exit_code == INVALID)
    if reply.exit_code:
        raise SystemExit(reply.exit_code)


def _alone(config: Config, order: Order) -> Reply:
    return trio.run(carry_out_alone, config, order, daemon.Openers())


async def carry_out_alone(config: Config, order: Order, openers: daemon.Openers) -> Reply:
    """Carry an order out without a daemon; the caller holds the state folder.

    Stages are put together and not run: what an order leaves to be made, uploaded or stored is found by the next start.

    Raises:
        ConfigError: the store cannot be used as it is configured.
        IndexTrouble, SpoolTrouble: the index or the spool cannot be opened.
    """
    config.state.chmod(0o700)
    backends = await _reachable(config, openers) if isinstance(order, Cancel) else {}
    async with daemon.opened(config.model_copy(update={"backends": backends}), openers) as (parts, _):
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


async def _reachable(config: Config, openers: daemon.Openers) -> dict[str, object]:
    """Keep the back ends that can be opened at all: one that cannot must not stand in the way of cancelling elsewhere."""
    found: dict[str, object] = {}
    for name, settings in config.backends.items():
        with suppress(ConfigError):
            async with openers.backend(name, settings, Pace(settings.poll_rate)):
                found[name] = settings
    return found
