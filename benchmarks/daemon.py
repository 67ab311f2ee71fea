"""The running daemon from outside: how soon a dropped file's first image starts, and how soon a start with a large index works.

    python -m benchmarks.daemon drops [--drops 200]
    python -m benchmarks.daemon start [--images 1000000] [--unfinished 1000] [--folder /tmp/somewhere]

Both talk to `pipeline run` in a process of its own, by files and by its index alone. Moments are wall-clock: the rename's
by this script, the start's as the index recorded it.
"""

import argparse
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.seed_index import seed

CONFIG = """\
gallery: {enabled: false}
store: {type: local}
backends: {pod: {type: sketch, concurrency: 4}}
"""


def started(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "pipeline", "run"], cwd=folder, stderr=subprocess.DEVNULL)


def ask(folder: Path, sql: str, *values: object) -> list[tuple]:
    try:
        with sqlite3.connect(f"file:{folder}/.pipeline/index.db?mode=ro", uri=True) as index:
            return index.execute(sql, values).fetchall()
    except sqlite3.OperationalError:
        return []


def wait_for(folder: Path, sql: str, *values: object, seconds: float = 60) -> list[tuple]:
    until = time.monotonic() + seconds
    while not (rows := ask(folder, sql, *values)):
        if time.monotonic() > until:
            raise SystemExit(f"nothing came of {sql}")
        time.sleep(0.01)
    return rows


def drops(folder: Path, count: int) -> None:
    (folder / "jobs").mkdir()
    (folder / "pipeline.yaml").write_text(CONFIG)
    daemon = started(folder)
    try:
        waits = []
        for n in range(count + 5):
            draft = folder / f"draft{n}"
            draft.write_text(f"id: job{n}\ncharacter: Mary\nprompt: in a garden\nwidth: 64\nheight: 64\n")
            at = time.time_ns() // 1_000_000
            draft.rename(folder / "jobs" / f"job{n}.yaml")
            ((begun,),) = wait_for(
                folder, "SELECT started_at FROM jobs WHERE id = ? AND started_at IS NOT NULL", f"job{n}"
            )
            waits.append(begun - at)
            wait_for(folder, "SELECT 1 FROM jobs WHERE id = ? AND filed = 1", f"job{n}")
            time.sleep(random.uniform(0.01, 0.05))
    finally:
        daemon.terminate()
        daemon.wait()
    waits = sorted(waits[5:])  # the first ones pay for imports and for listening to begin
    print(f"rename to start, {count} drops, idle daemon: median {statistics.median(waits):.0f} ms, "
          f"99th percentile {waits[int(len(waits) * 0.99) - 1]} ms, longest {waits[-1]} ms")  # fmt: skip


def start(folder: Path, images: int, unfinished: int) -> None:
    (folder / "jobs").mkdir(exist_ok=True)
    (folder / "pipeline.yaml").write_text(CONFIG)
    index = folder / ".pipeline" / "index.db"
    if not index.exists():
        seed(folder / ".pipeline", images, 1_000, unfinished, images // 10)
    (before,) = ask(folder, "SELECT count(*) FROM events WHERE event = 'Submitting'")[0]
    began = time.monotonic()
    daemon = started(folder)
    try:
        while ask(folder, "SELECT count(*) FROM events WHERE event = 'Submitting'")[0][0] <= before:
            time.sleep(0.005)
        print(f"start with {images:,} images and {unfinished:,} unfinished: first new submission after "
              f"{time.monotonic() - began:.2f} s, Python's own start included")  # fmt: skip
    finally:
        daemon.terminate()
        daemon.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["drops", "start"])
    parser.add_argument("--drops", type=int, default=200)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--unfinished", type=int, default=1_000)
    parser.add_argument("--folder", type=Path)
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = said.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        if said.what == "drops":
            drops(folder, said.drops)
        else:
            start(folder, said.images, said.unfinished)


if __name__ == "__main__":
    main()
