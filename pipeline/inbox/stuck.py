"""Files that cannot be read or moved: told once, tried again when they change, and now and then."""

import os
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from pipeline.inbox.looking import Arrival
from pipeline.inbox.names import readable
from pipeline.inbox.telling import Telling

TRIED_AGAIN = 30.0  # seconds after which an unchanged file gets another chance: the fault may be the folder's


@dataclass(frozen=True, slots=True)
class _Fault:
    look: tuple[object, ...]
    until: float
    said: str


class Stuck:
    """Remembers the files that a pass had to leave, so that the next one does not fall over them again."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling
        self._faults: dict[str, _Fault] = {}

    def __len__(self) -> int:
        return len(self._faults)

    @property
    def told(self) -> str | None:
        """Name a file that cannot be taken, and count the others; None: there is none."""
        faults = list(self._faults.items())  # in one step: the thread that reads files may be adding to them
        if not faults:
            return None
        key, fault = faults[0]
        others = f", and {len(faults) - 1:,} more files like it" if len(faults) > 1 else ""
        return f"{readable(key)} cannot be taken ({fault.said}){others}; once that is mended, it is tried again"

    def holds(self, arrival: Arrival, now: float) -> bool:
        """Whether a file is to be passed over for now; one that has changed is not."""
        fault = self._faults.get(arrival.key)
        return fault is not None and fault.look == _look(arrival) and now < fault.until

    def note(self, arrival: Arrival, error: OSError, now: float) -> None:
        """Leave a file where it is; said once for as long as it looks the same."""
        before = self._faults.get(arrival.key)
        said = _said(error, arrival)
        self._faults[arrival.key] = _Fault(_look(arrival), now + TRIED_AGAIN, said)
        if before is None or before.look != _look(arrival):
            self._telling.say(
                "a job file cannot be taken and stays where it is; it is tried again when it changes",
                file=readable(arrival.key),
                reason=said,
            )

    def forget(self, arrival: Arrival) -> None:
        """Drop a file that could be dealt with after all."""
        self._faults.pop(arrival.key, None)

    def keep_only(self, keys: AbstractSet[str]) -> None:
        """Drop the files that are no longer there."""
        for key in self._faults.keys() - keys:
            del self._faults[key]


def _said(error: OSError, arrival: Arrival) -> str:
    """Say what happened, and where, if it is not the file itself: the folder that it was to be moved to."""
    place = os.fsdecode(error.filename2 or error.filename or arrival.name)
    said = error.strerror or type(error).__name__
    return said if error.filename2 is None and place.endswith(arrival.name) else f"{readable(place)}: {said}"


def _look(arrival: Arrival) -> tuple[object, ...]:
    return (arrival.stamp, arrival.ctime_ns)
