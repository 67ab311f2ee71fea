"""`pipeline doctor`: will it run, and if not, what is to be mended."""

from functools import partial

import click
import trio

from pipeline.cli.common import DURATION, FAILED, as_json, loaded, say_json
from pipeline.doctor import Finding, World, examine
from pipeline.errors import ConfigError
from pipeline.tools.log import set_up_logging


@click.command(short_help="Check configuration, folders, back ends, store; name each remedy.")
@click.option("--timeout", type=DURATION, default=10.0, show_default=True, help="Seconds for each request.")
@click.option("--config", "config_path", metavar="PATH", help="The configuration to use.")
@as_json
@click.pass_context
def doctor(ctx: click.Context, *, timeout: float, config_path: str | None, as_json: bool) -> None:
    """Look at everything that `run` needs, and ask each back end and the store one harmless thing.

    Nothing is changed and nothing is bought. Exit code 1 if anything is in trouble.

    \b
    Examples:
      pipeline doctor
      pipeline doctor --json
    """
    set_up_logging()
    try:
        config = loaded(config_path or ctx.find_root().obj)
    except ConfigError as error:
        found = [Finding("configuration", False, str(error))]
    else:
        found = trio.run(partial(examine, config, World(timeout=timeout)))
    if as_json:
        say_json([{"name": one.name, "ok": one.ok, "message": one.message} for one in found])
    else:
        _say(found)
    if not all(one.ok for one in found):
        raise SystemExit(FAILED)


def _say(found: list[Finding]) -> None:
    width = max(len(one.name) for one in found)
    for one in found:
        mark = click.style("ok     ", fg="green") if one.ok else click.style("TROUBLE", fg="red", bold=True)
        click.echo(f"{mark}  {one.name:<{width}}  {one.message}")
    troubles = sum(not one.ok for one in found)
    click.echo("all is well" if not troubles else f"{troubles} {'thing' if troubles == 1 else 'things'} to mend")
