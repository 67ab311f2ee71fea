"""`pipeline run` as a daemon in a folder of its own, seen from outside: by its index, its files and its process."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import processes
from benchmarks.main_job import Site, Task, settings
from benchmarks.processes import Used

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Daemon:
    """`used` is there when it has ended."""

    def __init__(self, folder: Path, process: subprocess.Popen):
        self.folder = folder
        self.jobs = folder / "jobs"
        self.used: Used | None = None
        self._process = process
        self._index = None

    def ask(self, sql: str) -> int:
        """One number from the index."""
        if self._index is None:
            self._index = sqlite3.connect(f"file:{self.folder}/.pipeline/index.db?mode=ro", uri=True)
        return self._index.execute(sql).fetchone()[0] or 0

    @property
    def accepted(self) -> int:
        return self.ask("SELECT max(seq) FROM jobs")

    def cpu(self) -> float:
        """Seconds so far."""
        return cpu_of(self._process.pid)

    def memory(self) -> float:
        """MB at present."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * PAGE / (1 << 20)

    def drop(self, name: str, text: str) -> float:
        """Write a job file beside the folder, rename it into it; return the moment before the rename."""
        draft = self.folder / f"draft-{name}.yaml"
        draft.write_text(text)
        present = time.time()
        draft.rename(self.jobs / f"{name}.yaml")
        return present

    def wait_until(self, true: Callable[[], bool], *, seconds: float = 600, look: float = 0.01) -> None:
        until = time.monotonic() + seconds
        while not true():
            if time.monotonic() > until or self._process.poll() is not None:
                raise SystemExit(f"the daemon in {self.folder} did not do what was waited for")
            time.sleep(look)

    def wait_until_up(self) -> None:
        """Return when a first file has been taken, and listening has begun."""
        self.drop("first", "id: first\ncharacter: First\nprompt: x\nwidth: 64\nheight: 64\n")
        places = [self.jobs / name / "first.yaml" for name in ("active", "done", "duplicate")]
        self.wait_until(lambda: any(place.exists() for place in places))
        time.sleep(1)

    def end(self, stop: signal.Signals) -> None:
        if self._index is not None:
            self._index.close()
        self.used = processes.ended(self._process, stop)


def cpu_of(process: int) -> float:
    """Seconds that a process has used so far."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICK


def prepare(folder: Path, task: Task, there: Site) -> Path:
    """Return the jobs folder of a workspace that works with these servers."""
    (folder / "jobs").mkdir(exist_ok=True)
    (folder / "pipeline.yaml").write_text(settings(task, there))
    return folder / "jobs"


@contextmanager
def running(folder: Path) -> Iterator[Daemon]:
    """Start it in a folder that `prepare` made, and end it in an orderly way."""
    daemon = Daemon(folder, processes.start([sys.executable, "-m", "pipeline", "run"], folder))
    try:
        yield daemon
    finally:
        daemon.end(signal.SIGTERM)
