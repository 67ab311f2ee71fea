"""How long files have stood still, as far as this process has seen: no clock but our own is asked."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import inf

from pipeline.inbox.reading import Stamp


@dataclass(slots=True)
class _Seen:
    stamp: Stamp
    since: float
    due: float


class Stillness:
    """Remembers of each file that is left to settle when it was first seen as it is now.

    Times are the caller's monotonic seconds; a file's own date proves nothing (copies keep old ones, clocks differ).
    """

    def __init__(self, settle: float) -> None:
        self.settle = settle
        self._seen: dict[str, _Seen] = {}

    def settled(self, key: str, stamp: Stamp, now: float, *, seconds: float | None = None) -> bool:
        """Note how a file looks now; true where it has looked so for `seconds`, by default for the settle time.

        Where fewer were asked for before, they stay enough for as long as it looks the same.
        """
        seen = self._seen.get(key)
        if seen is None or seen.stamp != stamp:
            self.forget(key)  # so that the dictionary stays in the order of `since`
            seen = self._seen[key] = _Seen(stamp, now, inf)
        seen.due = min(seen.due, seen.since + (self.settle if seconds is None else seconds))
        return now >= seen.due

    def settled_whole(self, key: str, now: float) -> bool:
        """Tell whether a file just noted has looked so for the whole settle time; it is due when that is over."""
        seen = self._seen[key]
        seen.due = seen.since + self.settle
        return now >= seen.due

    def forget(self, *keys: str) -> None:
        """Drop files that have been dealt with, or have to begin anew."""
        for key in keys:
            self._seen.pop(key, None)

    def keep_only(self, keys: AbstractSet[str]) -> None:
        """Drop the files that are no longer there."""
        for key in self._seen.keys() - keys:
            del self._seen[key]

    def due(self, now: float) -> list[str]:
        """Name the files that have stood still long enough, if nothing has touched them since they were seen."""
        return [key for key, seen in self._seen.items() if now >= seen.due]

    def next_due(self) -> float | None:
        """Tell the moment at which the first of them will be due; None: none is waiting."""
        return min((seen.due for seen in self._seen.values()), default=None)

    def __len__(self) -> int:
        return len(self._seen)
