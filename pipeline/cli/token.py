"""`pipeline token`: who may look at whose gallery."""

import re

import click

from pipeline.cli.common import DURATION, as_json, configured, refuse, say_json
from pipeline.config import Config
from pipeline.gallery.tokens import Tokens
from pipeline.spec.types import OWNER, OWNER_IS
from pipeline.tools.clock import rfc3339, when


@click.group(short_help="Create, list and revoke the tokens that open galleries.")
def token() -> None:
    """Create, list and revoke the tokens that open galleries; a running daemon heeds each change at once."""


@token.command()
@click.argument("owner", required=False)
@click.option("--all", "everyone", is_flag=True, help="Open every owner's gallery (for operators).")
@click.option("--expires", type=DURATION, metavar="DURATION", help='How long it opens anything, like "30d" or "12h".')
@click.option("--name", help="A name to recognise it by.")
@configured
def create(config: Config, owner: str | None, *, everyone: bool, expires: float | None, name: str | None) -> None:
    """Make a token for OWNER and print it, once, alone on stdout.

    \b
    Examples:
      pipeline token create alice
      pipeline token create --all --name dashboards --expires 90d
    """
    if everyone == (owner is not None):
        refuse("name one owner, or --all for every owner: pipeline token create alice")
    if owner is not None and not re.fullmatch(OWNER, owner):
        refuse(f'"{owner}" is no owner: {OWNER_IS}')
    if expires == 0:
        refuse("--expires: a token of no time would open nothing; leave it out for one that lasts until it is revoked")
    click.echo(_tokens(config).create(owner, seconds=expires, name=name))


@token.command("list")
@as_json
@configured
def list_tokens(config: Config, *, as_json: bool) -> None:
    """List the tokens that open anything; the tokens themselves are not kept."""
    records = _tokens(config).records()
    if as_json:
        say_json(
            [
                {
                    "id": record.id,
                    "owner": record.owner,
                    "name": record.name,
                    "createdAt": rfc3339(record.created_at),
                    "expiresAt": when(record.expires_at),
                }
                for record in records
            ]
        )
        return
    for record in records:
        until = f"until {rfc3339(record.expires_at)}" if record.expires_at else "until revoked"
        click.echo(f"{record.id}  {record.owner or '(every owner)'}  {until}  {record.name or ''}".rstrip())
    if not records:
        click.echo("no tokens yet: pipeline token create OWNER", err=True)


@token.command()
@click.argument("which", metavar="ID|NAME|TOKEN")
@configured
def revoke(config: Config, which: str) -> None:
    """Make a token open nothing any more, by its id, its name, or itself."""
    record = _tokens(config).revoke(which)
    click.echo(f"revoked {record.id} ({record.owner or 'every owner'})")


def _tokens(config: Config) -> Tokens:
    return Tokens(config.state / "tokens")
