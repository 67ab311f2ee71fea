"""What a user would pick instead, doing the same work: run from outside, measured like the pipeline."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import processes
from benchmarks.contenders import environment
from benchmarks.processes import Used
from benchmarks.servers import cloud, gpu

WORKERS = {
    "celery": "celery -A benchmarks.contenders.queue_celery worker --pool threads --concurrency {threads} "
    "--without-gossip --without-mingle --without-heartbeat --loglevel WARNING",
    "dramatiq": "dramatiq benchmarks.contenders.queue_dramatiq --processes 1 --threads {threads}",
    "huey": "huey.bin.huey_consumer benchmarks.contenders.queue_huey.huey --worker-type thread --workers {threads} --quiet",
}
NAMES = ("script", *WORKERS)
LONGEST = 300.0  # seconds


def run(name: str, images: int, *, in_flight: int, gpu_url: str, cloud_url: str, folder: Path) -> tuple[Used, float]:
    """Return what the one process used that does the work, and the moment of its last record.

    Redis and the process that orders are not counted.
    """
    python, record = environment.python(), folder / "record"
    told = {
        "BENCH_GPU": f"{gpu_url}/v2/e",
        "BENCH_GPU_KEY": gpu.KEY,
        "BENCH_CLOUD_URL": cloud_url,
        "BENCH_CLOUD": f"{cloud.CLOUD} {cloud.KEY} {cloud.SECRET}",
        "BENCH_RECORD": str(record),
        "BENCH_IN_FLIGHT": str(in_flight),
    }
    if name == "script":
        used = processes.ended(processes.start([python, "-m", "benchmarks.contenders.script", str(images)], **told))
        return used, record.stat().st_mtime
    with redis(folder) as address:
        told["BENCH_REDIS"] = address
        processes.ended(processes.start([python, "-m", "benchmarks.contenders.ordering", name, str(images)], **told))
        worker = processes.start([python, "-m", *WORKERS[name].format(threads=in_flight).split()], **told)
        _wait_for(record, images, worker)
        return processes.ended(worker, signal.SIGTERM), record.stat().st_mtime


def _wait_for(record: Path, lines: int, worker: subprocess.Popen) -> None:
    until = time.monotonic() + LONGEST
    while not record.exists() or record.read_bytes().count(b"\n") < lines:
        if worker.poll() is not None or time.monotonic() > until:
            worker.kill()
            raise SystemExit(f"{worker.args[2:4]} did not do its work; BENCH_LOG=FILE keeps what it says")
        time.sleep(0.05)


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis of its own on loopback, which keeps nothing on disk."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("the contenders need redis-server: apt-get install -y redis-server")
    port = processes.free_port()
    words = [
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    process = processes.start(words)
    try:
        processes.wait_for_port(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()
