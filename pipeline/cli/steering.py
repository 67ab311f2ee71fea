"""What the commands that change something share: the order goes to the daemon, or is carried out here where there is none."""

from functools import partial
from importlib import import_module

import click

from pipeline.cli.common import FAILED, INVALID, index_is_lost, say_json
from pipeline.config import Config
from pipeline.errors import IndexTrouble, SpoolTrouble
from pipeline.inbox.dropped import untaken
from pipeline.orders.delivering import NoReply, NotLeft, deliver
from pipeline.orders.kinds import Order, Reply
from pipeline.tools.state_folder import prepare_state


def give(config: Config, order: Order, *, as_json: bool, patience: float | None = None) -> None:
    """Have an order carried out, print what became of it, and leave with its exit code."""
    prepare_state(config.state)
    try:
        reply = deliver(
            config.state, order, partial(_alone, config), process=f"pipeline {order.kind}", patience=patience
        )
    except (NoReply, NotLeft, IndexTrouble, SpoolTrouble) as error:
        reply = Reply(exit_code=FAILED, lines=(str(error),))
    job = getattr(order, "job", None)
    if reply.exit_code == INVALID and job is not None and (dropped := untaken(config.jobs, job)) is not None:
        told = f"{job} {dropped.reason}. So that nothing is made, move the file away"
        reply = Reply(exit_code=FAILED, lines=(told,))
    if as_json and reply.exit_code != INVALID:
        say_json({"success": reply.exit_code == 0, "messages": list(reply.lines), **reply.data})
    else:
        for line in reply.lines:
            click.echo(line, err=reply.exit_code == INVALID)
    if reply.exit_code:
        raise SystemExit(reply.exit_code)


def _alone(config: Config, order: Order) -> Reply:
    if index_is_lost(config):
        raise IndexTrouble(
            f"{config.index}: there is no index, but jobs have ended here; `pipeline reindex` brings back what it knew. "
            "Nothing is done before"
        )
    # Loaded here alone: where a daemon runs, the command needs none of the libraries that do the work.
    reply: Reply = import_module("pipeline.cli.alone").carry_out(config, order)
    return reply
