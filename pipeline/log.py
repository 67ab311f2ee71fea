"""What the daemon says while it works: pretty lines in a terminal, one JSON object a line otherwise.

Tracebacks are written without local variables and with secrets taken out, and of one kind of line only so many a minute.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from pipeline.scrub import scrub

MOST_A_MINUTE = 60  # lines of one kind; `status` and the index tell the whole of it
_MINUTE = 60.0
_LONGEST_LINE = 400


def set_up_logging(*, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send every log line to stderr (or `stream`), and the libraries' own warnings with them."""
    out = stream or sys.stderr
    pretty = out.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            Dam(),
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if pretty else "iso", utc=not pretty),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            scrub_traceback,
            structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,  # a program that runs twice in one process (the tests do) is heard both times
    )
    logging.basicConfig(level=logging.WARNING, stream=out, format="%(levelname)s %(name)s %(message)s")


def scrub_traceback(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Take secrets and addresses' query strings out of a traceback: other programs' errors quote what they were given."""
    told = event.get("exception")
    if isinstance(told, str):
        event["exception"] = "\n".join(_indented(line) for line in told.splitlines())
    return event


def _indented(line: str) -> str:
    return line[: len(line) - len(line.lstrip())] + scrub(line, longest=_LONGEST_LINE)


class Dam:
    """Lets so many lines of one kind through in a minute, then holds them back and says how many there were."""

    def __init__(self, most: int = MOST_A_MINUTE, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}  # when the minute began, lines since

    def __call__(self, _: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Pass an event on.

        Raises:
            DropEvent: there were enough of this kind.
        """
        kind = str(event.get("event"))
        began, lines = self._seen.get(kind, (self._clock(), 0))
        if self._clock() - began >= _MINUTE:
            if lines > self._most:
                event["held_back"] = lines - self._most
            began, lines = self._clock(), 0
        self._seen[kind] = (began, lines + 1)
        if lines >= self._most and method != "debug":
            raise structlog.DropEvent
        return event
