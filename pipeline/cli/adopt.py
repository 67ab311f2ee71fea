"""`pipeline adopt`: images that another tool left elsewhere in the account."""

import click

from pipeline.cli.common import as_json, configured
from pipeline.cli.steering import give
from pipeline.config import Config
from pipeline.orders.kinds import Adopt, make_order


@click.command(short_help="Take over images that another tool left at Cloudinary.")
@click.argument("character")
@click.option("--prefix", required=True, metavar="OLD/PATH", help="The folder there, or how the public ids begin.")
@click.option("--owner", help="Who owns the character, where it is not known yet; default: default_owner.")
@as_json
@configured
def adopt(config: Config, character: str, *, prefix: str, owner: str | None, as_json: bool) -> None:
    """Give the images under a prefix the next numbers of a CHARACTER (its id), oldest first.

    They stay where they are, under their own public ids. What the index knows already is left out, so it may be
    repeated.

    \b
    Examples:
      pipeline adopt mary --prefix uploads/mary
      pipeline adopt 123 --prefix old-app/characters/123 --owner alice
    """
    order = make_order(Adopt, character=character, prefix=prefix, owner=owner, default_owner=config.default_owner)
    give(config, order, as_json=as_json)
