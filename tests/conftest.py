"""What every test shares: a log that costs nothing to write and is easy to search."""

import fcntl
import gc
import os
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from tests.support.deaths import died
from tests.support.fixtures import catalogue, clock, ledger

__all__ = ["catalogue", "clock", "died", "ledger"]

# A busy machine is no defect, and the suite tells the same twice; what nobody has tried yet is `just torture`'s to find.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


MEMORY = Path("/dev/shm")
ROOM = 2 << 30  # bytes that a whole run may need at once
RUBBISH = 50_000  # objects between two searches for garbage: at the usual 700 they are a sixteenth of a run


def _in_memory(folder):
    """Whether files there cost no disk, with room for all of them, and may be programs."""
    if not os.access(folder, os.W_OK):
        return False
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize > ROOM and not system.f_flag & os.ST_NOEXEC


def pytest_configure():
    """A shell starts what it puts in the background deaf to Ctrl-C, and all its children with it: tests send it to some."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if _in_memory(MEMORY):  # what a test leaves is gone with it, and the disk's speed is no matter of ours
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    # Where no bytecode is kept, each of the hundred programs that are started compiles all its libraries for itself.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


@contextmanager
def _compiled_once():
    """Where nothing is compiled yet, one worker does it while the others wait, rather than each of them."""
    here = Path(__file__)
    last = max(here.parent.glob("test_*.py")).stem

    def is_compiled():
        return any(here.parent.glob(f"__pycache__/{last}.*-pytest-*.pyc"))

    with here.open() as lock:
        if not is_compiled():
            fcntl.flock(lock, fcntl.LOCK_EX)
            if is_compiled():
                fcntl.flock(lock, fcntl.LOCK_UN)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is collected stays to the end, so nobody searches it for garbage: not now, and not during each test."""
    gc.disable()
    try:
        with _compiled_once():
            return (yield)
    finally:
        gc.freeze()
        gc.enable()
        gc.set_threshold(RUBBISH)


@pytest.hookimpl(trylast=True)  # what is deselected is nobody's part
def pytest_collection_modifyitems(items):
    """Each worker begins with some of what takes long, so that none is left alone with it at the end; one has the browser.

    xdist hands out equal parts, one after the other.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return
    browsing = [item for item in items if item.get_closest_marker("chromium")]
    long = [item for item in items if item.get_closest_marker("long")]
    first = {*browsing, *long}
    rest = [item for item in items if item not in first]
    beginnings = [browsing, *(long[n :: workers - 1] for n in range(workers - 1))]
    left = len(items)
    items.clear()
    for n, beginning in enumerate(beginnings):
        part = left // (workers - n)
        filling = max(part - len(beginning), 0)
        items += [*beginning, *rest[:filling]]
        del rest[:filling]
        left -= part


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
    hook = threading.excepthook
    yield
    threading.excepthook = hook
    structlog.reset_defaults()
