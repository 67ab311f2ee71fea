"""`pipeline run`: the daemon."""

import logging
import sys
from functools import partial

import click
import trio

from pipeline import daemon
from pipeline.cli.common import DURATION, configured, index_is_lost
from pipeline.config import Config, own_address
from pipeline.gallery.addresses import check_exposure
from pipeline.tools.log import greet, set_up_logging

LENT = 12 * 3600.0  # seconds that the address shown in a terminal opens the gallery


@click.command(short_help="Watch the jobs folder and make what is dropped there.")
@click.option("--once", is_flag=True, help="Work off what is there, write the results, and end.")
@click.option(
    "--patience", type=DURATION, default=300.0, show_default="5m",
    help="With --once: how long all that is left may wait for a back end, a store or a disk to be well.",
)  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Log every step of every image.")
@configured
def run(config: Config, *, once: bool, patience: float, verbose: bool) -> None:
    """Watch the jobs folder and make what is dropped there, until Ctrl-C.

    With --once the exit code is 1 if any image ended as a placeholder or failed, still waits, or a file was rejected.

    \b
    Examples:
      pipeline run
      pipeline run --once --patience 10m
    """
    set_up_logging(level=logging.DEBUG if verbose else logging.INFO)
    if config.source is None:
        greet(f"No pipeline.yaml here: running on the defaults in {config.root} (`pipeline init` writes one).")
    if index_is_lost(config):
        greet(
            f"There is no index, but jobs have ended here: `pipeline reindex` brings back what {config.index} knew, "
            "before it is begun anew."
        )
    outcome = trio.run(partial(daemon.run, config, once=once, patience=patience, started=partial(_greet, config)))
    if once:
        raise SystemExit(outcome.exit_code)


def _greet(config: Config, started: daemon.Started) -> None:
    """Say that it works, what the gallery exposes, and where to look; in a terminal with a token of this process alone."""
    greet(f"Watching {config.jobs}")
    if started.port is None:
        return
    host, logins = config.gallery.host, config.gallery.jwt is not None
    greet(check_exposure(host, started.tokens, logins=logins))
    address = f"{own_address(host, started.port)}/"
    if sys.stderr is not None and sys.stderr.isatty():
        address += f"#t={started.tokens.lend(None, seconds=LENT)}"
    greet(f"Look at {address}")
