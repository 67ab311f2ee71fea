"""The main job, from order to record: `pipeline run --once` against a GPU server and a Cloudinary, each its own process.

    python -m benchmarks.main_job [--images 300] [--slots 50] [--in-flight 60] [--seconds 1] [--kilobytes 200]

The makespan counts from the first order that the GPU server hears to the moment when everything is recorded: the
pipeline's result file, written after each image's row is on the disk. The ideal is `seconds` for each full round of
the slots. CPU and memory are those of the whole process, Python's start and the imports included.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import pictures, processes
from benchmarks.processes import Used
from benchmarks.servers import cloud, gpu

SETTINGS = """\
gallery: {{enabled: false}}
store: {{type: cloudinary, cloud_name: {cloud}, api_key: "{key}", api_secret: {secret}, upload_prefix: "{cloud_url}"}}
backends:
  pod: {{type: runpod, url: "{gpu_url}/v2/e", api_key: {gpu_key}, concurrency: {in_flight}, stagger: 0}}
"""
DIFFERENT = 300  # pictures


@dataclass(frozen=True)
class Task:
    images: int = 300
    slots: int = 50
    in_flight: int = 60
    seconds: float = 1.0
    kilobytes: int = 200

    @property
    def ideal(self) -> float:
        return self.seconds * math.ceil(self.images / self.slots)

    def __str__(self):
        return f"{self.images} images of {self.seconds:g} s and {self.kilobytes:,} kB, {self.slots} slots, {self.in_flight} in flight"


@dataclass(frozen=True)
class Site:
    """The two servers while they run."""

    gpu: processes.Server
    cloud: processes.Server


@dataclass(frozen=True)
class Figures:
    makespan: float  # seconds
    ratio: float  # to the ideal
    cpu_ms: float  # an image
    memory_mb: float
    looks_a_second: float
    most_looks_in_a_second: int
    looks_refused: int
    orders: int


@contextmanager
def site(task: Task) -> Iterator[Site]:
    folder = pictures.folder_of(min(task.images, DIFFERENT), task.kilobytes)
    with (
        processes.server("gpu", "--slots", task.slots, "--seconds", task.seconds, "--pictures", folder) as gpu_server,
        processes.server("cloud") as cloud_server,
    ):
        yield Site(gpu_server, cloud_server)


def settings(task: Task, there: Site) -> str:
    return SETTINGS.format(
        cloud=cloud.CLOUD, key=cloud.KEY, secret=cloud.SECRET, cloud_url=there.cloud.url,
        gpu_url=there.gpu.url, gpu_key=gpu.KEY, in_flight=task.in_flight,
    )  # fmt: skip


def run_pipeline(task: Task, there: Site, folder: Path, before: list[str]) -> tuple[Used, float]:
    """Return what the process used, and the moment when the last job's result was written."""
    jobs = folder / "jobs"
    jobs.mkdir()
    (folder / "pipeline.yaml").write_text(settings(task, there))
    for first in range(0, task.images, DIFFERENT):
        quantity = min(DIFFERENT, task.images - first)
        (jobs / f"batch-{first:06}.yaml").write_text(
            f"id: batch-{first:06}\ncharacter: Mary\nprompt: in a garden\nquantity: {quantity}\nseed: 0\n"
        )
    used = processes.ended(processes.start([*before, sys.executable, "-m", "pipeline", "run", "--once"], folder))
    return used, max(file.stat().st_mtime for file in (jobs / "done").glob("*.result.json"))


def measured(task: Task, before: list[str]) -> Figures:
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as folder, site(task) as there:
        used, recorded = run_pipeline(task, there, Path(folder), before)
        return figures(task, there, used, recorded)


def figures(task: Task, there: Site, used: Used, recorded: float) -> Figures:
    """Put together what was seen from outside; everything must have been made, once."""
    asked, kept = there.gpu.stats(), there.cloud.stats()
    if (used.code, asked["runs"], kept["uploads"], kept["refused"]) != (0, task.images, task.images, 0):
        raise SystemExit(f"not the work that was asked for: {used}, {asked}, {kept}")
    makespan = recorded - asked["first_run"]
    return Figures(
        makespan=makespan,
        ratio=makespan / task.ideal,
        cpu_ms=1000 * used.cpu / task.images,
        memory_mb=used.memory,
        looks_a_second=asked["looks"] / makespan,
        most_looks_in_a_second=asked["most_looks_in_a_second"],
        looks_refused=asked["looks_refused"],
        orders=asked["runs"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Task()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--before", default="", help="a command to run it under, such as 'py-spy record -o FILE --'")
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    processes.end_orderly()
    task = Task(**{name: getattr(said, name) for name in asdict(Task())})
    print(f"{task}; ideal {task.ideal:g} s", file=sys.stderr)
    for _ in range(said.rounds):
        found = measured(task, said.before.split())
        if said.json:
            print(json.dumps(asdict(found)), flush=True)
        else:
            print(
                f"makespan {found.makespan:.2f} s = {found.ratio:.3f} of the ideal   CPU {found.cpu_ms:.2f} ms an image   "
                f"memory {found.memory_mb:.0f} MB   looks {found.looks_a_second:.0f}/s, at most {found.most_looks_in_a_second} "
                f"in a second, {found.looks_refused} refused",
                flush=True,
            )


if __name__ == "__main__":
    main()
