"""What the daemon says while it works: pretty lines in a terminal, one JSON object a line otherwise."""

import logging
import sys
from typing import TextIO

import structlog


def set_up_logging(*, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send every log line to stderr (or `stream`), and the libraries' own warnings with them."""
    out = stream or sys.stderr
    pretty = out.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if pretty else "iso", utc=not pretty),
            structlog.processors.StackInfoRenderer(),
            *([] if pretty else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=out, format="%(levelname)s %(name)s %(message)s")
