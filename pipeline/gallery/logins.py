"""Signed logins (JWT) of apps that have their own accounts: the alternative to tokens of ours."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import orjson
from jwt import PyJWKSet

from pipeline.config import JwtConfig
from pipeline.config.model import Algorithm
from pipeline.errors import ConfigError
from pipeline.spec.types import OWNER

_LONGEST = 8192  # characters of a login that is worth reading
_KINDS: dict[str, Algorithm] = {"RSA": "RS256", "EC": "ES256"}


@dataclass(frozen=True, slots=True, repr=False)
class _Key:
    """A key and the one algorithm it is used with: what a login says of itself decides nothing."""

    algorithm: Algorithm
    material: Any
    kid: str | None = None


class Logins:
    """Checks logins against the keys and algorithms that the configuration fixes."""

    def __init__(self, settings: JwtConfig) -> None:
        """Read the keys once, so that a mistake is found at the start.

        Raises:
            ConfigError: the key file cannot be read, or holds no key of the algorithms' kind.
        """
        self._settings = settings
        self._stamp: tuple[int, int, int] | None = None
        self._keys: list[_Key] = []
        if settings.secret is not None:
            self._keys = [_Key("HS256", settings.secret.get_secret_value())]
        if settings.key_file is not None:
            self._refresh(settings.key_file)

    def owner(self, login: str) -> str | None:
        """Return the owner that a valid login names, or None.

        Raises:
            ConfigError: the key file was replaced by something that is none.
        """
        if len(login) > _LONGEST:
            return None
        settings = self._settings
        if settings.key_file is not None:
            self._refresh(settings.key_file)
        for key in self._fitting(login):
            claims = self._claims(login, key)
            owner = None if claims is None else claims.get(settings.owner_claim)
            if isinstance(owner, str) and re.fullmatch(OWNER, owner):
                return owner
        return None

    def _fitting(self, login: str) -> list[_Key]:
        try:
            kid = jwt.get_unverified_header(login).get("kid")
        except (jwt.PyJWTError, ValueError, TypeError):
            return []
        named = [key for key in self._keys if key.kid is not None and key.kid == kid]
        return named or [key for key in self._keys if key.kid is None or kid is None]

    def _claims(self, login: str, key: _Key) -> dict[str, Any] | None:
        settings = self._settings
        try:
            return jwt.decode(
                login,
                key.material,
                algorithms=[key.algorithm],
                issuer=settings.issuer,
                audience=settings.audience or None,
                leeway=settings.leeway,
                options={
                    "require": ["exp"],
                    "verify_aud": bool(settings.audience),
                    "verify_iss": settings.issuer is not None,
                    "verify_sub": False,  # the owner claim is checked above, whatever it is called
                    "verify_jti": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None

    def _refresh(self, file: Path) -> None:
        """Read the key file again where it was replaced: keys are rotated while we run."""
        try:
            found = file.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if stamp != self._stamp:
                self._keys = _read(file, self._settings.algorithms)
                self._stamp = stamp
        except OSError as error:
            raise ConfigError(f"gallery.jwt: {file} cannot be read ({error.strerror})") from error


def _read(file: Path, algorithms: tuple[Algorithm, ...]) -> list[_Key]:
    text = file.read_bytes()
    try:
        keys = _of_set(text) if text.lstrip().startswith(b"{") else _of_pem(text)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"gallery.jwt: {file} is neither a PEM public key nor a JSON Web Key Set") from error
    fitting = [key for key in keys if key.algorithm in algorithms]
    if not fitting:
        raise ConfigError(f"gallery.jwt: {file} holds no key for {' or '.join(algorithms)}")
    return fitting


def _of_set(text: bytes) -> list[_Key]:
    keys = PyJWKSet.from_dict(orjson.loads(text)).keys
    return [_Key(_KINDS[key.key_type], key.key, key.key_id) for key in keys if key.key_type in _KINDS]


def _of_pem(text: bytes) -> list[_Key]:
    """A PEM says itself of which kind it is: only that kind's algorithm can read it."""
    found = []
    for algorithm in _KINDS.values():
        try:
            found.append(_Key(algorithm, jwt.get_algorithm_by_name(algorithm).prepare_key(text)))
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
    if not found:
        raise ValueError(str(len(text)))
    return found
