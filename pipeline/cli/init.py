"""`pipeline init`: a commented configuration and the folders it speaks of."""

import json
from pathlib import Path

import click
from click.core import ParameterSource

from pipeline.cli.common import refuse
from pipeline.config import INIT_TEMPLATE
from pipeline.spec.job import job_schema
from pipeline.tools.files import make_folder, write_durably

EXAMPLE = """\
# yaml-language-server: $schema=./job.schema.json
character: Mary
prompt: a portrait in a beautiful garden
quantity: 5
"""


@click.command(short_help="Write a commented pipeline.yaml and the folders.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.pass_context
def init(ctx: click.Context, folder: Path) -> None:
    """Write pipeline.yaml, jobs/ and an example into FOLDER; nothing that exists is changed.

    \b
    Examples:
      pipeline init
      pipeline init ~/pictures && cd ~/pictures && pipeline run
    """
    above = ctx.find_root()
    if above.get_parameter_source("config") is ParameterSource.COMMANDLINE:
        named = above.obj
        refuse(f"--config {named}: names what is read; pipeline init {Path(named).parent} writes a pipeline.yaml there")
    try:
        make_folder(folder / "jobs" / "examples")
        written = [
            path
            for path, text in (
                (folder / "pipeline.yaml", INIT_TEMPLATE),
                (folder / "jobs" / "examples" / "portrait.yaml", EXAMPLE),
                (folder / "jobs" / "examples" / "job.schema.json", json.dumps(job_schema(), indent=2)),
            )
            if _new(path, text)
        ]
    except OSError as error:
        refuse(f"{error.filename}: cannot be written ({error.strerror}); choose another folder")
    for path in written:
        click.echo(f"wrote {path}")
    if not written:
        click.echo("everything is there already; nothing was changed")
    click.echo(f"next: pipeline run, then cp {folder / 'jobs/examples/portrait.yaml'} {folder / 'jobs'}/")


def _new(path: Path, text: str) -> bool:
    try:
        write_durably(path, text.encode(), replace=False)
    except FileExistsError:
        return False
    return True
