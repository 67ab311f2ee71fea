"""How fast dropped files become accepted jobs, and how long a single one waits.

    .venv/bin/python benchmarks/intake.py [--files 10000] [--singles 200] [--folder /tmp/somewhere]

First N one-image jobs are renamed into the folder at once, before the daemon's intake starts and again while it is
listening; then single files are dropped at random moments into the idle intake. Real ledger, real watchdog, durable.
"""

import argparse
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import structlog
import trio

from pipeline.inbox import Inbox
from pipeline.ledger import open_ledger
from pipeline.plan import Rules

SPEC = "character: {{id: c{n}, name: Mary {n}}}\nprompt: a portrait in a beautiful garden, soft light\nquantity: 1\nwidth: 832\nheight: 1216\n"


def prepare(folder: Path, count: int, *, prefix: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for n in range(count):
        file = folder / f"{prefix}{n:05}.yaml"
        file.write_text(SPEC.format(n=n % 500))
        files.append(file)
    return files


def drop(files: list[Path], jobs: Path) -> None:
    for file in files:
        file.rename(jobs / file.name)


class Landed:
    """Counts accepted jobs and wakes whoever waits for a number of them."""

    def __init__(self) -> None:
        self.count = 0
        self.changed = trio.Event()

    def __call__(self, ids) -> None:
        self.count += len(ids)
        self.changed.set()

    async def reach(self, count: int) -> None:
        while self.count < count:
            await self.changed.wait()
            self.changed = trio.Event()


async def measure(folder: Path, files: int, singles: int) -> dict[str, float]:
    jobs, ready = folder / "jobs", folder / "ready"
    jobs.mkdir(parents=True)
    landed = Landed()
    found: dict[str, float] = {}
    drop(prepare(ready, files, prefix="waiting"), jobs)
    listening = prepare(ready, files, prefix="listening")
    single = prepare(ready, singles, prefix="single")
    async with open_ledger(folder / "index.db") as ledger, trio.open_nursery() as nursery:
        inbox = Inbox(jobs, rules=Rules(), ledger=ledger, on_accepted=landed)
        before, cpu = time.perf_counter(), time.process_time()
        await nursery.start(inbox.run)
        await landed.reach(files)
        found["waiting: files/s"] = files / (time.perf_counter() - before)
        found["waiting: CPU ms/file"] = 1000 * (time.process_time() - cpu) / files
        before = time.perf_counter()
        nursery.start_soon(trio.to_thread.run_sync, drop, listening, jobs)
        await landed.reach(2 * files)
        found["listening: files/s"] = files / (time.perf_counter() - before)
        await trio.sleep(1)
        delays = []
        for n, file in enumerate(single, start=1):
            await trio.sleep(random.uniform(0.005, 0.06))
            before = time.perf_counter()
            file.rename(jobs / file.name)
            await landed.reach(2 * files + n)
            delays.append(1000 * (time.perf_counter() - before))
        delays.sort()
        found["single: median ms"] = statistics.median(delays)
        found["single: 99th percentile ms"] = delays[int(0.99 * (len(delays) - 1))]
        found["single: slowest ms"] = delays[-1]
        assert inbox.watching, inbox.reason
        assert not list(jobs.glob("*.yaml"))
        nursery.cancel_scope.cancel()
    found["peak RSS MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--files", type=int, default=10_000)
    arguments.add_argument("--singles", type=int, default=200)
    arguments.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    arguments.add_argument("--json", action="store_true")
    chosen = arguments.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        found = trio.run(measure, Path(folder), chosen.files, chosen.singles)
    if chosen.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:>30}  {value:,.1f}")


if __name__ == "__main__":
    main()
