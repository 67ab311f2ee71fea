"""What the gallery is told when it is built; `opening` makes these from the configuration."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.spec.keys import Rules

Algorithm = Literal["HS256", "RS256", "ES256"]


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """Logins of an app: signed tokens whose claim names the owner. The algorithm is fixed here, never by the token."""

    algorithms: tuple[Algorithm, ...]
    secret: str | None = None  # HS256
    key_file: Path | None = None  # RS256, ES256: a PEM public key or a JWKS file
    issuer: str | None = None
    audience: tuple[str, ...] = ()
    owner_claim: str = "sub"
    leeway: float = 0.0  # seconds by which clocks may differ

    def __repr__(self) -> str:
        return f"JwtSettings({self.algorithms}, owner_claim={self.owner_claim!r})"


@dataclass(frozen=True, slots=True)
class GallerySettings:
    """How the gallery shows itself; `image_sources` are the origins that pictures come from besides our own."""

    public_url: str = "http://127.0.0.1:8787"
    jobs_folder: str = "jobs"
    cors: tuple[str, ...] = ()  # origins whose pages may read the answers; "*" for all
    image_sources: tuple[str, ...] = ()
    jwt: JwtSettings | None = None
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
