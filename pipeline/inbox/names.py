"""File and job names: which files are jobs, what a job is called, and how a name is shown to people. Pure."""

import random
import re
from collections.abc import Callable
from datetime import UTC, datetime

from pipeline.naming import EXTENSIONS, slugify

NAME_LENGTH = 58  # characters of the file's name in a job's: with date, time and ending a job id stays within 80
LONGEST = 255  # bytes of a file name, on all usual file systems

_JOB_SHAPE = re.compile(r"[0-9]{8}-[0-9]{6}-(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)-[a-z0-9]{4}")
_ENDING = "abcdefghijklmnopqrstuvwxyz0123456789"


def is_job_file(name: str) -> bool:
    """Tell by its name alone whether a file may be a job; editors' and copiers' drafts are not."""
    return name.endswith(EXTENSIONS) and not name.startswith(".")


def split(name: str) -> tuple[str, str]:
    """Part `mary.v2.yaml` into `mary.v2` and `.yaml`; of a name that is no job file's, everything is stem."""
    stem, dot, extension = name.rpartition(".")
    return (stem, dot + extension) if stem and dot + extension in EXTENSIONS else (name, "")


def has_job_shape(stem: str) -> bool:
    """Tell whether a name is built like those that `new_job_id` makes."""
    match = _JOB_SHAPE.fullmatch(stem)
    return match is not None and len(match["name"]) <= NAME_LENGTH


def new_job_id(stem: str, *, now: int, draw: random.Random, ending: int = 4) -> str:
    """Make a job's name from the moment (milliseconds), the file's name and a few random characters."""
    moment = datetime.fromtimestamp(now / 1000, UTC).strftime("%Y%m%d-%H%M%S")
    name = slugify(stem, length=NAME_LENGTH + 4 - ending)
    return f"{moment}-{name}-{''.join(draw.choices(_ENDING, k=ending))}"


def readable(name: str) -> str:
    """Write a file name so that it can stand in a log line, an error text or a terminal, whatever its bytes are."""
    if name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def numbered(stem: str, n: int, *, longest_suffix: int = 0) -> str:
    """Return the `n`-th choice for a stem (`mary`, `mary-2`), cut so that the suffix still fits a file name."""
    ending = "" if n == 1 else f"-{n}"
    room = LONGEST - longest_suffix - len(ending)
    while len(stem.encode("utf-8", "surrogateescape")) > room:
        stem = stem[:-1]
    return stem + ending


def first_free(taken: Callable[[int], bool]) -> int:
    """Find the first of 1, 2, 3 … that is not taken, in few questions however many are.

    Where numbers have been freed in between, it may be a later one than the very first.
    """
    high = 1
    while taken(high):
        high *= 2
    low = high // 2  # taken, or 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if taken(middle) else (low, middle)
    return high
