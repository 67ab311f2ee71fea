"""`pipeline serve`: the gallery alone."""

import signal

import click
import trio

from pipeline.catalogue import Catalogue
from pipeline.cli.common import configured, refuse
from pipeline.config import Config
from pipeline.gallery.addresses import check_exposure
from pipeline.gallery.app import Gallery
from pipeline.gallery.opening import open_gallery
from pipeline.gallery.server import serve as serve_gallery
from pipeline.gallery.tokens import Tokens
from pipeline.log import set_up_logging


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
    host, port = host or config.gallery.host, config.gallery.port if port is None else port
    tokens = Tokens(config.state / "tokens")
    click.echo(check_exposure(host, tokens, logins=config.gallery.jwt is not None), err=True)
    try:
        gallery = open_gallery(config, Catalogue(config.state / "index.db"), tokens)
    except OSError as error:
        refuse(f"{config.state}: cannot be used ({error.strerror}); it must belong to whoever runs this")
    trio.run(_until_stopped, gallery, host, port)


async def _until_stopped(gallery: Gallery, host: str, port: int) -> None:
    stop = trio.Event()

    async def listen_for_signals(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                stop.set()
                return

    async with trio.open_nursery() as nursery:
        await nursery.start(listen_for_signals)
        bound = await nursery.start(
            lambda task_status: serve_gallery(gallery, host, port, stop=stop, task_status=task_status)
        )
        click.echo(f"serving at http://{host}:{bound}/", err=True)
        await stop.wait()
