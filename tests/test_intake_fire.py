"""Intake under fire: several programs write, rename, touch and delete at once while the daemon cannot listen, or is stopped.

The back end is held, so all that happens is the taking. Whoever writes a file knows whether it was ever whole.
"""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.support.afterwards import rows
from tests.support.waiting import until
from tests.support.writers import Writer, write
from tests.test_kills import ENVIRON, program, said

CONFIG = """
settle: 0.2
scan_interval: 0.2
gallery: {enabled: false}
backends: {held: {type: a1111, url: "http://127.0.0.1:1"}}
"""
WRITERS = 8
PATIENCE = 300.0
SPAWNED = multiprocessing.get_context("spawn")


def claimed(folder):
    return {entry.name for entry in os.scandir(folder / "jobs/active")}


def known(folder):
    return {row["file"] for row in rows(folder, "SELECT file FROM jobs")}


def lying(folder):
    return [entry.name for entry in os.scandir(folder / "jobs") if entry.is_file() and not entry.name.startswith(".")]


def settle_accounts(folder, process, told, seconds):
    """Wait until all is taken, and compare with what the writers know."""
    whole = [token for one, _ in told for token in one]
    gone = [token for _, one in told for token in one]
    deadline = time.monotonic() + seconds
    while lying(folder) or claimed(folder) != known(folder):
        assert process.poll() is None
        assert time.monotonic() < deadline, (len(lying(folder)), len(known(folder)), said(folder)[-2000:])
        time.sleep(0.2)
    prompts = Counter(json.loads(row["prompt"]) for row in rows(folder, "SELECT prompt FROM jobs"))
    assert [prompt for prompt, times in prompts.items() if times > 1] == []
    assert set(whole) - set(prompts) == set()
    assert set(prompts) - set(whole) - set(gone) == set()  # a half-written prompt would be here
    assert list((folder / "jobs/rejected").iterdir()) == []
    numbers = rows(
        folder,
        "SELECT character, count(*) AS n, min(number) AS low, max(number) AS high FROM images GROUP BY character",
    )
    assert all((row["low"], row["high"]) == (1, row["n"]) for row in numbers)


def peak(process):
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())[1]) / 1024


def set_up(folder):
    (folder / "jobs").mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(CONFIG)


def fire(folder, files, seconds, *, stop_for=0.0):
    """Let the writers write, with the daemon stopped now and then; return it still running, and its peak."""
    set_up(folder)
    with program(folder) as process, SPAWNED.Pool(WRITERS) as pool:
        until(lambda: "started" in said(folder), seconds)
        work = pool.starmap_async(
            write, [(str(folder / "jobs"), number, files // WRITERS) for number in range(WRITERS)]
        )
        while stop_for and not work.ready():
            process.send_signal(signal.SIGSTOP)
            work.wait(stop_for)
            process.send_signal(signal.SIGCONT)
            work.wait(stop_for)
        settle_accounts(folder, process, work.get(seconds), seconds)
        return peak(process)


@pytest.mark.long
def test_files_of_eight_programs_are_taken_exactly_once_though_the_daemon_is_stopped_meanwhile(tmp_path):
    fire(tmp_path / "work", files=1_200, seconds=PATIENCE, stop_for=0.3)


NO_INOTIFY = ("unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"', "sh")


@pytest.mark.long
def test_where_no_inotify_instance_is_left_the_scan_carries_on_and_log_readyz_and_status_say_so(tmp_path):
    if subprocess.run([*NO_INOTIFY, "true"], check=False, capture_output=True).returncode:
        pytest.skip("inotify cannot be taken away from a program here: that takes user namespaces")
    folder = tmp_path / "work"
    set_up(folder)
    (folder / "pipeline.yaml").write_text(CONFIG.replace("{enabled: false}", "{port: 0}"))
    with program(folder, through=NO_INOTIFY) as process:
        until(lambda: '"started"' in said(folder), PATIENCE)
        told = [Writer(folder / "jobs", number, 20).work() for number in range(2)]
        settle_accounts(folder, process, told, PATIENCE)
        port = re.search(r'"port": (\d+)', said(folder))[1]
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE)
        assert answer.status_code == 200
        assert answer.json()["data"] == {"status": "ready", "notes": ["New job files are found by scanning alone."]}
        until(lambda: "notification" in [trouble["what"] for trouble in status(folder)["troubles"]], PATIENCE)
    log = said(folder)
    assert log.count("new files are found by scanning alone") == 1
    assert "file notification cannot be had: inotify instance limit reached" in log


def status(folder):
    command = [sys.executable, "-m", "pipeline", "status", "--json"]
    return json.loads(subprocess.run(command, cwd=folder, env=ENVIRON, check=True, capture_output=True).stdout)


@pytest.mark.torture
def test_100_000_files_of_eight_programs_are_taken_exactly_once_in_bounded_memory(tmp_path):
    """Stopped for seconds, the daemon finds its notification's queue (16,384 events) overflown."""
    assert fire(tmp_path / "work", files=100_000, seconds=900, stop_for=4.0) < 350
