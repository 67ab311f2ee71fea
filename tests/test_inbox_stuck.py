"""Files that cannot be taken, as they are told of."""

import sys
import threading

import pytest

from pipeline.inbox.looking import Arrival
from pipeline.inbox.reading import Stamp
from pipeline.inbox.stuck import Stuck
from pipeline.inbox.telling import Telling

STAMP = Stamp(*range(len(Stamp._fields)))
DENIED = PermissionError(13, "Permission denied")


@pytest.fixture
def hasty():
    """Threads take turns far oftener than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_they_can_be_told_of_while_the_thread_that_reads_finds_more():
    for _ in range(20):
        stuck = Stuck(Telling())
        arrivals = [Arrival(0, f"{n}.yaml", claimed=False, stamp=STAMP, ctime_ns=0) for n in range(1_000)]

        def find(stuck=stuck, arrivals=arrivals):
            for arrival in arrivals:
                stuck.note(arrival, DENIED, 0.0)

        reading = threading.Thread(target=find)
        reading.start()
        while reading.is_alive():
            assert stuck.told is None or stuck.told.startswith("0.yaml cannot be taken (Permission denied)")
        reading.join()
        assert "999 more files" in stuck.told
