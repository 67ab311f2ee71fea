"""Killed at random moments while files are dropped without a pause; and ended politely."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from tests.support.afterwards import Dropped, rows, wrongs

CONFIG = """
settle: 0.2
scan_interval: 0.2
gallery: {enabled: false}
backends: {sketch: {type: sketch, concurrency: 4, attempts: 2, delay: DELAY, fail_seeds: [13]}}
"""
CHARACTERS = ("Mary", "John", "{id: another-mary, name: Mary}", "{name: Mary, owner: alice}")
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "CLOUDINARY"))}


def set_up(folder, delay=0.02):
    (folder / "jobs").mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(CONFIG.replace("DELAY", str(delay)))


@contextmanager
def program(folder, *words, through=()):
    """The real program, started `through` another where there is one; it is dead when the block is left."""
    command = [*through, sys.executable, "-m", "pipeline", "run", *words]
    before = len(said(folder))
    with (folder / "daemon.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stderr=log, stdout=log, env=ENVIRON)
    try:
        while "Watching" not in said(folder)[before:] and process.poll() is None:
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def said(folder):
    """What the daemons of this workspace have logged so far."""
    log = folder / "daemon.log"
    return log.read_text() if log.exists() else ""


class Dropping:
    """Drops files in a thread, in the ways that people and programs do, and knows what is to become of them."""

    def __init__(self, folder, seed, most):
        self._jobs = folder / "jobs"
        self._chance = random.Random(seed)
        self._most = most
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._drop_on)
        self.expected = {}
        self.rejected = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    @property
    def dropped(self):
        return Dropped(self.expected, rejected=self.rejected)

    def _drop_on(self):
        for n in range(self._most):
            if self._over.wait(self._chance.random() * 0.08):
                return
            self._drop(n)

    def _drop(self, n):
        quantity, seed = self._chance.choice((1, 1, 2, 5)), self._chance.choice((1, 12, 100))
        text = f"prompt: p{n}\nquantity: {quantity}\nseed: {seed}\nwidth: 64\nheight: 64\n"
        text += f"character: {self._chance.choice(CHARACTERS)}\n"
        if n % 10 == 7:
            text += "quantty: 1\n"
            self.rejected += 1
        else:
            self.expected[f"p{n}"] = tuple("placeholder" if seed + i == 13 else "done" for i in range(quantity))
        name = self._jobs / self._chance.choice((f"p{n}.yaml", "the same name again.yml"))
        if name.exists():  # it would be the dropper who replaces a file that was not taken yet
            name = self._jobs / f"p{n}.yaml"
        if self._chance.random() < 0.5:
            draft = self._jobs / f".{n}.draft"
            draft.write_text(text)
            draft.rename(name)
        else:
            with name.open("w") as file:
                file.write(text[: len(text) // 2])
                file.flush()
                file.write(text[len(text) // 2 :])


@pytest.mark.long
def test_killed_at_twenty_moments_while_files_arrive_nothing_is_lost(died, tmp_path):
    set_up(tmp_path / "work")
    with Dropping(tmp_path / "work", seed=20, most=60) as dropping:
        for n in range(20):
            died.run(tmp_path / "work", random.Random(n).uniform(0.02, 0.5))
    assert not died.run(tmp_path / "work")["waiting"]
    assert len(dropping.expected) > 15
    assert wrongs(tmp_path / "work", dropping.dropped) == []


def kill_often(folder, seed, times):
    chance = random.Random(seed)
    set_up(folder)
    with Dropping(folder, seed=seed, most=times * 12) as dropping:
        for _ in range(times):
            with program(folder) as process:
                time.sleep(chance.uniform(0, 0.8))
                assert process.poll() is None
    with program(folder, "--once") as process:
        process.wait(120)
    assert process.returncode in {0, 1}
    assert wrongs(folder, dropping.dropped) == []


@pytest.mark.long
def test_the_real_program_killed_under_load_loses_nothing(tmp_path):
    kill_often(tmp_path / "work", seed=1, times=3)


@pytest.mark.torture
@pytest.mark.parametrize("part", range(4))
def test_the_real_program_killed_two_hundred_times_under_load_loses_nothing(tmp_path, part):
    kill_often(tmp_path / "work", seed=100 + part, times=50)


@pytest.mark.long
def test_asked_to_end_it_starts_nothing_more_and_leaves_the_rest_for_the_next_start(tmp_path):
    folder = tmp_path / "work"
    set_up(folder, delay=0.3)
    (folder / "jobs/a.yaml").write_text("character: Mary\nprompt: p\nquantity: 40\nwidth: 64\nheight: 64\nseed: 100\n")
    with program(folder) as process:
        deadline = time.monotonic() + 30
        while not list((folder / "images").rglob("mary_image_*.png")) and time.monotonic() < deadline:
            time.sleep(0.02)
        asked, asked_at = time.monotonic(), time.time_ns() // 1_000_000
        process.send_signal(signal.SIGTERM)
        (folder / "jobs/later.yaml").write_text("character: Mary\nprompt: later\nwidth: 64\nheight: 64\n")
        assert process.wait(20) == 0
        assert time.monotonic() - asked < 10
    starts = [row["at"] for row in rows(folder, "SELECT at FROM events WHERE event = 'Submitting'")]
    assert max(starts) <= asked_at + 200
    assert 4 <= len(starts) < 40
    states = {row["state"] for row in rows(folder)}
    assert states <= {"done", "planned", "fetched"}  # what came in meanwhile lies in the spool
    assert "planned" in states
    assert (folder / "jobs/later.yaml").exists()
    with program(folder, "--once") as process:
        assert process.wait(60) == 0
    assert wrongs(folder, Dropped({"p": ("done",) * 40, "later": ("done",)})) == []
    again = [row["at"] for row in rows(folder, "SELECT at FROM events WHERE event = 'Submitting'")]
    assert len(again) == 41
