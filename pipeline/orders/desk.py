"""Where orders lie and replies are picked up: a folder that only its owner can write to.

An order is one file, seen whole or not at all; its reply stands beside it under the same name until whoever asked takes
it. Orders are taken in the order in which they were left.
"""

import contextlib
import os
import secrets
import stat
import time
from pathlib import Path

from pydantic import ValidationError

from pipeline.errors import UserError
from pipeline.orders.kinds import Order, Reply, read_order
from pipeline.tools.files import make_folder, rename_exclusive, write_durably

LARGEST = 1 << 20  # bytes of an order
FORGOTTEN = 3600.0  # seconds after which nobody comes for a reply any more
_ORDER, _REPLY = ".json", ".reply"


class Desk:
    """The folder `orders` in the state folder."""

    def __init__(self, state: Path) -> None:
        self.folder = state / "orders"
        self.refused = self.folder / "refused"

    def open(self) -> None:
        """Make the folder, for its owner alone.

        Raises:
            OSError: it cannot be made.
        """
        make_folder(self.folder, mode=0o700)
        self.folder.chmod(0o700)

    # -- for whoever asks

    def leave(self, order: Order) -> str:
        """Leave an order, and return the name to ask for its reply by."""
        self.open()
        name = f"{time.time_ns():020}-{secrets.token_hex(4)}"
        write_durably(self._order(name), order.model_dump_json().encode(), replace=False, mode=0o600)
        return name

    def take_reply(self, name: str) -> Reply | None:
        """Return the reply and clear the desk of both; None: there is none yet."""
        try:
            text = self._reply(name).read_bytes()
        except FileNotFoundError:
            return None
        self.withdraw(name)
        self._reply(name).unlink(missing_ok=True)
        try:
            return Reply.model_validate_json(text)
        except ValidationError:
            return Reply(exit_code=1, lines=(f"{self._reply(name)}: is no reply; see `pipeline status`",))

    def withdraw(self, name: str) -> bool:
        """Take an order back; false where it is gone already."""
        try:
            self._order(name).unlink()
        except FileNotFoundError:
            return False
        return True

    def lies_there(self, name: str) -> bool:
        """Tell whether an order still waits."""
        return self._order(name).exists()

    # -- for whoever carries them out

    def waiting(self) -> list[str]:
        """Names of the orders without a reply, oldest first; what was answered before a crash is cleared away.

        Raises:
            OSError: the folder cannot be read.
        """
        with os.scandir(self.folder) as entries:
            names = {entry.name for entry in entries if not entry.name.startswith(".")}
        orders = []
        for name in sorted(name.removesuffix(_ORDER) for name in names if name.endswith(_ORDER)):
            if name + _REPLY in names:
                self.withdraw(name)
            else:
                orders.append(name)
        return orders

    def read(self, name: str) -> Order:
        """Parse an order.

        Raises:
            UserError: it is none.
            FileNotFoundError: it was taken back.
        """
        path = self._order(name)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
            os.close(handle)
            raise UserError(f"{path}: is no order: not a regular file of at most {LARGEST} bytes")
        with os.fdopen(handle, "rb") as file:
            return read_order(file.read(LARGEST))

    def answer(self, name: str, reply: Reply) -> None:
        """Put a reply beside its order, then take the order away; after a crash in between it is not carried out again.

        Raises:
            OSError: disk full, read-only.
        """
        if self.lies_there(name):
            write_durably(self._reply(name), reply.model_dump_json().encode(), replace=True, mode=0o600)
            self.withdraw(name)

    def set_aside(self, name: str, reason: str) -> None:
        """Put what is no order into `refused/`, with the reason beside it.

        Raises:
            OSError: disk full, read-only.
        """
        make_folder(self.refused, mode=0o700)
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            rename_exclusive(self._order(name), self.refused / f"{name}{_ORDER}")
        write_durably(self.refused / f"{name}.error.txt", f"{reason}\n".encode(), replace=True, mode=0o600)

    def sweep(self) -> None:
        """Remove replies that nobody has come for."""
        with os.scandir(self.folder) as entries:
            replies = [Path(entry.path) for entry in entries if entry.name.endswith(_REPLY)]
        for path in replies:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.lstat().st_mtime > FORGOTTEN:
                    path.unlink()

    def _order(self, name: str) -> Path:
        return self.folder / f"{name}{_ORDER}"

    def _reply(self, name: str) -> Path:
        return self.folder / f"{name}{_REPLY}"
