"""How tests let daemons die: the running program of `crashing`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DIED = 77  # exit code of a run that met its step
TOO_LONG = 60  # seconds after which a run counts as hung


class Daemons:
    """The program `tests.support.crashing`, seen from the test."""

    def __init__(self, process):
        self._process = process

    def run(self, folder, die_at=None):
        """Let a daemon work off what is there, or die at a step or after some seconds; return what it told."""
        return self.run_all([(folder, die_at)])[0]

    def run_all(self, lives):
        """Let several daemons live at once, each in its own folder."""
        self._process.stdin.write(json.dumps([(str(folder), die_at) for folder, die_at in lives]) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        for (folder, _), one in zip(lives, told, strict=True):
            log = folder / "daemon.log"
            assert one["code"] in {0, DIED, -signal.SIGALRM}, (one["code"], one["steps"][-3:], log.read_text()[-3000:])
        return told

    def die_and_go_on(self, deaths):
        """In each folder die at its points, one life after the other, then work off what is left.

        Returns:
            What each folder's daemons died of, and what the last one told.
        """
        causes = {folder: [] for folder in deaths}
        for life in range(max(map(len, deaths.values()))):
            going = [(folder, points[life]) for folder, points in deaths.items() if life < len(points)]
            for (folder, point), told in zip(going, self.run_all(going), strict=True):
                causes[folder].append((point, told["steps"][-1] if told["code"] else "was done before"))
        last = self.run_all([(folder, None) for folder in deaths])
        return {folder: (causes[folder], told) for folder, told in zip(deaths, last, strict=True)}


@pytest.fixture(scope="session")
def died():
    """The program, started when first asked for; what it runs is not measured for coverage, since it ends without saying goodbye."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "COVERAGE"))}
    command = [sys.executable, "-m", "tests.support.crashing"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ, cwd=root
    ) as process:
        try:
            yield Daemons(process)
        finally:
            process.stdin.close()
            process.wait(TOO_LONG)
