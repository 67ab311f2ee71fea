"""A figure: what was measured, its value in each round, and what it is to be; and the table of them all."""

import fcntl
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """`bound` holds for the median; `side` says on which side of it that has to be."""

    what: str
    unit: str
    values: Sequence[float]
    bound: float | None = None
    side: str = "at most"

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        if self.bound is None:
            return None
        return self.median >= self.bound if self.side == "at least" else self.median <= self.bound

    def told(self) -> dict:
        return {**asdict(self), "values": list(self.values), "median": self.median, "met": self.met}


@dataclass(frozen=True)
class Conditions:
    """How it is measured: how often, how long, and what for others on this machine wait meanwhile."""

    rounds: int = 3
    quick: bool = False
    huge: bool = False  # an index of ten million images, too
    many: int = 50_100  # images worked off while memory is watched
    lock: Path | None = None
    said: Callable[[str], None] = field(default=lambda line: print(line, file=sys.stderr, flush=True))

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Hold the lock, where one was named, for as long as one measurement takes."""
        if self.lock is None:
            yield
            return
        with self.lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


HEADING = ("", "median", "spread", "target", "")


def table(parts: dict[str, list[dict]]) -> str:
    """The figures of all parts, as JSON tells them, in one Markdown table."""
    rows = [HEADING]
    for part, figures in parts.items():
        rows.append((f"**{part}**", "", "", "", ""))
        rows += [_row(figure) for figure in figures]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEADING))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _row(figure: dict) -> tuple[str, ...]:
    unit, values, bound = figure["unit"], figure["values"], figure["bound"]
    spread = f"{_short(min(values))} to {_short(max(values))}" if len(values) > 1 else ""
    target = "" if bound is None else f"{'≥' if figure['side'] == 'at least' else '≤'} {_short(bound)}"
    verdict = {None: "", True: "met", False: "missed"}[figure["met"]]
    return figure["what"], f"{_short(figure['median'])} {unit}".strip(), spread, target, verdict


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
