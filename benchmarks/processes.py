"""Processes under measurement: what they have used is what the operating system says of them when they have ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
BYTECODE = Path(tempfile.gettempdir(), "pipeline-bench", "bytecode")


@dataclass(frozen=True)
class Used:
    """By a process and those of its children that it waited for. `memory` (MB) is the largest one's."""

    code: int
    cpu: float
    memory: float
    ended: float


def start(words: Sequence[str | Path], folder: Path = REPOSITORY, **environment: str) -> subprocess.Popen:
    """Start one; what it says goes to the file that BENCH_LOG names, if it does."""
    settings = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONPYCACHEPREFIX": str(BYTECODE), **environment}
    settings.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody's programs are compiled anew at each start
    with Path(os.environ.get("BENCH_LOG", os.devnull)).open("ab") as log:
        return subprocess.Popen(list(words), cwd=folder, env=settings, stdout=log, stderr=log)


def ended(process: subprocess.Popen, stop: signal.Signals | None = None) -> Used:
    """Wait for its end, after `stop` where one is given."""
    if stop is not None:
        process.send_signal(stop)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Used(process.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, time.time())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port: int, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise SystemExit(f"nothing listens on port {port}")


def end_orderly() -> None:
    """Let a SIGTERM end the servers and contenders, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen
    url: str

    def stats(self, path: str = "/stats") -> dict:
        with urllib.request.urlopen(self.url + path) as answer:
            return json.loads(answer.read())


@contextmanager
def server(module: str, *words: str | Path) -> Iterator[Server]:
    """One of `benchmarks.servers`, on a free port, until the end of the block."""
    command = [sys.executable, "-m", f"benchmarks.servers.{module}", *map(str, words)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)
    try:
        yield Server(process, f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}")
    finally:
        process.terminate()
        process.wait()
