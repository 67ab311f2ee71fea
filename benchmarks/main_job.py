"""The main job, from order to record: `pipeline run --once`, and what a user would pick instead, against the same servers.

    python -m benchmarks.main_job [--images 300] [--slots 50] [--in-flight 60] [--seconds 1] [--kilobytes 200]
        [--contenders pipeline,script,celery,dramatiq,huey] [--rounds 3]

The makespan counts from the first order that the GPU server hears to the moment when everything is recorded: the
pipeline's result file, written after each image's row is on the disk; the others' last line. The ideal is `seconds`
for each full round of the slots. CPU and memory are those of the whole process, Python's start and the imports
included; Redis and the process that hands the work to the queues are left out.
"""

import argparse
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import pictures, processes
from benchmarks.contenders import running
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
    servers_cpu_ms: float  # an image, of both servers since they answer

    def __str__(self):
        return (
            f"{self.makespan:6.2f} s = {self.ratio:.3f} of the ideal   CPU {self.cpu_ms:5.2f} ms an image   {self.memory_mb:4.0f} MB   "
            f"looks {self.looks_a_second:.0f}/s, at most {self.most_looks_in_a_second} in a second, {self.looks_refused} refused"
        )


def pictures_of(task: Task) -> Path:
    """The folder of the GPU server's results."""
    return pictures.folder_of(min(task.images, DIFFERENT), task.kilobytes)


@contextmanager
def site(task: Task) -> Iterator[Site]:
    folder = pictures_of(task)
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


def run_pipeline(task: Task, there: Site, folder: Path, before: Sequence[str]) -> tuple[Used, float]:
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


def measured(
    task: Task, contender: str = "pipeline", *, before: Sequence[str] = (), state: Path | None = None
) -> Figures:
    """One run in a new folder, against new servers.

    For the pipeline, `before` are the words of a program to run it under, `state` is a state folder to begin with.
    """
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as name, site(task) as there:
        folder = Path(name)
        if contender == "pipeline":
            if state is not None:
                shutil.copytree(state, folder / ".pipeline")
            used, recorded = run_pipeline(task, there, folder, before)
        else:
            used, recorded = running.run(
                contender, task.images, in_flight=task.in_flight, gpu_url=there.gpu.url, cloud_url=there.cloud.url,
                folder=folder,
            )  # fmt: skip
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
        servers_cpu_ms=1000 * (asked["cpu"] + kept["cpu"]) / task.images,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Task()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--contenders", default="pipeline", help=f"of pipeline, {', '.join(running.NAMES)}; or: all")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--before", default="", help="a command to run it under, such as 'py-spy record -o FILE --'")
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    processes.end_orderly()
    task = Task(**{name: getattr(said, name) for name in asdict(Task())})
    print(f"{task}; ideal {task.ideal:g} s", file=sys.stderr)
    names = ["pipeline", *running.NAMES] if said.contenders == "all" else said.contenders.split(",")
    for _ in range(said.rounds):
        for name in names:
            found = measured(task, name, before=said.before.split())
            print(json.dumps({"contender": name, **asdict(found)}) if said.json else f"{name:9} {found}", flush=True)


if __name__ == "__main__":
    main()
