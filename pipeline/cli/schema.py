"""`pipeline schema`: what editors check job files against."""

import click

from pipeline.cli.common import say_json
from pipeline.config import config_schema
from pipeline.spec.schema import job_schema


@click.command(short_help="Print the JSON Schema of job files or of the configuration.")
@click.option("--config", "of_config", is_flag=True, help="The schema of pipeline.yaml instead.")
def schema(of_config: bool) -> None:  # click hands flags over by name
    """Print the JSON Schema of job files.

    \b
    Examples:
      pipeline schema > jobs/examples/job.schema.json
      pipeline schema --config > pipeline.schema.json

    An editor with yaml-language-server checks a job file whose first line is
    `# yaml-language-server: $schema=./job.schema.json`.
    """
    say_json(config_schema() if of_config else job_schema())
