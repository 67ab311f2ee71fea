"""`pipeline backup`: a copy of the index."""

from pathlib import Path

import click

from pipeline.backing_up import back_up
from pipeline.cli.common import as_json, configured, say_json
from pipeline.config import Config


@click.command(short_help="Copy the index into a file, also while the daemon works.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@as_json
@configured
def backup(config: Config, file: Path, *, as_json: bool) -> None:
    """Write a consistent copy of the index into a new FILE; an existing file is never replaced.

    The copy holds the index alone: images, job files and the token file are copied as files. Restoring is described in
    docs/backup.md.

    \b
    Examples:
      pipeline backup index-$(date +%F).db
      pipeline backup /mnt/backup/index.db --json
    """
    target = file.absolute()
    size = back_up(config.index, target)
    if as_json:
        say_json({"file": str(target), "bytes": size})
    else:
        click.echo(f"{target}  {size:,} bytes")
