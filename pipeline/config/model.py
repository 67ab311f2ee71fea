"""The configuration as a whole, frozen; paths are absolute, secrets are `SecretStr`."""

from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    field_validator,
    model_validator,
)

from pipeline.config.adapters import BackendConfig, LocalConfig, SketchConfig, StoreConfig
from pipeline.config.values import FROZEN, Host, RootedPath, fault
from pipeline.spec.keys import JobKeys, Rules
from pipeline.spec.types import (
    Duration,
    Hook,
    Names,
    Owner,
    ShortText,
    Size,
    WebAddress,
    one_or_several,
    without_repeats,
)

Algorithm = Literal["HS256", "RS256", "ES256"]
_LEAST_SECRET = 32  # bytes: RFC 7518 section 3.2 asks for a key as long as the hash
_WHSEC = "whsec_"  # how Standard Webhooks marks a secret written in base64
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  # what a browser can open instead


def own_address(host: str, port: int) -> str:
    """Return what a browser on this machine opens to reach what listens there."""
    host = _WILDCARDS.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}"


def _public_url(said: dict[str, Any]) -> str:
    return own_address(str(said.get("host", "127.0.0.1")), said.get("port", 8787))


class JwtConfig(BaseModel):
    """Tokens that somebody else issues: how they are checked, and which claim names the owner."""

    model_config = FROZEN

    secret: SecretStr | None = Field(default=None, description="a shared secret of at least 32 bytes (HS256)")
    key: RootedPath | None = Field(default=None, description="a file with a public key, PEM (RS256, ES256)")
    jwks: RootedPath | None = Field(default=None, description="a file with a JSON Web Key Set (RS256, ES256)")
    algorithm: Algorithm | None = Field(default=None, description="one of HS256, RS256, ES256")
    issuer: ShortText | None = Field(default=None, description="what `iss` must be")
    audience: Names | None = Field(default=None, description="what `aud` must be, or contain one of")
    owner_claim: ShortText = Field(default="sub", description="the claim that names the owner")
    leeway: Duration = Field(default=30.0, le=3600, description="seconds that clocks may differ, at most an hour")

    @property
    def key_file(self) -> Path | None:
        """The file with the public keys, of whichever kind."""
        return self.key or self.jwks

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """The algorithms that a token may be signed with."""
        if self.algorithm is not None:
            return (self.algorithm,)
        return ("HS256",) if self.secret is not None else ("RS256", "ES256")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if [self.secret, self.key, self.jwks].count(None) != 2:
            raise fault("`jwt` has one of `secret`, `key`, `jwks`", expected="exactly one of the three")
        if self.algorithm is not None and (self.algorithm == "HS256") != (self.secret is not None):
            raise fault(
                f"{self.algorithm} does not go with what is given",
                key="algorithm",
                expected="HS256 with `secret`, RS256 or ES256 with `key` or `jwks`",
            )
        if self.secret is not None and len(self.secret.get_secret_value().encode()) < _LEAST_SECRET:
            raise fault("`secret` is too short", key="secret", expected=f"at least {_LEAST_SECRET} bytes")
        return self


class GalleryConfig(BaseModel):
    """The read-only HTTP endpoint."""

    model_config = FROZEN

    enabled: bool = Field(default=True, description="true or false")
    host: Host = Field(default="127.0.0.1", description="the address to listen at")
    port: int = Field(default=8787, ge=0, le=65535, description="a port, or 0 for a free one")
    public_url: WebAddress = Field(default_factory=_public_url, description="the address that links are made with")
    cors: Annotated[tuple[str, ...], BeforeValidator(one_or_several), AfterValidator(without_repeats)] = Field(
        default=(), description='a list of origins like https://app.example, or "*"'
    )
    jwt: JwtConfig | None = Field(default=None, description="how tokens of another issuer are checked")

    @field_validator("cors")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            scheme, colon, host = origin.partition("://")
            if origin != "*" and (scheme not in ("http", "https") or not colon or not host or "/" in host):
                raise fault(f'cors: "{origin}" is no origin', expected='an origin like https://app.example, or "*"')
        return origins


class NotifyConfig(BaseModel):
    """Who is told when a job has ended, where the job itself names nobody."""

    model_config = FROZEN
    bare: ClassVar = "url"

    url: Hook | None = Field(default=None, description="an address like https://host/path")
    secret: SecretStr | None = Field(default=None, description="signs what is sent, best as ${NAME}")
    allow_hosts: Annotated[tuple[Host, ...], BeforeValidator(one_or_several), AfterValidator(without_repeats)] = Field(
        default=(), description="a list of host names or addresses that may be private"
    )

    @property
    def key(self) -> bytes | None:
        """The bytes that sign: those that a secret `whsec_…` holds in base64, or else the secret itself.

        Raises:
            ValueError: what follows `whsec_` is no base64.
        """
        if self.secret is None:
            return None
        said = self.secret.get_secret_value()
        return b64decode(said.removeprefix(_WHSEC), validate=True) if said.startswith(_WHSEC) else said.encode()

    @model_validator(mode="after")
    def _one_that_signs(self) -> Self:
        try:
            empty = self.key == b""
        except ValueError:
            empty = True
        if empty:
            raise fault("`secret` cannot sign", key="secret", expected="any text, or `whsec_` and base64")
        return self


class StyleKeys(JobKeys):
    """A style: any job key as a default; `prompt` and `negative_prompt` are templates."""

    @field_validator("prompt")
    @classmethod
    def _one_template(cls, prompt: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if isinstance(prompt, tuple):
            raise fault("a style's `prompt` is a list", expected='one template, like "{prompt}, soft light"')
        return prompt


class Config(BaseModel):
    """`pipeline.yaml` and the environment, checked."""

    model_config = FROZEN

    jobs: RootedPath = Field(default=Path("jobs"), validate_default=True, description="the watched folder")
    state: RootedPath = Field(
        default=Path(".pipeline"), validate_default=True, description="a folder for the index, the spool, the tokens"
    )
    default_owner: Owner = "me"
    settle: Duration = Field(default=0.5, description='seconds a file must have stood still, or "2s"')
    scan_interval: Duration = Field(default=2.0, gt=0, description='seconds between scans, above 0, or "1m"')
    spool_limit: Size = Field(default=10_000_000_000, gt=0, description='bytes above 0, or "500MB", "10GB", "10GiB"')
    keep_done: Duration | None = Field(default=None, description='how long ended job files are kept, like "30d"')
    gallery: GalleryConfig = Field(default_factory=GalleryConfig, description="the HTTP endpoint")
    store: StoreConfig = Field(default_factory=LocalConfig, description="where images are kept")
    backends: Mapping[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")], BackendConfig] = Field(
        default_factory=lambda: {"sketch": SketchConfig()},
        min_length=1,
        description="names (ASCII letters, digits, `.`, `_`, `-`, at most 64), each with a back end",
    )
    styles: Mapping[ShortText, StyleKeys] = Field(default_factory=dict, description="names, each with job keys")
    default_style: ShortText | None = Field(default=None, description="a style's name")
    default_backend: Names = Field(default=(), description="the name of a back end, or a list of names")
    notify: NotifyConfig | None = Field(default=None, description="an address, or `{url, secret, allow_hosts}`")

    _root: Path = PrivateAttr(default_factory=Path.cwd)
    _source: Path | None = PrivateAttr(default=None)

    @property
    def root(self) -> Path:
        """The folder that relative paths start from."""
        return self._root

    @property
    def source(self) -> Path | None:
        """The file this was read from; None: there was none, these are the defaults."""
        return self._source

    @property
    def index(self) -> Path:
        """The index's file."""
        return self.state / "index.db"

    @property
    def images(self) -> Path | None:
        """The local store's folder; None where images are kept elsewhere."""
        return self.store.folder if isinstance(self.store, LocalConfig) else None

    def rules(self) -> Rules:
        """Return what it decides about jobs."""
        return Rules(
            default_owner=self.default_owner,
            styles=self.styles,
            default_style=self.default_style,
            default_backend=self.default_backend,
            backends=tuple(self.backends),
            notify=self.notify.url if self.notify is not None else None,
        )
