"""No file descriptor left: each place that opens something says so, nothing is charged for it, and all goes on by itself."""

import json
import resource
import socket
import time
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.support import loopback, runpod_emulator
from tests.support.afterwards import Dropped, rows, wrongs
from tests.support.runpod_emulator import Plan, RunPod, sdxl_output
from tests.support.waiting import until
from tests.test_kills import program, said

CONFIG = """
settle: 0.1
scan_interval: 0.1
gallery: {port: 0}
store: {type: local}
backends: {xl: {type: runpod, url: ORIGIN/v2/e, api_key: KEY, stagger: 0, concurrency: 2}}
"""
PATIENCE = 90.0


@contextmanager
def choked(process):
    """Let the process open nothing more; what it has open it keeps."""
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)


def soon(folder, condition):
    """Wait for it; where it does not come, the log is told."""
    until(condition, PATIENCE, told=lambda: said(folder))


def lines(folder):
    whole, _, _ = said(folder).rpartition("\n")
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def told(folder, event):
    return [line for line in lines(folder) if line["event"] == event]


def drop(folder, name, quantity):
    text = f"character: Mary\nprompt: {name}\nquantity: {quantity}\nwidth: 64\nheight: 64\nid: {name}\n"
    (folder / "jobs" / f"{name}.yaml").write_text(text)


@pytest.fixture
def pods():
    made = RunPod()
    made.usual = Plan(seconds=1e6, make_output=sdxl_output)
    return made


@contextmanager
def at_work(folder, pods, limit=None):
    """The daemon with two of its four images at a back end, and a connection to its gallery that is open already."""
    (folder / "jobs").mkdir(parents=True)
    with loopback.served(pods) as origin:
        (folder / "pipeline.yaml").write_text(CONFIG.replace("ORIGIN", origin).replace("KEY", runpod_emulator.KEY))
        drop(folder, "first", 4)
        with ExitStack() as stack:
            through = () if limit is None else ("prlimit", f"--nofile={limit}:{limit}")
            process = stack.enter_context(program(folder, through=through))
            soon(folder, lambda: told(folder, "started") and pods.paid >= 2)
            (started,) = told(folder, "started")
            with httpx.Client(base_url=f"http://127.0.0.1:{started['port']}", timeout=30) as client:
                assert client.get("/readyz").status_code == 200
                yield process, client
                assert process.poll() is None


@pytest.mark.long
def test_without_descriptors_each_place_says_so_and_all_goes_on_when_there_are_some(tmp_path, pods):
    folder = tmp_path / "work"
    with at_work(folder, pods) as (process, client):
        with choked(process):
            drop(folder, "later", 2)
            pods.usual.seconds = 0.0  # both results are there: the first pictures that this process decodes
            with socket.create_connection(client.base_url.netloc.decode().split(":")) as guest:
                soon(folder, lambda: told(folder, "gallery_lets_nobody_in"))
                soon(
                    folder,
                    lambda: told(folder, "no job files are taken until this is mended; they stay where they are"),
                )
                soon(folder, lambda: told(folder, "brake_held"))
                time.sleep(1.0)  # what was under way when the brake was put on
                before = pods.paid
                time.sleep(1.5)
                assert pods.paid == before  # nothing starts whose result could not be kept
                answer = client.get("/readyz")
                assert (answer.status_code, answer.json()["success"]) == (503, False)
                guest.settimeout(PATIENCE)
        soon(
            folder,
            lambda: (
                {"first.result.json", "later.result.json"} <= {one.name for one in (folder / "jobs/done").iterdir()}
            ),
        )
        soon(folder, lambda: client.get("/readyz").status_code == 200)
        dropped = Dropped({"first": ("done",) * 4, "later": ("done",) * 2})
        soon(folder, lambda: not wrongs(folder, dropped))  # that a result is written is recorded after it is
    assert wrongs(folder, dropped) == []
    assert {(row["attempts"], row["doubtful"], row["failures"]) for row in rows(folder)} == {(1, 0, 0)}
    assert all("Too many open files" in line["reason"] for line in told(folder, "gallery_lets_nobody_in"))
    assert len(lines(folder)) < 100


@pytest.mark.torture  # idle connections are ended in waves of fifteen seconds
def test_clients_that_only_hold_connections_leave_descriptors_for_the_work(tmp_path, pods):
    folder = tmp_path / "work"
    pods.usual.seconds = 0.1
    with at_work(folder, pods, limit=128) as (_, client):
        address = client.base_url.netloc.decode().split(":")
        guests = [socket.create_connection(address, timeout=PATIENCE) for _ in range(200)]
        drop(folder, "later", 20)
        soon(folder, (folder / "jobs/done/later.result.json").exists)
        assert "Too many open files" not in said(folder)
        for guest in guests:
            guest.close()
        soon(folder, lambda: httpx.get(client.base_url.join("/readyz"), timeout=PATIENCE).status_code == 200)
        dropped = Dropped({"first": ("done",) * 4, "later": ("done",) * 20})
        soon(folder, lambda: not wrongs(folder, dropped))
    assert wrongs(folder, dropped) == []
