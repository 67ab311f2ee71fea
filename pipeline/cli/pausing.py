"""`pipeline pause` and `pipeline resume`."""

import click

from pipeline.cli.common import as_json, configured, refuse
from pipeline.cli.steering import give
from pipeline.config import Config
from pipeline.orders.kinds import Pause, Resume, make_order


@click.command(short_help="Start nothing more: of a job, at a back end, or at all.")
@click.argument("job", required=False)
@click.option("--backend", metavar="NAME", help="Start nothing more at this back end.")
@as_json
@configured
def pause(config: Config, job: str | None, *, backend: str | None, as_json: bool) -> None:
    """Start nothing more, of one JOB, at one back end, or at all, until it is resumed; a restart changes nothing.

    Images under way go on.

    \b
    Examples:
      pipeline pause
      pipeline pause nightly-2025-07-28
      pipeline pause --backend pod
    """
    _known(config, job, backend)
    give(config, make_order(Pause, job=job, backend=backend), as_json=as_json)


@click.command(short_help="Let go on what was paused.")
@click.argument("job", required=False)
@click.option("--backend", metavar="NAME", help="Let this back end go on.")
@as_json
@configured
def resume(config: Config, job: str | None, *, backend: str | None, as_json: bool) -> None:
    """Let one JOB go on, one back end, or, where nothing is named, all that was paused.

    \b
    Examples:
      pipeline resume
      pipeline resume nightly-2025-07-28
      pipeline resume --backend pod
    """
    if job is not None and backend is not None:
        refuse("name a job or a back end, not both")
    give(config, make_order(Resume, job=job, backend=backend), as_json=as_json)


def _known(config: Config, job: str | None, backend: str | None) -> None:
    if job is not None and backend is not None:
        refuse("name a job or a back end, not both")
    if backend is not None and backend not in config.backends:
        refuse(f'no back end is called "{backend}"; there is {", ".join(config.backends)}')
