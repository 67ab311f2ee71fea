"""Bearer tokens: who may look at whose gallery, kept as hashes in one small file that several processes share.

A token reads `pl_<id>_<secret>`. The id finds its line and is what `list` and `revoke` speak of; of the secret, 256
random bits, only the SHA-256 is kept, which for a secret of that length is as good as a slow hash. The file is
replaced whole under a lock beside it, so a reader never sees half of a change; a reader looks at the file's
stamp at every use, so a change made by another process holds at once.
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from pipeline.errors import ConfigError, UserError
from pipeline.tools import clock
from pipeline.tools.files import make_folder, write_durably

_TOKEN = re.compile(r"pl_([a-z0-9]{8})_([A-Za-z0-9_-]{43})")
_LETTERS = string.ascii_lowercase + string.digits
_NOBODY = hashlib.sha256(b"no token has this secret").hexdigest()
_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What is kept of a token; `owner` None means every owner."""

    id: str
    owner: str | None
    hash: str
    created_at: int
    expires_at: int | None = None
    name: str | None = None

    def usable(self, moment: int) -> bool:
        """Tell whether the token still opens anything at `moment`."""
        return self.expires_at is None or moment < self.expires_at


class Tokens:
    """The tokens in `file`; nothing is created on disk before the first token is."""

    def __init__(self, file: Path, *, now: clock.Clock = clock.now) -> None:
        self._file = file
        self._now = now
        self._stamp: _Stamp | None = None
        self._known: dict[str, TokenRecord] = {}
        self._lent: dict[str, TokenRecord] = {}

    def create(self, owner: str | None, *, seconds: float | None = None, name: str | None = None) -> str:
        """Make a token for `owner` (None: every owner) and return it; it cannot be shown again.

        Raises:
            ConfigError: the token file is damaged or cannot be written.
        """
        record, token = _new(owner, self._now(), seconds, name)

        def add(records: dict[str, TokenRecord]) -> None:
            records[record.id] = record

        self._change(add)
        return token

    def lend(self, owner: str | None, *, seconds: float) -> str:
        """Make a token that only this process knows, for the address that `run` shows in a terminal."""
        record, token = _new(owner, self._now(), seconds, "this terminal")
        self._lent[record.id] = record
        return token

    def records(self) -> list[TokenRecord]:
        """Return the kept tokens that are not expired, oldest first."""
        moment = self._now()
        return sorted((r for r in self._read().values() if r.usable(moment)), key=lambda r: (r.created_at, r.id))

    def revoke(self, which: str) -> TokenRecord:
        """Forget the token with this id, or with this unique name; the token itself is accepted too.

        Raises:
            UserError: no token, or more than one, answers to it.
        """
        shape = _TOKEN.fullmatch(which)
        wanted = shape[1] if shape else which
        gone: list[TokenRecord] = []

        def forget(records: dict[str, TokenRecord]) -> None:
            found = [r for r in records.values() if r.id == wanted] or [r for r in records.values() if r.name == wanted]
            if len(found) != 1:
                shown = wanted if not shape else f"pl_{wanted}_…"
                trouble = "no token" if not found else f"{len(found)} tokens"
                raise UserError(f"{trouble} with the id or name {shown!r}; `pipeline token list` shows the ids")
            gone.append(records.pop(found[0].id))

        self._change(forget)
        return gone[0]

    def check(self, token: str) -> TokenRecord | None:
        """Return the record that `token` opens, or None; equally long work for a wrong id and a wrong secret."""
        shape = _TOKEN.fullmatch(token)
        wanted, secret = (shape[1], shape[2]) if shape else ("", "")
        kept, lent = self._read().get(wanted), self._lent.get(wanted)
        record = kept or lent
        matches = hmac.compare_digest(_hash(secret), record.hash if record else _NOBODY)
        return record if record is not None and matches and record.usable(self._now()) else None

    def _read(self) -> dict[str, TokenRecord]:
        """Return what the file holds, reading it again only where it was replaced."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            self._stamp, self._known = None, {}
            return self._known
        except OSError as error:
            raise ConfigError(f"{self._file}: cannot be looked at ({error.strerror}); mend the state folder") from error
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp != self._stamp:
            self._known = _load(self._file)
            self._stamp = stamp
        return self._known

    def _change(self, how: Callable[[dict[str, TokenRecord]], None]) -> None:
        try:
            with _locked(self._file.with_name(self._file.name + ".lock")):
                records = dict(_load(self._file)) if self._file.exists() else {}
                how(records)
                moment = self._now()
                kept = {"tokens": [asdict(r) for r in records.values() if r.usable(moment)]}
                write_durably(self._file, orjson.dumps(kept, option=orjson.OPT_INDENT_2), replace=True, mode=0o600)
        except OSError as error:
            raise ConfigError(
                f"{self._file}: the tokens cannot be written ({error.strerror}); mend the folder"
            ) from error


def _new(owner: str | None, moment: int, seconds: float | None, name: str | None) -> tuple[TokenRecord, str]:
    key = "".join(secrets.choice(_LETTERS) for _ in range(8))
    secret = secrets.token_urlsafe(32)
    expires = None if seconds is None else moment + round(seconds * 1000)
    return TokenRecord(key, owner, _hash(secret), moment, expires, name), f"pl_{key}_{secret}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _load(file: Path) -> dict[str, TokenRecord]:
    try:
        return {entry["id"]: TokenRecord(**entry) for entry in orjson.loads(file.read_bytes())["tokens"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file}: not a list of tokens any more; restore it from a backup, or remove it and create new tokens"
        ) from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); it must belong to whoever runs this") from error


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    make_folder(file.parent, mode=0o700)
    handle = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
