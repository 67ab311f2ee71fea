"""`python -m pipeline` and the `pipeline` command."""

import os
import signal
import sys
from types import FrameType

from pipeline import cli

_UNTIL_TOLD_TO_END = frozenset({"run", "serve"})
_NEVER_ASKED_FOR = ("rich", "httpx._main")  # by these two; structlog and httpx would load them, a tenth of a start


def main() -> None:
    """Run the command that the arguments name."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it looks for some in every package there is
    if next((word for word in sys.argv[1:] if word in cli.COMMANDS), None) in _UNTIL_TOLD_TO_END:
        _end_well_from_the_start()
        for name in _NEVER_ASKED_FOR:
            sys.modules[name] = None  # type: ignore[assignment]  # Python's own word for "not to be had"
    cli.main()


def _end_well_from_the_start() -> None:
    """Loading all libraries takes longer than a service manager may wait before its SIGTERM; nothing is held yet."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    main()
