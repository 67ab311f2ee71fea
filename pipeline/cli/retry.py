"""`pipeline retry`: placeholders and failed images made again, in place."""

import click

from pipeline.cli.common import NUMBER, as_json, configured, refuse
from pipeline.cli.steering import give
from pipeline.config import Config
from pipeline.orders.kinds import Retry, make_order


@click.command(short_help="Make placeholders and failed images again, in place.")
@click.argument("what", metavar="[JOB | CHARACTER NUMBER…]", required=False)
@click.argument("numbers", nargs=-1, type=NUMBER, metavar="")
@click.option("--placeholders", is_flag=True, help="Every placeholder.")
@click.option("--failed", is_flag=True, help="Every failed image.")
@click.option("--character", help="Only this character's.")
@click.option("--label", help="Only those of jobs with this label.")
@as_json
@configured
def retry(
    config: Config,
    what: str | None,
    numbers: tuple[int, ...],
    *,
    placeholders: bool,
    failed: bool,
    character: str | None,
    label: str | None,
    as_json: bool,
) -> None:
    """Make placeholders and failed images again: same number, same name, same seed.

    A placeholder stays in the gallery until its replacement is stored, and for good if that fails again. Bytes that
    were paid for and that the store did not take are only uploaded again.

    \b
    Examples:
      pipeline retry nightly-2025-07-28
      pipeline retry mary 9
      pipeline retry --placeholders --character mary
      pipeline retry --failed --label spring
    """
    if numbers:
        if placeholders or failed or character or label:
            refuse("numbers go with a character alone: pipeline retry CHARACTER NUMBER…")
        order = make_order(Retry, character=what, numbers=numbers)
    else:
        if what is None and not placeholders and not failed:
            refuse("say what: pipeline retry JOB, CHARACTER NUMBER…, --placeholders or --failed")
        order = make_order(Retry, job=what, placeholders=placeholders, failed=failed, character=character, label=label)
    give(config, order, as_json=as_json)
