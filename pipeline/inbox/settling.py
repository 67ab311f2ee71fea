"""How long files have stood still, as far as this process has seen: no clock but our own is asked."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import takewhile

from pipeline.inbox.reading import Stamp


@dataclass(frozen=True, slots=True)
class _Seen:
    stamp: Stamp
    since: float


class Stillness:
    """Remembers of each file that is left to settle when it was first seen as it is now.

    Times are the caller's monotonic seconds; a file's own date proves nothing (copies keep old ones, clocks differ).
    """

    def __init__(self, settle: float) -> None:
        self.settle = settle
        self._seen: dict[str, _Seen] = {}
        self._written_on: set[str] = set()

    def settled(self, key: str, stamp: Stamp, now: float) -> bool:
        """Note how a file looks now; true where it has looked so for long enough."""
        seen = self._seen.get(key)
        if seen is None or seen.stamp != stamp:
            self.opened(key)  # so that the dictionary stays in the order of `since`
            seen = self._seen[key] = _Seen(stamp, now)
        return now - seen.since >= self.settle

    def opened(self, key: str) -> None:
        """Note that somebody writes to a file: it has to begin anew."""
        seen = self._seen.pop(key, None)
        if seen is not None and seen.stamp.size:
            self._written_on.add(key)

    def piecemeal(self, key: str) -> bool:
        """Tell whether a file had something in it, was closed, and was written to since: more may be to come."""
        return key in self._written_on

    def forget(self, *keys: str) -> None:
        """Drop files that have been dealt with."""
        for key in keys:
            self._seen.pop(key, None)
            self._written_on.discard(key)

    def keep_only(self, keys: AbstractSet[str]) -> None:
        """Drop the files that are no longer there."""
        self.forget(*((self._seen.keys() | self._written_on) - keys))

    def due(self, now: float) -> list[str]:
        """Name the files that have stood still long enough, if nothing has touched them since they were seen."""
        return list(takewhile(lambda key: now - self._seen[key].since >= self.settle, self._seen))

    def next_due(self) -> float | None:
        """Tell the moment at which the first of them will be due; None: none is waiting."""
        return next((seen.since + self.settle for seen in self._seen.values()), None)

    def __len__(self) -> int:
        return len(self._seen)
