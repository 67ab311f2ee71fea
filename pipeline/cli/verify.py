"""`pipeline verify`: is everything where and as it should be."""

import click
import trio

from pipeline.audit import audit_files, audit_store
from pipeline.catalogue import Catalogue, Problem
from pipeline.cli.common import FAILED, as_json, configured, say_json
from pipeline.config import Config
from pipeline.errors import HeldElsewhere, StoreError
from pipeline.stores.opening import open_store
from pipeline.tools.locks import hold


@click.command(short_help="Check the index, the files and the numbers.")
@click.option("--store", "with_store", is_flag=True, help="Compare with the store's own listing too.")
@as_json
@configured
def verify(config: Config, *, with_store: bool, as_json: bool) -> None:
    """Look for gaps, repeats, lost, changed and unknown files; nothing is repaired. Exit code 1 if anything is found.

    \b
    Examples:
      pipeline verify
      pipeline verify --store --json
    """
    catalogue = Catalogue(config.index, images=config.images)
    try:
        problems = catalogue.verify()
        problems += audit_files(
            catalogue,
            images=config.images,
            spool=config.state / "spool",
            kept=config.state / "kept",
            idle=_idle(config),
        )
        if with_store:
            told = {(one.kind, one.subject) for one in problems}  # a local store's files have been looked at already
            found = trio.run(_against_store, config, catalogue)
            problems += [one for one in found if (one.kind, one.subject) not in told]
    except StoreError as error:
        click.echo(str(error), err=True)
        raise SystemExit(FAILED) from None
    if as_json:
        say_json([{"kind": one.kind, "subject": one.subject, "message": one.message} for one in problems])
    else:
        for one in problems:
            click.echo(f"{one.kind}: {one.subject}: {one.message}")
        click.echo(f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}" if problems else "all is well")
    if problems:
        raise SystemExit(FAILED)


async def _against_store(config: Config, catalogue: Catalogue) -> list[Problem]:
    store = open_store(config.store, public_url=config.gallery.public_url)
    return [problem async for problem in audit_store(catalogue, store)]


def _idle(config: Config) -> bool:
    try:
        with hold(config.state, process="pipeline verify", brief=True):
            return True
    except HeldElsewhere:
        return False
