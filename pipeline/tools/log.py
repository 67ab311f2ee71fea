"""What the daemon says while it works: pretty lines in a terminal, one JSON object a line otherwise.

Tracebacks are written without local variables and with secrets taken out, and of one kind of line only so many a minute.
A line that cannot be written is dropped: to say less is better than to end.
"""

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO, cast

import click
import structlog
import trio
from structlog.typing import EventDict, WrappedLogger

from pipeline.tools.scrub import scrub

MOST_A_MINUTE = 60  # lines of one kind; `status` and the index tell the whole of it
_MINUTE = 60.0
_LONGEST_LINE = 400
_MORE = "more_like_it"


def set_up_logging(*, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send every log line to stderr (or `stream`), and the libraries' own warnings with them."""
    out = stream or sys.stderr  # None where it was closed before the start
    pretty = out is not None and out.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _dam,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if pretty else "iso", utc=not pretty),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            scrub_traceback,
            structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Unfailing(out))),
        cache_logger_on_first_use=False,  # a program that runs twice in one process (the tests do) is heard both times
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()], force=True)
    threading.excepthook = _thread_broke
    atexit.unregister(_leave_nothing_unwritten)
    atexit.register(_leave_nothing_unwritten, out)


def greet(words: str) -> None:
    """Say something to whoever starts this by hand; dropped, like a line of the log, where it cannot be written."""
    with contextlib.suppress(OSError):
        click.echo(words, err=True)


async def tell_what_was_held_back() -> None:
    """Say now and then how many lines there would have been more of; never returns, and says the last at its end."""
    try:
        while True:
            await trio.sleep(_MINUTE)
            _dam.tell_rest()
    finally:
        _dam.tell_rest(at_once=True)


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
        if kind == _MORE or method == "debug":
            return event
        self.tell_rest()
        began, lines = self._seen.get(kind, (self._clock(), 0))
        self._seen[kind] = (began, lines + 1)
        if lines >= self._most:
            raise structlog.DropEvent
        return event

    def tell_rest(self, *, at_once: bool = False) -> None:
        """Say how many lines of each kind were held back in its minute, where that is over (or `at_once`)."""
        present = self._clock()
        for kind, (began, lines) in list(self._seen.items()):
            if at_once or present - began >= _MINUTE:
                self._seen.pop(kind, None)
                if lines > self._most:
                    structlog.get_logger(__name__).warning(_MORE, like=kind, lines=lines - self._most)


_dam = Dam()


def _thread_broke(broken: threading.ExceptHookArgs) -> None:
    """Tell of it in a line as any other: Python's own words would be written into the midst of others'."""
    if broken.exc_type is SystemExit or broken.exc_value is None:
        return
    name = broken.thread.name if broken.thread is not None else None
    error = (broken.exc_type, broken.exc_value, broken.exc_traceback)
    structlog.get_logger(__name__).error("thread_broke", thread=name, exc_info=error)


def _leave_nothing_unwritten(stream: TextIO | None) -> None:
    """What could not be written is dropped: the interpreter would try it once more at its end, and call that a failure."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


class _Unfailing:
    """A stream that drops what cannot be written: its disk may be full, or whoever reads it gone."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed
            if self._stream is not None:
                self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()


class _Libraries(logging.Handler):
    """Hands what libraries say to our own log, where all of it counts as one kind."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on."""
        said: dict[str, Any] = {"library": record.name, "said": scrub(record.getMessage(), longest=_LONGEST_LINE)}
        structlog.get_logger(__name__).log(record.levelno, "library", **said, exc_info=record.exc_info)
