"""Pauses after something outside said no: growing, jittered, and never shorter than what the service asked for."""

import math
import random
from collections.abc import Callable
from email.utils import parsedate_to_datetime

LONGEST_ASKED = 3600.0  # a `Retry-After` beyond an hour is taken for a mistake


def asked_for(retry_after: str, now: int) -> float | None:
    """Read a `Retry-After`, seconds or a date, as seconds from `now` (milliseconds), at most an hour; None: it is none."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - now / 1000
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_ASKED) if math.isfinite(seconds) else None


def jittered(span: float, draw: Callable[[], float], asked: float | None) -> float:
    """Return a pause of between half of `span` and all of it, or what was `asked` for if longer; all in seconds."""
    return max(span * (1 + draw()) / 2, min(asked or 0.0, LONGEST_ASKED))


class Pauses:
    """The lengths of one row of pauses, in seconds; `reset` once things go well again."""

    def __init__(self, *, first: float = 1.0, longest: float = 60.0, draw: Callable[[], float] = random.random) -> None:
        self._first = first
        self._longest = longest
        self._draw = draw
        self._span = first

    def next(self, asked: float | None = None) -> float:
        """Return how long to wait now: between half the present span and all of it, or what was `asked` if longer."""
        span, self._span = self._span, min(2 * self._span, self._longest)
        return jittered(span, self._draw, asked)

    def reset(self) -> None:
        """Start again with the shortest pause."""
        self._span = self._first
