"""What galleries cost and are worth beside a daemon that generates at full pace: how soon they answer, how fast it goes on.

    python -m benchmarks.beside [--seconds 20] [--rate 50] [--idle 1000] [--sketch]

Ten characters' images are being made (the servers of `benchmarks.servers`, 200 kB each, 50 at once; with `--sketch` drawn
in the daemon's own process, into the local store), while a client asks for galleries of these characters, `--rate` times
a second, whether the answer before has come or not: what is told is the time since an answer was due to be asked for.
The pace is told alone, beside that client, and with so many idle connections open besides.
"""

import argparse
import http.client
import queue
import random
import resource
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import daemons, processes
from benchmarks.daemons import Daemon
from benchmarks.main_job import Task, settings, site
from pipeline.gallery.tokens import Tokens

CHARACTERS = 10
CONNECTIONS = 4
WARM = 100  # images that have ended before anything is measured
DONE = "SELECT coalesce(sum(n), 0) FROM tallies WHERE status = 'done'"
SKETCH = "store: {type: local}\nbackends: {pod: {type: sketch}}\ngallery: {enabled: false}\n"


@dataclass(frozen=True)
class Pace:
    """Images a second, and each answer's milliseconds."""

    images: float
    answers: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.answers)

    @property
    def most(self) -> float:
        """The 99th percentile."""
        return statistics.quantiles(self.answers, n=100)[98]


@dataclass(frozen=True)
class Beside:
    """`alone`: nobody asks; `asked`: galleries are asked for; `crowded`: the same among idle connections."""

    alone: Pace
    asked: Pace
    crowded: Pace


def beside(*, seconds: float = 20, rate: float = 50, idle: int = 1_000, sketch: bool = False) -> Beside:
    """Measure all three one after the other, in one run of the daemon."""
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as name, _working(Path(name), sketch) as (daemon, port):
        token = Tokens(daemon.folder / ".pipeline" / "tokens").create("me")
        alone = _paced(daemon, lambda: time.sleep(seconds) or [])
        asked = _paced(daemon, lambda: _asked(port, token, seconds, rate))
        with _open(port, idle):
            crowded = _paced(daemon, lambda: _asked(port, token, seconds, rate))
        return Beside(alone, asked, crowded)


@contextmanager
def _working(folder: Path, sketch: bool) -> Iterator[tuple[Daemon, int]]:
    """A daemon with more to do than there is time for, and the port of its gallery."""
    port, task = processes.free_port(), Task()
    with ExitStack() as stack:
        text = SKETCH if sketch else settings(task, stack.enter_context(site(task)))
        (folder / "jobs").mkdir()
        (folder / "pipeline.yaml").write_text(text.replace("{enabled: false}", f"{{port: {port}}}"))
        size = "" if sketch else "width: 216\nheight: 325\n"
        for n in range(CHARACTERS):
            for part in range(4):  # noise of one seed is one picture: a job has each once
                words = f"id: job-{n}-{part}\ncharacter: character-{n}\nprompt: in a garden\nquantity: 300\nseed: 0\n"
                (folder / "jobs" / f"job-{n}-{part}.yaml").write_text(words + size)
        daemon = stack.enter_context(daemons.running(folder))
        daemon.wait_until((folder / ".pipeline" / "index.db").exists)
        processes.wait_for_port(port)
        daemon.wait_until(lambda: daemon.ask("SELECT count(*) FROM sqlite_master WHERE name = 'tallies'") > 0)
        daemon.wait_until(lambda: daemon.ask(DONE) > WARM)
        yield daemon, port


def _paced(daemon: Daemon, during) -> Pace:
    before, began = daemon.ask(DONE), time.monotonic()
    answers = during()
    return Pace((daemon.ask(DONE) - before) / (time.monotonic() - began), answers)


def _asked(port: int, token: str, seconds: float, rate: float) -> list[float]:
    """Ask at the given rate over a few connections; each answer's time counts from when it was due."""
    due: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    took: list[float] = []

    def ask() -> None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while (moment := due.get()) is not None:
            path = f"/api/image-generation/character/character-{random.randrange(CHARACTERS)}?limit=50"
            line.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = line.getresponse()
            answer.read()
            took.append(1000 * (time.monotonic() - moment))
            assert answer.status == 200
        line.close()

    askers = [threading.Thread(target=ask) for _ in range(CONNECTIONS)]
    for asker in askers:
        asker.start()
    began = time.monotonic()
    for n in range(int(seconds * rate)):
        moment = began + n / rate
        time.sleep(max(0.0, moment - time.monotonic()))
        due.put(moment)
    for _ in askers:
        due.put(None)
    for asker in askers:
        asker.join()
    return took


@contextmanager
def _open(port: int, idle: int) -> Iterator[None]:
    """Keep connections open on which nothing is asked; those that the server gives up are opened anew."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, idle + 512), most))
    lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(idle)]
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(1.0):
            for n, line in enumerate(lines):
                line.setblocking(False)
                try:
                    gone = line.recv(1) == b""
                except BlockingIOError:
                    gone = False
                except ConnectionError:
                    gone = True
                if gone:
                    line.close()
                    lines[n] = socket.create_connection(("127.0.0.1", port))

    renewer = threading.Thread(target=renew)
    renewer.start()
    try:
        yield
    finally:
        ended.set()
        renewer.join()
        for line in lines:
            line.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of each of the three")
    parser.add_argument("--rate", type=float, default=50, help="galleries asked for in a second")
    parser.add_argument("--idle", type=int, default=1_000, help="connections")
    parser.add_argument("--sketch", action="store_true", help="draw in the daemon's process instead")
    told = parser.parse_args()
    processes.end_orderly()
    found = beside(**vars(told))
    print(f"nobody asks:         {found.alone.images:6.1f} images/s")
    for name, pace in (("galleries asked for", found.asked), (f"and {told.idle:,} idle lines", found.crowded)):
        print(
            f"{name}: {pace.images:6.1f} images/s   answers: median {pace.median:.1f} ms, 99 % {pace.most:.1f} ms, "
            f"longest {max(pace.answers):.1f} ms, {len(pace.answers)} of them"
        )


if __name__ == "__main__":
    main()
