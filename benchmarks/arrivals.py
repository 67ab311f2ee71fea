"""Files that arrive: how many a second are accepted, and how soon a dropped one is an order at the GPU server.

Moments are the wall clock's: of the rename in this process, and of the request as the GPU server sees it.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import daemons
from benchmarks.daemons import Daemon
from benchmarks.figures import Conditions, Figure
from benchmarks.main_job import Site, Task, site

SPEC = "character: {{id: c{n}, name: Mary {n}}}\nprompt: a portrait in a beautiful garden, soft light\nwidth: 832\nheight: 1216\n"
SINGLE = "id: single-{seed}\ncharacter: Single\nprompt: in a garden\nseed: {seed}\n"
BATCH = "character: Batch\nprompt: in a garden\nquantity: 25\nseed: 0\n"
FIRST_SEED = 1_000_000  # of single images; those of batches are smaller
NEVER = Task(images=10, slots=1, in_flight=1, seconds=86_400, kilobytes=20)
AT_ONCE = Task(images=10, slots=50, in_flight=10, seconds=0.02, kilobytes=20)
BUSY = Task(images=25, slots=1000, in_flight=1000, seconds=20, kilobytes=200)  # 25 new ones a second: 500 running


def intake(conditions: Conditions) -> list[Figure]:
    """One-image files that lie there at the start, and as many that come all at once later."""
    count = 2_000 if conditions.quick else 10_000
    found = []
    for _ in range(conditions.rounds):
        with conditions.quiet(), tempfile.TemporaryDirectory(prefix="pipeline-bench-") as name, site(NEVER) as there:
            found.append(taken(Path(name), there, count))
        conditions.said(f"  {found[-1]}")
    waiting, listening, cpu = zip(*found, strict=True)
    return [
        Figure(f"{count:,} one-image files that wait at the start", "files/s", waiting, 2000, "at least"),
        Figure(f"{count:,} one-image files that come at once later", "files/s", listening, 2000, "at least"),
        Figure("CPU a file", "ms", cpu),
    ]


def taken(folder: Path, there: Site, count: int) -> tuple[float, float, float]:
    """Return files a second of those that wait and of those that come, and the CPU ms that one of the latter costs."""
    jobs = daemons.prepare(folder, NEVER, there)
    _drop(_written(folder, count, "waiting"), jobs)
    with daemons.running(folder) as daemon:
        daemon.wait_until((folder / ".pipeline" / "index.db").exists)
        daemon.wait_until(lambda: _tables(daemon) and daemon.accepted > 0, look=0.002)
        first, began = daemon.accepted, time.monotonic()
        daemon.wait_until(lambda: daemon.accepted >= count)
        waiting = (count - first) / (time.monotonic() - began)
        daemon.wait_until_up()
        speed, cpu = came(daemon, count)
    return waiting, speed, cpu


def came(daemon: Daemon, count: int) -> tuple[float, float]:
    """Rename `count` files into a running daemon's folder; return files a second, and CPU ms a file."""
    files, before = _written(daemon.folder, count, f"come-{time.time_ns():x}-"), daemon.accepted
    cpu, began = daemon.cpu(), time.monotonic()
    _drop(files, daemon.jobs)
    daemon.wait_until(lambda: daemon.accepted >= before + count)
    return count / (time.monotonic() - began), 1000 * (daemon.cpu() - cpu) / count


def _tables(daemon: Daemon) -> int:
    return daemon.ask("SELECT count(*) FROM sqlite_master WHERE name = 'jobs'")


def _written(folder: Path, count: int, prefix: str) -> list[Path]:
    files = [folder / f"{prefix}{n:05}.yaml" for n in range(count)]
    for n, file in enumerate(files):
        file.write_text(SPEC.format(n=n % 500))
    return files


def _drop(files: Sequence[Path], jobs: Path) -> None:
    for file in files:
        file.rename(jobs / file.name)


def idle(conditions: Conditions) -> list[Figure]:
    """Single files at random moments, each when the one before has its result."""
    found = []
    for _ in range(conditions.rounds):
        with conditions.quiet(), _daemon(AT_ONCE) as (daemon, there):
            found.append(_one_by_one(daemon, there, 50 if conditions.quick else 200))
        conditions.said(f"  {_percentiles(found[-1])}")
    middle, most = zip(*map(_percentiles, found), strict=True)
    return [
        Figure("idle: rename to order, median", "ms", middle, 20),
        Figure("idle: rename to order, 99th percentile", "ms", most, 60),
    ]


def busy(conditions: Conditions) -> list[Figure]:
    """The same while 500 images run, of which 25 end and 25 begin in each second."""
    found = []
    for _ in range(1 if conditions.quick else conditions.rounds):
        with conditions.quiet(), _daemon(BUSY) as (daemon, there):
            found.append(_among_batches(daemon, there))
        conditions.said(f"  {_percentiles(found[-1])}")
    middle, most = zip(*map(_percentiles, found), strict=True)
    return [
        Figure("500 running: rename to order, median", "ms", middle),
        Figure("500 running: rename to order, 99th percentile", "ms", most, 200),
    ]


@contextmanager
def _daemon(task: Task) -> Iterator[tuple[Daemon, Site]]:
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as name, site(task) as there:
        daemons.prepare(Path(name), task, there)
        with daemons.running(Path(name)) as daemon:
            daemon.wait_until((daemon.folder / ".pipeline" / "index.db").exists)
            daemon.wait_until_up()
            yield daemon, there


def _among_batches(daemon: Daemon, there: Site) -> list[float]:
    warm = int(BUSY.seconds) + 3
    dropped, began = {}, time.monotonic()
    for second in range(warm + 15):
        daemon.drop(f"batch-{second}", BATCH)
        while second >= warm and time.monotonic() < began + second + 0.8:
            time.sleep(random.uniform(0.05, 0.15))
            seed = FIRST_SEED + len(dropped)
            dropped[seed] = daemon.drop(f"single-{seed}", SINGLE.format(seed=seed))
        time.sleep(max(0.0, began + second + 1 - time.monotonic()))
    return _since(dropped, there)


def _one_by_one(daemon: Daemon, there: Site, count: int) -> list[float]:
    dropped = {}
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        dropped[seed] = daemon.drop(f"single-{seed}", SINGLE.format(seed=seed))
        daemon.wait_until((daemon.jobs / "done" / f"single-{seed}.result.json").exists, look=0.005)
        time.sleep(random.uniform(0.005, 0.06))
    return _since(dropped, there)


def _since(dropped: dict[int, float], there: Site) -> list[float]:
    """How many ms after its rename each was ordered."""
    until = time.monotonic() + 120
    while not dropped.keys() <= (ordered := dict(there.gpu.stats("/orders"))).keys():
        if time.monotonic() > until:
            raise SystemExit(f"{len(dropped.keys() - ordered.keys())} dropped images were never ordered")
        time.sleep(1)
    return [1000 * (ordered[seed] - moment) for seed, moment in dropped.items()]


def _percentiles(delays: list[float]) -> tuple[float, float]:
    return statistics.median(delays), sorted(delays)[int(0.99 * (len(delays) - 1))]
