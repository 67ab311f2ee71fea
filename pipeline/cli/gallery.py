"""`pipeline gallery`: characters, their images, and the page that shows them."""

import click

from pipeline.again import job_again, made_of
from pipeline.catalogue import Catalogue, CharacterRow, Filter, GalleryRow
from pipeline.cli.browser import open_page
from pipeline.cli.common import NUMBER, as_json, configured, refuse, say_json
from pipeline.config import Config
from pipeline.errors import NoSuchCharacter, NoSuchImage
from pipeline.gallery import views
from pipeline.stores.opening import open_delivery
from pipeline.tools.clock import now, when

SHOWN = 50


@click.command(short_help="List characters and their images.")
@click.argument("character", required=False)
@click.argument("number", required=False, type=NUMBER)
@click.option("--limit", type=click.IntRange(1, 1000), default=SHOWN, show_default=True)
@click.option("--as-job", is_flag=True, help="Print the job file that makes this image again.")
@click.option("--open", "in_browser", is_flag=True, help="Open the page in a browser, signed in for an hour.")
@as_json
@configured
def gallery(
    config: Config,
    character: str | None,
    number: int | None,
    *,
    limit: int,
    as_job: bool,
    in_browser: bool,
    as_json: bool,
) -> None:
    """List all characters, one CHARACTER's images, or one image by its NUMBER.

    \b
    Examples:
      pipeline gallery
      pipeline gallery mary
      pipeline gallery mary 5 --json
      pipeline gallery mary 5 --as-job | pipeline submit -
      pipeline gallery mary --open
    """
    catalogue = Catalogue(config.index, images=config.images)
    if as_job:
        if character is None or number is None:
            refuse("name an image: pipeline gallery CHARACTER NUMBER --as-job")
        made = made_of(catalogue, _rows(catalogue, character, number, limit)[0])
        click.echo(job_again(made, config.rules()), nl=False)
    elif in_browser:
        open_page(config, _owner(catalogue, character), character)
    else:
        _list(config, catalogue, character, number, limit=limit, as_json=as_json)


def _owner(catalogue: Catalogue, character: str | None) -> str | None:
    if character is None:
        return None
    row = catalogue.character(character)
    if row is None:
        raise NoSuchCharacter(character)
    return row.owner


def _list(
    config: Config, catalogue: Catalogue, character: str | None, number: int | None, *, limit: int, as_json: bool
) -> None:
    if character is None:
        characters = catalogue.characters(None, limit=limit).rows
        if as_json:
            say_json([_character(one) for one in characters])
        for one in () if as_json else characters:
            click.echo(f"{one.id}  {one.name}  {_count(one)}  {when(one.newest_at) or ''}".rstrip())
        if not characters and not as_json:
            click.echo("Nothing here yet. Drop a file into jobs/.")
        return
    rows = _rows(catalogue, character, number, limit)
    delivery = open_delivery(config.store, public_url=config.gallery.public_url, state=config.state)
    if as_json:
        shown = [views.image(row, delivery, now()) for row in rows]
        say_json(shown if number is None else shown[0])
        return
    if not rows:
        click.echo(f"{character} has no images to show; what was cancelled or removed only holds its number")
    for row in map(catalogue.here, rows):
        place = row.path or row.url or ""
        click.echo(f"{row.filename}  {row.status}  {when(row.created_at) or ''}  {place}".rstrip())


def _rows(catalogue: Catalogue, character: str, number: int | None, limit: int) -> list[GalleryRow]:
    if number is not None:
        row = catalogue.image(character, number)
        if row is None:
            raise NoSuchImage(character, number)
        return [row]
    everything = Filter(statuses=("queued", "running", "done", "placeholder", "failed"))
    page = catalogue.page(character, everything, limit=limit)
    if page is None:
        raise NoSuchCharacter(character)
    return list(page.rows)


def _character(one: CharacterRow) -> dict[str, object]:
    return {
        "characterId": one.id,
        "name": one.name,
        "owner": one.owner,
        "slug": one.slug,
        "counts": dict(one.counts),
        "newestAt": when(one.newest_at),
    }


def _count(one: CharacterRow) -> str:
    total = one.counts.get("done", 0) + one.counts.get("placeholder", 0)
    return f"{total} {'image' if total == 1 else 'images'}"
