"""From what the configuration says about the gallery to the gallery itself, for the daemon and for `pipeline serve`."""

from collections.abc import Callable

from pipeline.catalogue import Catalogue
from pipeline.config import Config
from pipeline.gallery.addresses import check_exposure
from pipeline.gallery.app import Gallery, make_app
from pipeline.gallery.settings import GallerySettings, LocalFiles
from pipeline.gallery.tokens import Tokens
from pipeline.model import Pulse
from pipeline.stores.delivery import load_key
from pipeline.stores.layout import thumbnail_beside
from pipeline.stores.opening import KEY_FILE, open_delivery

CLOUDINARY = "https://res.cloudinary.com"  # where its pictures are delivered from


def open_gallery(
    config: Config, catalogue: Catalogue, tokens: Tokens, *, pulse: Callable[[], Pulse] | None = None
) -> Gallery:
    """Build the gallery of this workspace; `pulse` tells how the daemon in this process is doing, if there is one.

    Whatever the store is now, what was put into another one before is shown as well.

    Raises:
        ConfigError: it would be open to the network while nobody has a token, or a key of `gallery.jwt` cannot be used.
        OSError: the state folder cannot be written.
    """
    check_exposure(config.gallery.host, tokens, logins=config.gallery.jwt is not None)
    settings = GallerySettings(
        public_url=config.gallery.public_url,
        jobs_folder=str(config.jobs),
        cors=config.gallery.cors,
        image_sources=(CLOUDINARY,),
        jwt=config.gallery.jwt,
        rules=config.rules(),
    )
    delivery = open_delivery(config.store, public_url=config.gallery.public_url, state=config.state)
    files = LocalFiles(load_key(config.state / KEY_FILE), thumbnail_beside)
    return make_app(catalogue, tokens, delivery, settings=settings, files=files, pulse=pulse)
