"""A disk that is full at each place in turn: the daemon says so, takes no work it cannot keep, and goes on by itself."""

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import httpx
import pytest
from click.testing import CliRunner

from pipeline.cli import main
from tests.support.afterwards import Dropped, rows, wrongs
from tests.support.waiting import until
from tests.test_kills import program, said

CONFIG = """
settle: 0.1
scan_interval: 0.1
gallery: {port: 0}
backends: {sketch: {type: sketch, concurrency: 2, delay: 0.2}}
"""
SIZE = 24  # MB of the small disk
PATIENCE = 180.0
PARTS = bytes(1 << 20), bytes(4096), bytes(1)  # of what fills a disk


@contextlib.contextmanager
def small_disk(folder, image):
    """A file system of its own at this folder: a real one in the file `image` where that can be made, else in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = ["-t", "tmpfs", "-o", f"size={SIZE}m", "none"]
    if (made := shutil.which("mkfs.ext4")) is not None:
        image.write_bytes(b"")
        os.truncate(image, SIZE << 20)
        subprocess.run([made, "-q", "-b", "1024", "-m", "0", "-N", "4096", str(image)], check=True)
        kind = ["-o", "loop", str(image)]
    done = subprocess.run(["mount", *kind, str(folder)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here, which takes root: {done.stderr.strip()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            (folder / "lost+found").rmdir()
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Ballast:
    """A file that leaves no block of its disk free, also of those that somebody gives back."""

    def __init__(self, folder):
        self._path = folder / ".ballast"
        self._fill()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_full)
        self._thread.start()

    def drop(self):
        self._over.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _keep_full(self):
        while not self._over.wait(0.005):
            self._fill()

    def _fill(self):
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for part in PARTS:
            try:
                while True:
                    os.write(handle, part)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
        os.close(handle)


def drop(folder, name, quantity):
    text = f"character: Mary\nprompt: {name}\nquantity: {quantity}\nwidth: 64\nheight: 64\nid: {name}\n"
    (folder / "jobs" / f"{name}.yaml").write_text(text)


def made(folder):
    return len(list((folder / "images").rglob("mary_image_*.png")))


def starts(folder):
    return rows(folder, "SELECT count(*) AS n FROM events WHERE event = 'Submitting'")[0]["n"]


def stuff(folder):
    """On a full disk, leave no room for one more name in a folder."""
    with contextlib.suppress(OSError):
        for n in range(2_000):
            (folder / f".0{n}").touch()


def ready(folder):
    ports = re.findall(r'"port": (\d+)', said(folder))
    answer = httpx.get(f"http://127.0.0.1:{ports[0]}/readyz", timeout=PATIENCE)
    return answer.json().get("code", "ready")


def troubles(folder):
    """What `status` tells: by the index or, where that cannot be written, by the daemon's own words."""
    asking = ["status", "--json", "--config", str(folder / "pipeline.yaml")]
    ran = CliRunner().invoke(main, asking, env={"CLOUDINARY_URL": None})
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    return {trouble["what"] for trouble in told["troubles"]} | set(
        re.findall(r"(?:^|; )(\w+): ", told["daemon"]["trouble"] or "")
    )


@contextlib.contextmanager
def full(folder, place, image):
    """The workspace with the disk of one of its folders full, while a daemon makes the images of one of two jobs."""
    (folder / "jobs").mkdir(parents=True)
    with small_disk(folder / place, image):
        (folder / "jobs").mkdir(exist_ok=True)
        (folder / "pipeline.yaml").write_text(CONFIG)
        drop(folder, "first", 6)
        with program(folder) as process:
            until(lambda: made(folder) >= 1, PATIENCE)
            process.send_signal(signal.SIGSTOP)
            drop(folder, "later", 2)
            if place == "jobs":
                (folder / "jobs/bad.yaml").write_text("nothing\n")
            ballast = Ballast(folder / place)
            if place == "jobs":
                stuff(folder / "jobs/done")
                stuff(folder / "jobs/active")
            process.send_signal(signal.SIGCONT)
            try:
                yield
                assert process.poll() is None
            finally:
                ballast.drop()
            results = {"first.result.json", "later.result.json"}
            until(lambda: results <= {path.name for path in (folder / "jobs/done").iterdir()}, PATIENCE)
            until(lambda: ready(folder) == "ready" and not troubles(folder), PATIENCE)
            until(lambda: place != "jobs" or (folder / "jobs/rejected/bad.yaml").exists(), PATIENCE)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        for filler in (folder / "jobs").glob("*/.0*"):
            filler.unlink()
        dropped = Dropped({"first": ("done",) * 6, "later": ("done",) * 2}, rejected=int(place == "jobs"))
        assert wrongs(folder, dropped) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("place", "answer", "trouble"),
    [
        (".pipeline", "disk_full", {"disk"}),
        pytest.param(".pipeline/spool", "disk_full", {"disk"}, marks=pytest.mark.torture),
        pytest.param("images", "ready", {"store"}, marks=pytest.mark.torture),
        ("jobs", "intake_stopped", {"intake", "results"}),
    ],
)
def test_a_full_disk_is_said_waited_for_and_gone_on_after(tmp_path, place, answer, trouble):
    folder = tmp_path / "work"
    with full(folder, place, tmp_path / "disk"):
        until(lambda: ready(folder) == answer and trouble <= troubles(folder), PATIENCE)
        assert "No space left" in said(folder) or "the disk is full" in said(folder)
        if answer == "disk_full":  # what cannot be kept must not begin
            before = starts(folder)
            time.sleep(1.5)
            assert starts(folder) == before
        if place == ".pipeline":
            assert (folder / "jobs/later.yaml").exists() or (folder / "jobs/active/later.yaml").exists()
        if place == "jobs":
            assert (folder / "jobs/bad.yaml").exists()
            if shutil.which("mkfs.ext4") is not None:  # in memory a rename needs no room
                assert (folder / "jobs/later.yaml").exists()


@pytest.mark.long
def test_one_disk_for_all_that_is_full_the_log_included_ends_nothing(tmp_path):
    folder = tmp_path / "work"
    with full(folder, ".", tmp_path / "disk"):
        until(lambda: ready(folder) == "disk_full" and "disk" in troubles(folder), PATIENCE)
        before = starts(folder)
        time.sleep(1.5)
        assert starts(folder) == before
