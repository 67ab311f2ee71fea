"""How much log can be provoked: bad files, failing images and hostile clients by the thousand are a bounded number of lines."""

import json
import re
import signal
import socket
import time
from collections import Counter

import pytest

from pipeline.tools.log import MOST_A_MINUTE
from tests.support.afterwards import rows
from tests.support.waiting import until
from tests.test_kills import program, said

FAILING, BAD, REQUESTS = 100, 400, 160
CONFIG = f"""
settle: 0
scan_interval: 0.1
gallery: {{port: 0}}
backends: {{sketch: {{type: sketch, concurrency: 8, attempts: 1, fail_seeds: {list(range(FAILING))}}}}}
"""
PATIENCE = 150.0
LONGEST = 8_000  # characters of a line; a traceback may be in it


def shout(port, text):
    """Say something to the gallery, and hear it out."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        try:
            while client.recv(1 << 16):
                pass
        except OSError:
            return


def hostile(n):
    path = b"/api/jobs/" + b"x" * (n * 10)
    ways = (
        b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\nConnection: close\r\n\r\n",
        b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody",
        b"\x16\x03\x01 this is no HTTP \xff\xfe\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost",
    )
    return ways[n % len(ways)]


@pytest.mark.long
def test_bad_files_failing_images_and_hostile_clients_fill_no_disk_with_log(tmp_path):
    folder = tmp_path / "work"
    (folder / "jobs").mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(CONFIG)
    began = time.monotonic()
    text = f"character: Mary\nprompt: p\nquantity: {FAILING}\nseed: 0\nwidth: 64\nheight: 64\n"
    (folder / "jobs/failing.yaml").write_text(text)
    with program(folder) as process:
        for n in range(BAD):
            (folder / f"jobs/bad-{n}.yaml").write_text("quantty: 1\n")
        until(lambda: '"started"' in said(folder), PATIENCE)
        port = int(re.search(r'"port": (\d+)', said(folder))[1])
        for n in range(REQUESTS):
            shout(port, hostile(n))
        until(lambda: len(list((folder / "jobs/rejected").glob("*.yaml"))) == BAD, PATIENCE)
        until(lambda: {row["status"] for row in rows(folder)} == {"placeholder"}, PATIENCE)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    minutes = (time.monotonic() - began) // 60 + 1
    lines = [json.loads(line) for line in said(folder).splitlines() if line.startswith("{")]
    assert max(map(len, said(folder).splitlines())) < LONGEST
    kinds = Counter(line["event"] for line in lines)
    held = Counter({line["like"]: line["lines"] for line in lines if line["event"] == "more_like_it"})
    assert all(times <= MOST_A_MINUTE * minutes for times in kinds.values()), kinds
    assert sum(kinds.values()) < 6 * MOST_A_MINUTE * minutes, kinds
    assert kinds["image_trouble"] + held["image_trouble"] == FAILING
    assert kinds["request"] + held["request"] >= REQUESTS // 2
    summaries = [line["files"] for line in lines if line["event"].startswith("as many more")]
    assert kinds["rejected"] + held["rejected"] + sum(summaries) == BAD
