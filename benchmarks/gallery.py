"""`pipeline serve` against the yardstick beside it, on one core, pages of 50 of random characters, asked by wrk.

    python -m benchmarks.gallery [--folder FOLDER] [--images 1000000] [--characters 10000] [--seconds 8]

The folder is filled once and used again. Both servers run on the first core, wrk on the last, in turns; the median of
the rounds is told. Needs wrk: apt-get install -y wrk
"""

import argparse
import http.client
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.seed_index import seed
from pipeline.catalogue import cursor
from pipeline.gallery.tokens import Tokens

FOLDER = Path(tempfile.gettempdir(), "pipeline-bench-gallery")
GALLERY = "/api/image-generation/character"
PAGE = 50
CONNECTIONS = 16
LUA = """
local paths, tags = {{}}, {{}}
for line in io.lines("{file}") do
  local path, tag = line:match("^(%S+) ?(%S*)$")
  paths[#paths + 1] = path
  tags[#tags + 1] = tag
end
math.randomseed({seed})
local turn = 0
request = function()
  local n = math.random(#paths)
  if {in_order} then turn = turn % #paths + 1; n = turn end
  local headers = {{["Authorization"] = "Bearer {token}"}}
  if tags[n] ~= "" then headers["If-None-Match"] = tags[n] end
  return wrk.format("GET", paths[n], headers)
end
done = function(summary, latency)
  io.write(string.format("FIGURES %d %f %d %f %f\\n", summary.requests, summary.requests / summary.duration * 1e6, summary.errors.status,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


class Bench:
    def __init__(self, folder, seconds):
        self.folder = folder
        self.seconds = seconds
        state = folder / ".pipeline"
        self.token = Tokens(state / "tokens").create("me", seconds=86_400, name="benchmark")
        (folder / "pipeline.yaml").write_text("backends: {sketch: {type: sketch}}\n")
        self.index = state / "index.db"

    @contextmanager
    def ours(self):
        with _started([sys.executable, "-m", "pipeline", "serve", "--port", "{port}"], self.folder) as (process, port):
            yield Server(process, port, self)

    @contextmanager
    def yardstick(self):
        command = [sys.executable, "-m", "uvicorn", "benchmarks.yardstick:app", "--port", "{port}", "--log-level", "warning", "--no-access-log"]  # fmt: skip
        with _started(command, Path.cwd(), INDEX=str(self.index)) as (process, port):
            yield Server(process, port, self)


class Server:
    """A server under measurement. What it answers in a second of its own CPU time is comparable on a busy machine too."""

    def __init__(self, process, port, bench):
        self.process = process
        self.port = port
        self.bench = bench

    def wrk(self, lines, *, in_order=False):
        """Return answers a second, answers a CPU second, and the median and the 99th percentile in ms."""
        with tempfile.TemporaryDirectory() as folder:
            asked, script = Path(folder, "asked"), Path(folder, "ask.lua")
            asked.write_text("".join(f"{line}\n" for line in lines))
            script.write_text(
                LUA.format(
                    file=asked, token=self.bench.token, seed=random.randrange(10**6), in_order=str(in_order).lower()
                )
            )
            core = str(max(os.sched_getaffinity(0)))
            words = [
                "taskset",
                "-c",
                core,
                "wrk",
                "-t1",
                f"-c{CONNECTIONS}",
                f"-d{self.bench.seconds}s",
                "--timeout",
                "20s",
            ]
            before = self.cpu()
            told = subprocess.run(
                [*words, "-s", str(script), f"http://127.0.0.1:{self.port}"], check=True, capture_output=True, text=True
            ).stdout
            spent = self.cpu() - before
        answers, rate, bad, half, most = map(float, re.search(r"FIGURES (.*)", told)[1].split())
        if bad:
            raise SystemExit(f"{bad:.0f} answers were errors:\n{told}")
        return rate, answers / spent, half, most

    def cpu(self):
        """Seconds that the server has spent so far."""
        user, system = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def get(self, path):
        headers = {"Authorization": f"Bearer {self.bench.token}"}
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        ) as answer:
            return answer.read(), answer.headers

    def tags(self, paths):
        """The ETags of these answers, over one connection."""
        line = http.client.HTTPConnection("127.0.0.1", self.port)
        found = []
        for path in paths:
            line.request("GET", path, headers={"Authorization": f"Bearer {self.bench.token}"})
            answer = line.getresponse()
            answer.read()
            found.append(answer.headers["ETag"])
        line.close()
        return found

    def data(self, path):
        return json.loads(self.get(path)[0])["data"]


@contextmanager
def _started(command, folder, **environment):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    core = min(os.sched_getaffinity(0))
    words = ["taskset", "-c", str(core), *(word.format(port=port) for word in command)]
    server = subprocess.Popen(words, cwd=folder, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield server, port
    finally:
        server.terminate()
        server.wait(60)


@dataclass(frozen=True)
class Rate:
    """What a server gave in one kind of question; medians over the rounds."""

    rate: float  # answers a second
    capacity: float  # answers a second of the server's own CPU time
    ratio: float  # of the capacity to the yardstick's
    median: float  # ms
    most: float  # ms, the 99th percentile


@dataclass(frozen=True)
class Measured:
    rates: dict[str, Rate]
    places: dict[str, float]  # ms for the first, the middle and the last page of the longest gallery


def measured(folder=FOLDER, *, images=1_000_000, characters=10_000, rounds=3, seconds=8):
    """Fill an index in `folder`, unless it is there, and measure; needs wrk."""
    here, big = folder / f"{images}-{characters}", images // 10
    if not (here / ".pipeline" / "index.db").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as filling:
            seed(Path(filling, ".pipeline"), images, characters, 0, big)
            shutil.copytree(filling, here)
    bench = Bench(here, seconds)
    return Measured(compared(bench, characters, rounds), along_a_long_gallery(bench, big, rounds))


def compared(bench, characters, rounds):
    """The servers in turns. A page that was never asked for is asked for in order, then all at random."""
    some = random.Random(1).sample(range(2, characters + 1), min(characters - 1, 10_000))
    pages = [f"{GALLERY}/character-{n}?limit={PAGE}" for n in some]
    figures = {"yardstick": [], "pages never asked for": [], "random pages": [], "random pages, 304": []}
    for _ in range(rounds):
        with bench.yardstick() as server:
            same = server.data(pages[0])
            figures["yardstick"].append(server.wrk(pages))
        with bench.ours() as server:
            assert {**server.data(pages[0]), "next": 0} == {**same, "next": 0}, "the yardstick answers otherwise"
            figures["pages never asked for"].append(server.wrk(pages, in_order=True))
            tagged = [f"{page} {tag}" for page, tag in zip(pages, server.tags(pages), strict=True)]
            figures["random pages"].append(server.wrk(pages))
            figures["random pages, 304"].append(server.wrk(tagged))
    base = statistics.median(capacity for _, capacity, _, _ in figures["yardstick"])
    rates = {}
    for name, found in figures.items():
        rate, capacity, half, most = (statistics.median(column) for column in zip(*found, strict=True))
        rates[name] = Rate(rate, capacity, capacity / base, half, most)
    return rates


def along_a_long_gallery(bench, big, rounds):
    """Pages that nobody asked for before, one at a time: each cursor is another."""
    begin = 1_700_000_000_000
    places = {"first": (begin + big * 2_000, 1), "middle": (begin + big // 2 * 1_000, 1), "last": (begin + 51_000, 1)}
    with bench.ours() as server:
        found = {name: [] for name in places}
        for turn in range(rounds * 300):
            for name, (moment, number) in places.items():
                path = f"{GALLERY}/character-1?limit={PAGE}&cursor={cursor.encode(moment, number + turn)}"
                started = time.perf_counter()
                assert len(server.data(path)["images"]) == PAGE
                found[name].append((time.perf_counter() - started) * 1_000)
    return {name: statistics.median(took) for name, took in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--characters", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="of each measurement")
    told = parser.parse_args()
    if shutil.which("wrk") is None:
        print("skipped: wrk is missing (apt-get install -y wrk)")
        return
    print(
        f"{told.images:,} images of {told.characters:,} characters, pages of {PAGE}, {CONNECTIONS} connections, one core"
    )
    found = measured(**vars(told))
    for name, rate in found.rates.items():
        print(
            f"  {name:21} {rate.rate:6.0f}/s   {rate.capacity:6.0f} a CPU second {rate.ratio:6.2f} x   "
            f"median {rate.median:6.2f} ms   99 % {rate.most:6.2f} ms"
        )
    for name, middle in found.places.items():
        print(f"  {name} page of {told.images // 10:,}: median {middle:.2f} ms")


if __name__ == "__main__":
    main()
