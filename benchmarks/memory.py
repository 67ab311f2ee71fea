"""Memory of the running daemon, as the operating system tells it."""

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import daemons
from benchmarks.daemons import Daemon
from benchmarks.figures import Conditions, Figure
from benchmarks.main_job import DIFFERENT, Task, site

MANY = Task(images=DIFFERENT, slots=60, in_flight=60, seconds=0.3, kilobytes=200)
LARGE = Task(images=8, slots=64, in_flight=64, seconds=3, kilobytes=8000)
LARGE_JOBS = 16  # of 8 images: two rounds of 64 at once
WAITING_JOBS = 10  # of 10,000 images
JOB = "id: {id}\ncharacter: Mary\nprompt: in a garden\nquantity: {quantity}\nseed: 0\npriority: {priority}\n"


def large_results(conditions: Conditions) -> list[Figure]:
    """64 results of 8 MB at once while 100,000 images wait."""
    jobs = 8 if conditions.quick else LARGE_JOBS
    with conditions.quiet(), tempfile.TemporaryDirectory(prefix="pipeline-bench-") as name, site(LARGE) as there:
        folder = Path(name)
        folder_jobs = daemons.prepare(folder, LARGE, there)
        for n in range(jobs):
            (folder_jobs / f"large-{n}.yaml").write_text(JOB.format(id=f"large-{n}", quantity=8, priority=10))
        for n in range(WAITING_JOBS):
            (folder_jobs / f"waiting-{n}.yaml").write_text(JOB.format(id=f"waiting-{n}", quantity=10_000, priority=0))
        with daemons.running(folder) as daemon:
            results = [folder_jobs / "done" / f"large-{n}.result.json" for n in range(jobs)]
            daemon.wait_until(lambda: all(result.exists() for result in results), look=0.1)
    return [Figure("64 results of 8 MB at once, 100,000 images waiting: peak", "MB", [daemon.used.memory], 350)]


def many_images(conditions: Conditions) -> list[Figure]:
    """50,000 images of 200 KB, one after the other, looked at each second. Takes a quarter of an hour."""
    images = 3_000 if conditions.quick else conditions.many
    with conditions.quiet(), tempfile.TemporaryDirectory(prefix="pipeline-bench-") as name, site(MANY) as there:
        folder = Path(name)
        daemons.prepare(folder, MANY, there)
        with daemons.running(folder) as daemon:
            samples = _worked_off(daemon, images // DIFFERENT)
        made = there.cloud.stats()["uploads"]
    assert made == images, f"{made} of {images} images were uploaded"
    tenth = max(len(samples) // 10, 1)
    growth = statistics.median(samples[-tenth:]) / statistics.median(samples[tenth : 2 * tenth])
    return [
        Figure(f"{images:,} images of 200 kB: peak", "MB", [daemon.used.memory], 200),
        Figure("the last tenth's median to the second tenth's", "x", [growth], 1.1),
        Figure("memory in each second", "MB", samples),
        Figure("CPU an image", "ms", [1000 * daemon.used.cpu / images]),
    ]


def _worked_off(daemon: Daemon, jobs: int) -> list[float]:
    """Keep three jobs in the folder or under way until all are done; return the memory in each second."""
    results = [daemon.jobs / "done" / f"batch-{n}.result.json" for n in range(jobs)]
    samples, dropped, done = [], 0, 0
    while done < jobs:
        while dropped < min(done + 3, jobs):
            daemon.drop(f"batch-{dropped}", JOB.format(id=f"batch-{dropped}", quantity=DIFFERENT, priority=0))
            dropped += 1
        time.sleep(1)
        samples.append(daemon.memory())
        while done < jobs and results[done].exists():
            done += 1
    return samples
