"""`pipeline schema`: what editors check job files against."""

import click

from pipeline.cli.common import say_json
from pipeline.config import config_schema
from pipeline.spec.job import job_schema


@click.command(short_help="Print the JSON Schema of job files or of the configuration.")
@click.option("--config", "of_config", is_flag=True, help="The schema of pipeline.yaml instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs: it always is.")
def schema(*, of_config: bool, as_json: bool) -> None:  # taken as by every command that reads
    """Print the JSON Schema of job files.

    \b
    Examples:
      pipeline schema > jobs/examples/job.schema.json
      pipeline schema --config > pipeline.schema.json

    An editor with yaml-language-server checks a job file whose first line is
    `# yaml-language-server: $schema=./job.schema.json`.
    """
    say_json(config_schema() if of_config else job_schema())
