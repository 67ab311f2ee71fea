"""`pipeline remove`, `pipeline favorite` and `pipeline unfavorite`."""

import click

from pipeline.catalogue import Catalogue
from pipeline.cli.common import FAILED, NUMBER, as_json, configured
from pipeline.cli.steering import give
from pipeline.config import Config
from pipeline.errors import NoSuchImage
from pipeline.orders.kinds import Favorite, Remove, make_order

_numbers = click.argument("numbers", nargs=-1, required=True, type=NUMBER, metavar="NUMBER...")


@click.command(short_help="Mark images as favorites.")
@click.argument("character")
@_numbers
@as_json
@configured
def favorite(config: Config, character: str, numbers: tuple[int, ...], *, as_json: bool) -> None:
    """Mark images of a CHARACTER as favorites, shown and filterable in the gallery.

    \b
    Example:
      pipeline favorite mary 5 12
    """
    give(config, make_order(Favorite, character=character, numbers=numbers), as_json=as_json)


@click.command(short_help="Take the marks away.")
@click.argument("character")
@_numbers
@as_json
@configured
def unfavorite(config: Config, character: str, numbers: tuple[int, ...], *, as_json: bool) -> None:
    """Take the favorite mark from images of a CHARACTER.

    \b
    Example:
      pipeline unfavorite mary 5
    """
    give(config, make_order(Favorite, character=character, numbers=numbers, chosen=False), as_json=as_json)


@click.command(short_help="Delete images for good; their numbers stay held.")
@click.argument("character")
@_numbers
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@configured
def remove(config: Config, character: str, numbers: tuple[int, ...], *, yes: bool, as_json: bool) -> None:
    """Delete images of a CHARACTER at the store, for good; no image gets their numbers again.

    \b
    Examples:
      pipeline remove mary 9
      pipeline remove mary 9 10 --yes
    """
    if not yes:
        _ask(config, character, numbers)
    give(config, make_order(Remove, character=character, numbers=numbers), as_json=as_json)


def _ask(config: Config, character: str, numbers: tuple[int, ...]) -> None:
    catalogue = Catalogue(config.index, images=config.images)
    for number in numbers:
        row = catalogue.image(character, number)
        if row is None:
            raise NoSuchImage(character, number)
        place = (catalogue.here(row).path or row.public_id) if row.stored else "nothing is stored"
        click.echo(f"{row.filename}  {row.status}  {place}", err=True)
    if not click.confirm("Delete for good?", err=True):
        click.echo("nothing was removed", err=True)
        raise SystemExit(FAILED)
