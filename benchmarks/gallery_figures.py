"""The gallery's figures, as `benchmarks.gallery` tells them."""

import re
import subprocess
import sys

from benchmarks.figures import Conditions, Figure
from benchmarks.processes import REPOSITORY

RATE = re.compile(
    r"^  (\S.*?) +(\d+)/s +(\d+) a CPU second +([\d.]+) x +median +([\d.]+) ms +99 % +([\d.]+) ms", re.MULTILINE
)
PLACE = re.compile(r"^  (\w+) page of ([\d,]+): median ([\d.]+) ms", re.MULTILINE)
LEAST = {"random pages": 1.0, "random pages, 304": 2.0}


def gallery(conditions: Conditions) -> list[Figure]:
    """Pages a second of the processor's time, against the yardstick beside it."""
    size = ("--images", "100000", "--characters", "1000") if conditions.quick else ()
    words = [sys.executable, "-m", "benchmarks.gallery", "--rounds", str(conditions.rounds), *size]
    with conditions.quiet():
        told = subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    conditions.said(told)
    rates, places = RATE.findall(told), {name: float(middle) for name, _, middle in PLACE.findall(told)}
    return [
        *(Figure(f"{name}: to the yardstick", "x", [float(ratio)], LEAST.get(name), "at least") for name, _, _, ratio, _, _ in rates),
        *(Figure(f"{name} page of a long gallery", "ms", [middle]) for name, middle in places.items()),
        Figure("last page of a long gallery to the first", "x", [places["last"] / places["first"]], 1.2),
    ]  # fmt: skip
