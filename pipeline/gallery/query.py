"""Reads query parameters: unknown ones are ignored, known ones with bad values are refused with what is expected."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from starlette.datastructures import QueryParams

from pipeline.gallery.refusals import bad_request
from pipeline.model import Status
from pipeline.spec.types import LARGEST_SEED, MOST_IMAGES

T = TypeVar("T")

MOST = 1000  # rows in a page
LONGEST_TEXT = 400  # characters of a label, a cursor or a search
_SHOWN = (Status.DONE, Status.PLACEHOLDER)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?", re.ASCII | re.IGNORECASE)
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


class Asked:
    """One request's parameters, each read at most once and said at most once."""

    def __init__(self, params: QueryParams) -> None:
        self._params = params

    def limit(self) -> int:
        """Rows in the page, 1 to 1000."""
        return self._one("limit", lambda text: _whole(text, 1, MOST), f"a whole number from 1 to {MOST}") or MOST

    def cursor(self) -> str | None:
        """The opaque place to go on from, as a `next` gave it."""
        return self._one("cursor", _text, "what `next` of the page before said")

    def statuses(self) -> tuple[Status, ...]:
        """The statuses to show; by default what there is to see."""
        choices = ", ".join(Status)
        return self._one("status", _statuses, f"one or several of {choices}, with commas between") or _SHOWN

    def text(self, name: str) -> str | None:
        """A label, a job's id or words to search for."""
        return self._one(name, _text, f"1 to {LONGEST_TEXT} characters, none of them NUL")

    def words(self, name: str) -> str | None:
        """Words to search for, at least one."""
        return self._one(name, _words, f"at least one word, in at most {LONGEST_TEXT} characters, none of them NUL")

    def seed(self) -> int | None:
        """The seed of the images to show."""
        return self._one("seed", lambda text: _whole(text, 0, LARGEST_SEED), f"a whole number up to {LARGEST_SEED}")

    def quantity(self) -> int:
        """Images that a job file is to ask for."""
        read = partial(_whole, least=1, most=MOST_IMAGES)
        return self._one("quantity", read, f"a whole number from 1 to {MOST_IMAGES}") or 1

    def moment(self, name: str) -> int | None:
        """A date (its beginning, UTC) or an RFC 3339 moment, in milliseconds."""
        return self._one(name, _moment, "a moment such as 2026-01-31T12:00:00Z, or a date")

    def flag(self, name: str) -> bool | None:
        """A yes or no."""
        return self._one(name, lambda text: _FLAGS[text.lower()], "true or false")

    def wait(self, longest: float) -> float:
        """Seconds to hold the answer; 0 where none are asked for."""
        return self._one("wait", lambda text: _seconds(text, longest), f"seconds from 0 to {longest:g}") or 0.0

    def _one(self, name: str, read: Callable[[str], T], expected: str) -> T | None:
        values = self._params.getlist(name)
        if not values:
            return None
        if len(values) > 1:
            raise bad_request(f"{name} is given {len(values)} times; once is enough.")
        try:
            return read(values[0])
        except (ValueError, KeyError, OverflowError):
            shown = values[0] if len(values[0]) <= 40 else values[0][:40] + "…"
            raise bad_request(f"{name}={shown!r} cannot be used: expected {expected}.") from None


def _whole(text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
        raise ValueError(text)
    return int(text)


def _seconds(text: str, most: float) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 <= value <= most:
        raise ValueError(text)
    return value


def _text(text: str) -> str:
    if not 0 < len(text) <= LONGEST_TEXT or "\0" in text:
        raise ValueError(text)
    return text


def _words(text: str) -> str:
    if not re.search(r"\w", text):
        raise ValueError(text)
    return _text(text)


def _statuses(text: str) -> tuple[Status, ...]:
    wanted = {Status(word.strip()) for word in text.split(",")}
    return tuple(status for status in Status if status in wanted)


def _moment(text: str) -> int:
    if _DATE.fullmatch(text):
        moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    else:
        moment = datetime.fromisoformat(text.replace(" ", "+"))  # an unescaped plus arrives as a space
        if moment.tzinfo is None:
            raise ValueError(text)
    return (moment - _EPOCH) // timedelta(milliseconds=1)
