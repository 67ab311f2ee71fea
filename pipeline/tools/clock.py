"""Wall-clock moments as the index keeps them: integer milliseconds since 1970 UTC."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

Clock = Callable[[], int]
NOT_YET = 9_000_000_000_000_000  # what the index sorts by where something has not happened: beyond every real moment


def now() -> int:
    """Return the present moment in milliseconds."""
    return time.time_ns() // 1_000_000


@lru_cache(maxsize=4_096)
def rfc3339(moment: int) -> str:
    """Write a moment as the outside sees it: `2025-07-28T10:00:00.123Z`."""
    minute, rest = divmod(moment, 60_000)
    return f"{_to_the_minute(minute)}{rest / 1000:06.3f}Z"


def when(moment: int | None) -> str | None:
    """Write a moment likewise; None: it has not come."""
    return None if moment is None else rfc3339(moment)


@lru_cache(maxsize=4_096)
def _to_the_minute(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).isoformat()[:-8]
