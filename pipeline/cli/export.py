"""`pipeline export`: a character's images as files in a folder, with a list for programs."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import orjson

from pipeline import naming
from pipeline.catalogue import Catalogue, Filter, GalleryRow
from pipeline.cli.common import FAILED, as_json, configured, refuse, say_json
from pipeline.config import Config
from pipeline.errors import NoSuchCharacter
from pipeline.gallery import views
from pipeline.ports import Delivery
from pipeline.stores.opening import open_delivery
from pipeline.tools.clock import now
from pipeline.tools.files import make_folder, write_durably

LIST = "images.json"
TIMEOUT = 60.0  # seconds without a byte after which a download has failed
_ADDRESSES = ("url", "thumbnailUrl")  # they expire, or open for everybody who has them


@click.command(short_help="Copy a character's images into a folder, with a list.")
@click.argument("character")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@as_json
@configured
def export(config: Config, character: str, folder: Path, *, as_json: bool) -> None:
    """Copy the images and placeholders of a CHARACTER into DIR, with images.json beside them.

    What is there already, byte for byte, is not fetched again, so it may be repeated. Exit code 1 if any is missing.

    \b
    Example:
      pipeline export mary backup/mary
    """
    catalogue = Catalogue(config.index, images=config.images)
    rows = _rows(catalogue, character)
    delivery = open_delivery(config.store, public_url=config.gallery.public_url, state=config.state)
    with httpx.Client(timeout=TIMEOUT, follow_redirects=False) as client:
        try:
            fetched, troubles = copy_out(rows, delivery, folder, client, character)
        except OSError as error:
            refuse(f"{error.filename or folder}: {error.strerror}; choose a folder that can be written")
    if as_json:
        say_json(
            {
                "success": not troubles,
                "folder": str(folder),
                "images": len(rows),
                "copied": fetched,
                "messages": troubles,
            }
        )
    else:
        click.echo(f"{len(rows)} image{'' if len(rows) == 1 else 's'} in {folder}, {fetched} of them new")
        for trouble in troubles:
            click.echo(trouble, err=True)
    if troubles:
        raise SystemExit(FAILED)


def copy_out(
    rows: list[GalleryRow], delivery: Delivery, folder: Path, client: httpx.Client, character: str
) -> tuple[int, list[str]]:
    """Copy images into a folder; return how many were new, and what went wrong.

    Raises:
        OSError: the folder cannot be written.
    """
    make_folder(folder)
    _refuse_another(folder / LIST, character)
    new, troubles, listed = 0, [], []
    for row in rows:
        assert row.stored is not None
        file = folder / f"{row.filename}.{naming.extension(row.stored.format)}"
        if not _is_there(file, row.stored.md5):
            try:
                data = _data(row, delivery, client)
            except (OSError, httpx.HTTPError) as error:
                troubles.append(f"{row.filename}: not copied ({_said(error)})")
                continue
            write_durably(file, data, replace=True)
            new += 1
        shown: dict[str, Any] = dict(views.image(row, delivery, now()))
        listed.append({"file": file.name, **{key: value for key, value in shown.items() if key not in _ADDRESSES}})
    told = {"characterId": character, "images": listed}
    write_durably(folder / LIST, orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n", replace=True)
    return new, troubles


def _rows(catalogue: Catalogue, character: str) -> list[GalleryRow]:
    return sorted(map(catalogue.here, _pages(catalogue, character)), key=lambda row: row.number)


def _pages(catalogue: Catalogue, character: str) -> Iterator[GalleryRow]:
    after: str | None = None
    while True:
        page = catalogue.page(character, Filter(statuses=("done", "placeholder")), after=after)
        if page is None:
            raise NoSuchCharacter(character)
        yield from page.rows
        after = page.next
        if after is None:
            return


def _refuse_another(file: Path, character: str) -> None:
    try:
        told = orjson.loads(file.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return
    other = told.get("characterId") if isinstance(told, dict) else None
    if other != character:
        refuse(f"{file} is the list of another export ({other}); choose another folder for {character}")


def _is_there(file: Path, md5: str) -> bool:
    try:
        return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() == md5
    except FileNotFoundError:
        return False


def _data(row: GalleryRow, delivery: Delivery, client: httpx.Client) -> bytes:
    stored = row.stored
    assert stored is not None
    if stored.path is not None:
        return Path(stored.path).read_bytes()
    answer = client.get(delivery.links(stored, now=now()).url)
    answer.raise_for_status()
    if stored.md5 and hashlib.md5(answer.content, usedforsecurity=False).hexdigest() != stored.md5:
        raise OSError(0, "the store delivered other bytes than were stored")
    return answer.content


def _said(error: Exception) -> str:
    """Say what went wrong without the address, which opens the image for whoever reads it."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"the store answered {error.response.status_code}"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"the store was not reached: {type(error).__name__}"
