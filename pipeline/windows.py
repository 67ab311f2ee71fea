"""The gallery as the configuration wants it, for the daemon and for `pipeline serve`."""

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address

from pipeline.catalogue import Catalogue
from pipeline.config import CloudinaryConfig, Config, JwtConfig, LocalConfig
from pipeline.errors import ConfigError
from pipeline.gallery.app import Gallery, make_app
from pipeline.gallery.settings import GallerySettings, JwtSettings, LocalFiles
from pipeline.gallery.tokens import Tokens
from pipeline.stores.delivery import load_key
from pipeline.stores.opening import KEY_FILE, open_delivery
from pipeline.stores.shelf import thumbnail_file


def open_windows(
    config: Config, catalogue: Catalogue, tokens: Tokens, *, intake_alive: Callable[[], bool] | None = None
) -> Gallery:
    """Build the gallery; `intake_alive` is asked by `/readyz`.

    Raises:
        ConfigError: it would be open to the network while nobody has a token, or a key cannot be used.
        OSError: the state folder cannot be written.
    """
    _refuse_exposure(config, tokens)
    files = None
    sources: tuple[str, ...] = ()
    match config.store:
        case LocalConfig(folder=folder):
            files = LocalFiles(load_key(config.state / KEY_FILE), partial(thumbnail_file, folder))
        case CloudinaryConfig(delivery=delivery):
            sources = (delivery,)
    settings = GallerySettings(
        public_url=config.gallery.public_url,
        jobs_folder=str(config.jobs),
        cors=config.gallery.cors,
        image_sources=sources,
        jwt=None if config.gallery.jwt is None else _logins(config.gallery.jwt),
    )
    delivery_of_all = open_delivery(config.store, public_url=config.gallery.public_url, state=config.state)
    return make_app(catalogue, tokens, delivery_of_all, settings=settings, files=files, intake_alive=intake_alive)


def _refuse_exposure(config: Config, tokens: Tokens) -> None:
    if _is_loopback(config.gallery.host) or config.gallery.jwt is not None or tokens.records():
        return
    raise ConfigError(
        f"gallery.host: {config.gallery.host} can be reached from other machines, and no token exists yet; "
        "make one with `pipeline token create OWNER`, or listen on 127.0.0.1"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _logins(jwt: JwtConfig) -> JwtSettings:
    algorithm = jwt.algorithm or ("HS256" if jwt.secret is not None else "RS256")
    return JwtSettings(
        algorithms=(algorithm,),
        secret=None if jwt.secret is None else jwt.secret.get_secret_value(),
        key_file=jwt.key or jwt.jwks,
        issuer=jwt.issuer,
        audience=jwt.audience or (),
        owner_claim=jwt.owner_claim,
        leeway=jwt.leeway,
    )
