"""The gallery's figures: `pipeline serve` against its yardstick, and galleries beside a daemon at full pace."""

from benchmarks import beside as beside_a_daemon
from benchmarks import gallery as served
from benchmarks.figures import Conditions, Figure

LEAST = {"pages never asked for": 1.0, "random pages": 1.0, "random pages, 304": 2.0}


def gallery(conditions: Conditions) -> list[Figure]:
    """Pages a second of the processor's time, against the yardstick beside it."""
    size = {"images": 100_000, "characters": 1_000} if conditions.quick else {}
    with conditions.quiet():
        found = served.measured(rounds=conditions.rounds, **size)
    conditions.said(f"  {found}")
    return [
        *(Figure(f"{name}: to the yardstick", "x", [rate.ratio], LEAST.get(name), "at least") for name, rate in found.rates.items()),
        *(Figure(f"{name} page of a long gallery", "ms", [middle]) for name, middle in found.places.items()),
        Figure("last page of a long gallery to the first", "x", [found.places["last"] / found.places["first"]], 1.2),
    ]  # fmt: skip


def beside(conditions: Conditions) -> list[Figure]:
    """How soon galleries answer while images are made at full pace, and whether those who look, or only stay, slow it."""
    found = []
    for _ in range(conditions.rounds):
        with conditions.quiet():
            found.append(beside_a_daemon.beside(seconds=5 if conditions.quick else 20))
        conditions.said(f"  {found[-1].alone.images:.1f} images/s alone, {found[-1].asked.most:.1f} ms")
    return [
        Figure("galleries asked for: 99th percentile", "ms", [each.asked.most for each in found], 50),
        Figure("and 1,000 idle connections: 99th percentile", "ms", [each.crowded.most for each in found]),
        Figure("pace while galleries are asked for", "x", [each.asked.images / each.alone.images for each in found]),
        Figure("and 1,000 idle connections", "x", [each.crowded.images / each.alone.images for each in found]),
    ]
