"""`pipeline cancel`: a job ended before its time."""

import click

from pipeline.cli.common import as_json, configured, refuse
from pipeline.cli.steering import give
from pipeline.config import Config
from pipeline.orders.kinds import Cancel, make_order


@click.command(short_help="End a job, or all jobs with a label.")
@click.argument("job", required=False)
@click.option("--label", help="End every unfinished job with this label.")
@as_json
@configured
def cancel(config: Config, job: str | None, *, label: str | None, as_json: bool) -> None:
    """End a JOB: what waits never starts, what runs is stopped at its back end, what is made is still stored.

    The numbers stay held.

    \b
    Examples:
      pipeline cancel nightly-2025-07-28
      pipeline cancel --label spring
    """
    if (job is None) == (label is None):
        refuse("name one job, or one label: pipeline cancel JOB, pipeline cancel --label LABEL")
    give(config, make_order(Cancel, job=job, label=label), as_json=as_json)
