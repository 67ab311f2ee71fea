"""`python -m pipeline` and the `pipeline` command."""

import errno
import io
import os
import signal
import sys
from types import FrameType

from pipeline import cli

_NOT_WRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
_UNTIL_TOLD_TO_END = frozenset({"run", "serve"})
_NEVER_ASKED_FOR = ("rich", "httpx._main")  # by these two; structlog and httpx would load them, a tenth of a start


def main() -> None:
    """Run the command that the arguments name."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it looks for some in every package there is
    if next((word for word in sys.argv[1:] if word in cli.COMMANDS), None) in _UNTIL_TOLD_TO_END:
        _end_well_from_the_start()
        for name in _NEVER_ASKED_FOR:
            sys.modules[name] = None  # type: ignore[assignment]  # Python's own word for "not to be had"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal's encoding lacks is no reason to end
    try:
        cli.main()
    except OSError as error:
        if error.errno not in _NOT_WRITTEN or error.filename is not None:
            raise
        sys.stderr.write(f"stdout cannot be written ({error.strerror}); send it elsewhere, or make room\n")
        sys.stderr.flush()
        os._exit(1)  # an orderly end would try to write what is left once more


def _end_well_from_the_start() -> None:
    """Loading all libraries takes longer than a service manager may wait before its SIGTERM; nothing is held yet."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    main()
