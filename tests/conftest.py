"""What every test shares: a log that costs nothing to write and is easy to search."""

import signal

import pytest
import structlog
from hypothesis import settings

from tests.support.deaths import died, place

__all__ = ["died", "place"]

# A busy machine is no defect, and the suite tells the same twice; what nobody has tried yet is `just torture`'s to find.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_configure():
    """A shell starts what it puts in the background deaf to Ctrl-C, and all its children with it: tests send it to some."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Begin with what takes long, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def _plain_log():
    """Plain lines on stdout; the default draws each traceback with all local variables, which takes seconds."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
        ]
    )
    yield
    structlog.reset_defaults()
