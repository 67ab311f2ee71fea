"""`pipeline serve`: the gallery alone."""

import click

from pipeline.catalogue import Catalogue
from pipeline.cli.common import configured, refuse
from pipeline.config import Config, own_address
from pipeline.gallery.addresses import check_exposure, listening_at
from pipeline.gallery.alone import serve_alone
from pipeline.gallery.opening import open_gallery
from pipeline.gallery.tokens import Tokens
from pipeline.tools.files import make_folder
from pipeline.tools.log import greet, set_up_logging


@click.command(short_help="Serve the gallery alone, without working on jobs.")
@click.option("--host", help="Listen at this address instead of gallery.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen at this port instead of gallery.port.")
@configured
def serve(config: Config, *, host: str | None, port: int | None) -> None:
    """Serve the gallery of this workspace until Ctrl-C; the daemon may run beside it, or not at all.

    \b
    Examples:
      pipeline serve
      pipeline serve --port 8080
    """
    set_up_logging()
    config = listening_at(config, host=host, port=port)
    where = config.gallery
    tokens = Tokens(config.state / "tokens")
    exposed = check_exposure(where.host, tokens, logins=where.jwt is not None)
    try:
        make_folder(config.state, mode=0o700)  # nothing may have run here yet
        gallery = open_gallery(config, Catalogue(config.index, images=config.images), tokens)
    except OSError as error:
        refuse(f"{config.state}: cannot be used ({error.strerror}); it must belong to whoever runs this")

    def listening(bound: int) -> None:
        greet(exposed)
        greet(f"serving at {own_address(where.host, bound)}/")

    serve_alone(gallery, where.host, where.port, listening=listening)
