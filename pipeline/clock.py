"""Wall-clock moments as the index keeps them: integer milliseconds since 1970 UTC."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
NOT_YET = 9_000_000_000_000_000  # what the index sorts by where something has not happened: beyond every real moment


def now() -> int:
    """Return the present moment in milliseconds."""
    return time.time_ns() // 1_000_000


def rfc3339(moment: int) -> str:
    """Write a moment as the outside sees it: `2025-07-28T10:00:00.123Z`."""
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
