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


def gallery(conditions: Conditions) -> list[Figure]:
    """Pages a second of the processor's time, against the yardstick beside it."""
    size = ("--images", "100000", "--characters", "1000") if conditions.quick else ()
    words = [sys.executable, "-m", "benchmarks.gallery", "--rounds", str(conditions.rounds), *size]
    with conditions.quiet():
        told = subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    conditions.said(told)
    return [
        *(Figure(f"{name}: to the yardstick", "x", [float(ratio)]) for name, _, _, ratio, _, _ in RATE.findall(told)),
        *(Figure(f"{name}: 99th percentile", "ms", [float(most)]) for name, *_, most in RATE.findall(told)),
        *(
            Figure(f"{name} page of {number}: median", "ms", [float(middle)])
            for name, number, middle in PLACE.findall(told)
        ),
    ]
