"""What the size of the index costs: each image, each file, each page, and a start, beside 1,000 and beside 1,000,000 images.

An index is filled once and kept in the temporary folder; each measurement works on a copy.
"""

import http.client
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import arrivals, daemons, processes
from benchmarks.figures import Conditions, Figure
from benchmarks.main_job import Task, measured, site
from benchmarks.seed_index import START, seed
from pipeline.catalogue import cursor
from pipeline.gallery.tokens import Tokens

SMALL, LARGE, HUGE = 1_000, 1_000_000, 10_000_000
PER_CHARACTER = 100
PAGE = 50
WAITING = Task(images=10, slots=50, in_flight=60, seconds=60, kilobytes=20)


def index_of(images: int, unfinished: int = 0) -> Path:
    """Return a state folder whose index has so many finished images, 100 of each character, and as many waiting."""
    folder = Path(tempfile.gettempdir(), "pipeline-bench", f"index-of-{images}-and-{unfinished}")
    if not folder.exists():
        draft = folder.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        seed(draft, images, images // PER_CHARACTER, unfinished, PER_CHARACTER)
        draft.rename(folder)
    return folder


@contextmanager
def workspace(images: int, unfinished: int = 0) -> Iterator[Path]:
    """A folder with a copy of such an index."""
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as name:
        shutil.copytree(index_of(images, unfinished), Path(name, ".pipeline"))
        yield Path(name)


def growth(conditions: Conditions) -> list[Figure]:
    """The same work beside a small and a large index, in turns; beside a huge one once."""
    sizes = [SMALL, LARGE, *([HUGE] if conditions.huge else [])]
    if conditions.quick:
        sizes = [SMALL, 100_000]
    for size in sizes:
        index_of(size)
    found = {size: [] for size in sizes}
    for n in range(conditions.rounds):
        for size in [size for size in sizes if n == 0 or size != HUGE]:
            with conditions.quiet():
                found[size].append((_image(size), _file(size), _page(size)))
            conditions.said(f"  {size:,} images: {found[size][-1]}")
    figures = []
    for n, what in enumerate(("an image", "an accepted file", "a page of the gallery")):
        columns = {size: [values[n] for values in found[size]] for size in sizes}
        figures += [Figure(f"CPU {what}, {size:,} indexed", "ms", columns[size]) for size in sizes]
        figures += [
            Figure(f"{what}: {size:,} to {SMALL:,} indexed", "x", [a / b for a, b in zip(columns[size], columns[SMALL], strict=False)], 1.2)
            for size in sizes[1:]
        ]  # fmt: skip
    return figures


def _image(size: int) -> float:
    return measured(Task(), state=index_of(size)).cpu_ms


def _file(size: int) -> float:
    with workspace(size) as folder, site(arrivals.NEVER) as there:
        daemons.prepare(folder, arrivals.NEVER, there)
        with daemons.running(folder) as daemon:
            daemon.wait_until_up()
            arrivals.came(daemon, 1_000)  # new characters are made only once
            _, cpu = arrivals.came(daemon, 5_000)
    return cpu


def _page(size: int) -> float:
    """CPU ms of `pipeline serve` for a page that nobody asked for before."""
    draw = random.Random(1)
    asked = [(draw.randrange(1, size // PER_CHARACTER), number) for number in range(PAGE + 1, PER_CHARACTER)] * 10
    asked = [(n % (size // PER_CHARACTER) + 1, number) for n, (_, number) in enumerate(asked)]
    with workspace(size) as folder, _serving(folder) as (process, port):
        token = Tokens(folder / ".pipeline" / "tokens").create("me", seconds=3600, name="benchmark")
        connection = http.client.HTTPConnection("127.0.0.1", port)
        before = daemons.cpu_of(process.pid)
        for character, number in asked:
            place = cursor.encode(START + number * 1_000, number)
            path = f"/api/image-generation/character/character-{character}?limit={PAGE}&cursor={place}"
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
        return 1000 * (daemons.cpu_of(process.pid) - before) / len(asked)


@contextmanager
def _serving(folder: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    port = processes.free_port()
    (folder / "pipeline.yaml").write_text("backends: {sketch: {type: sketch}}\n")
    process = processes.start([sys.executable, "-m", "pipeline", "serve", "--port", str(port)], folder)
    try:
        processes.wait_for_port(port)
        yield process, port
    finally:
        process.terminate()
        process.wait()


def start(conditions: Conditions) -> list[Figure]:
    """From the start of the process to its first new order, 10,000 one-image jobs waiting."""
    size, unfinished = (100_000, 1_000) if conditions.quick else (LARGE, 10_000)
    took = []
    for _ in range(conditions.rounds):
        with conditions.quiet(), workspace(size, unfinished) as folder, site(WAITING) as there:
            daemons.prepare(folder, WAITING, there)
            began = time.time()
            with daemons.running(folder) as daemon:
                daemon.wait_until(lambda: there.gpu.stats()["runs"] > 0)  # called in this round only
            took.append(there.gpu.stats()["first_run"] - began)
        conditions.said(f"  {took[-1]:.2f} s")
    return [Figure(f"{size:,} indexed, {unfinished:,} unfinished: start to first order", "s", took, 2)]
