"""What the gallery is told when it is built; `opening` makes these from the configuration."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import JwtConfig
from pipeline.spec.keys import Rules


@dataclass(frozen=True, slots=True)
class GallerySettings:
    """How the gallery shows itself; `image_sources` are the origins that pictures come from besides our own."""

    public_url: str = "http://127.0.0.1:8787"
    jobs_folder: str = "jobs"
    cors: tuple[str, ...] = ()  # origins whose pages may read the answers; "*" for all
    image_sources: tuple[str, ...] = ()
    jwt: JwtConfig | None = None  # how an app's own logins are checked
    rules: Rules = field(default_factory=Rules)  # what a job file that is written here has to mean
    cache_bytes: int = 64 * 1024 * 1024  # of finished answers kept in memory
    longest_wait: float = 300.0  # seconds a held answer may be asked for


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """The local store's side of `/media`: the key that addresses are signed with, and where small versions stand."""

    key: bytes
    thumbnail: Callable[[Path, str], Path]  # from where an image stands, and its public id

    def __repr__(self) -> str:
        return "LocalFiles()"
