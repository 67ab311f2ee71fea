"""A disk that is full at each place in turn: the daemon says so, takes no work it cannot keep, and goes on by itself."""

import contextlib
import os
import subprocess
import time

import pytest

from tests.support.afterwards import Dropped, rows, wrongs
from tests.test_kills import program, said

CONFIG = """
settle: 0.1
scan_interval: 0.1
gallery: {enabled: false}
backends: {sketch: {type: sketch, concurrency: 2, delay: 0.2}}
"""
SIZE = 24  # MB of the small disk
PATIENCE = 60.0


@contextlib.contextmanager
def small_disk(folder):
    """A file system of its own at this folder."""
    folder.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}m", "none", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here, which takes root: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Leave no block free; return what gives the room back."""
    ballast = folder / ".ballast"
    handle = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    for size in (1 << 20, 4096, 1):
        with pytest.raises(OSError, match="No space left"):
            _write_on(handle, bytes(size))
    os.close(handle)
    return ballast.unlink


def _write_on(handle, data):
    while True:
        os.write(handle, data)


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def drop(folder, name, quantity):
    text = f"character: Mary\nprompt: {name}\nquantity: {quantity}\nwidth: 64\nheight: 64\nid: {name}\n"
    (folder / "jobs" / f"{name}.yaml").write_text(text)


def made(folder):
    return len(list((folder / "images").rglob("mary_image_*.png")))


def starts(folder):
    return rows(folder, "SELECT count(*) AS n FROM events WHERE event = 'Submitting'")[0]["n"]


@pytest.mark.parametrize("place", [".pipeline", "images", "jobs"])
def test_a_full_disk_is_said_waited_for_and_gone_on_after(tmp_path, place):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "pipeline.yaml").write_text(CONFIG)
    with small_disk(folder / place) as small:
        (folder / "jobs").mkdir(exist_ok=True)
        drop(folder, "first", 6)
        with program(folder) as process:
            until(lambda: made(folder) >= 1)
            give_back = fill(small)
            if place != "jobs":
                drop(folder, "later", 2)
            until(lambda: "No space left" in said(folder) or "the disk is full" in said(folder))
            time.sleep(1.0)
            assert process.poll() is None
            if place == ".pipeline":  # what the index cannot record must not begin
                before = starts(folder)
                time.sleep(1.5)
                assert starts(folder) == before
                assert (folder / "jobs/later.yaml").exists() or (folder / "jobs/active/later.yaml").exists()
            give_back()
            if place == "jobs":
                drop(folder, "later", 2)
            until(
                lambda: (
                    {"first.result.json", "later.result.json"}
                    <= {path.name for path in (folder / "jobs/done").iterdir()}
                )
            )
        with program(folder, "--once") as process:
            assert process.wait(PATIENCE) == 0
        assert wrongs(folder, Dropped({"first": ("done",) * 6, "later": ("done",) * 2})) == []
