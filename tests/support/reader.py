"""Somebody who does what a page says, line by line, in one folder: with a real daemon, a real shell, real requests."""

import os
import re
import shlex
import subprocess
from functools import partial
from pathlib import Path

import httpx
import pytest
import sqlite_utils.cli
import trio
from click.testing import CliRunner

from pipeline import daemon
from pipeline.catalogue import Catalogue
from pipeline.cli import main
from pipeline.config import load_config
from pipeline.demo import free_port
from pipeline.errors import IndexTrouble

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8787"  # of the gallery, on every page
QUICK = """\
settle: 0.05
scan_interval: 0.2
styles: {small: {width: 64, height: 64}}
default_style: small
"""


def page(name: str) -> Path:
    """A page by its file's name."""
    there = ROOT / "docs" / name
    return there if there.exists() else ROOT / name


def code(name: str, *languages: str) -> list[str]:
    """The blocks of a page that are written in one of these languages."""
    return [found[2] for found in FENCE.finditer(page(name).read_text()) if found[1] in languages]


def commands(name: str) -> list[str]:
    """Every line that a page gives to type, without its prompt and its remark."""
    lines = "".join(code(name, "sh", "console")).splitlines()
    return [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines if line.strip()]


class Reader:
    """Does lines one after the other; what the last one wrote is in `said`.

    `places` are folders that the page names and that are elsewhere in a test.
    """

    def __init__(
        self, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, *, places: dict[str, str] | None = None
    ) -> None:
        self._nursery = nursery
        self._monkeypatch = monkeypatch
        self._places = places or {}
        self._port = free_port(0)
        self.address = f"http://127.0.0.1:{self._port}"
        self.token = ""
        self.said = ""
        self._stop = trio.Event()
        self._ended = trio.Event()
        self._up = False

    async def do(self, line: str) -> None:
        """Do one line."""
        for name, there in {**self._places, ADDRESS: self.address}.items():
            line = line.replace(name, there)
        for part in line.split(" && "):
            self.said = ""
            for command in re.split(r" \| ", part):
                self.said = await self._one(command.removeprefix("uv run "), self.said)

    async def quiet(self) -> None:
        """Wait until nothing is being made."""
        catalogue = Catalogue(load_config(None, environ=os.environ).state / "index.db")
        with trio.fail_after(30):
            while not self._at_rest(catalogue):  # noqa: ASYNC110 - the index rings no bell
                await trio.sleep(0.05)

    @staticmethod
    def _at_rest(catalogue: Catalogue) -> bool:
        try:
            summary = catalogue.summary()
        except IndexTrouble:
            return False
        return not (summary.jobs_running or summary.jobs_queued or summary.retrying) and bool(summary.images)

    async def _one(self, command: str, given: str) -> str:
        if assigned := re.fullmatch(r"TOKEN=\$\((.*)\)", command):
            command = assigned[1]
        match command.split()[0]:
            case "pipeline":
                return await self._pipeline(command, given)
            case "curl":
                return await self._curl(_words(command, self.token)[1:])
            case "sqlite-utils":
                return await self._sqlite_utils(command)
            case "cd":
                self._monkeypatch.chdir(command.split()[1])
            case "export":
                self._monkeypatch.setenv(*_words(command)[1].split("=", 1))
            case _:
                await trio.run_process(["/bin/sh", "-c", command])
        return ""

    async def _pipeline(self, command: str, given: str) -> str:
        words = _words(command)[1:]
        if words == ["run"]:
            await self.run()
            return ""
        answer = await self._called(main, words, given)
        if words[:2] == ["token", "create"]:
            # The daemon of this test logs to the same stdout.
            (self.token,) = re.findall(r"^pl_\S+$", answer, re.MULTILINE)
        if words[0] == "init":
            self.hasten()
        return answer

    async def asked(self, path: str) -> str:
        """What the gallery answers."""
        return await self._curl(["-H", f"Authorization: Bearer {self.token}", f"{self.address}{path}"])

    async def _sqlite_utils(self, command: str) -> str:
        command, _, file = command.partition(" > ")
        answer = await self._called(sqlite_utils.cli.cli, _words(command)[1:])
        if file:
            await trio.Path(file).write_text(answer)
        return answer

    async def _called(self, program, words: list[str], given: str = "") -> str:
        called = partial(CliRunner().invoke, program, words, input=given, prog_name="pipeline")
        answer = await trio.to_thread.run_sync(called)
        assert answer.exit_code == 0, f"{shlex.join(words)}: {answer.output} {answer.exception!r}"
        return answer.stdout

    async def _curl(self, words: list[str]) -> str:
        headers = [words[n + 1].split(": ", 1) for n, word in enumerate(words) if word == "-H"]
        address = next(word for word in words if word.startswith("http"))
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(address, headers=headers, timeout=40)
        assert answer.status_code == 200, answer.text
        return f"{answer.headers}\n{answer.text}" if "-i" in words else answer.text

    def hasten(self) -> None:
        """Make the present configuration one that a test can wait for."""
        file = Path("pipeline.yaml")
        known = file.read_text() if file.exists() else ""
        if QUICK not in known:
            gallery = f'gallery: {{port: {self._port}, public_url: "{self.address}"}}\n'
            file.write_text(f"{known}{QUICK}{gallery}")

    async def run(self) -> None:
        """Start the daemon, as in another terminal; one that runs already is left alone."""
        if self._up:
            return
        self.hasten()
        await trio.Path("jobs").mkdir(exist_ok=True)
        up, self._stop, self._ended = trio.Event(), trio.Event(), trio.Event()
        self._nursery.start_soon(self._work, up)
        await up.wait()
        self._up = True

    async def _work(self, up: trio.Event) -> None:
        config = load_config(None, environ=os.environ)
        await daemon.run(config, started=lambda _: up.set(), stop=self._stop)
        self._ended.set()

    async def end(self) -> None:
        """Stop the daemon, as Ctrl-C in its terminal does."""
        if self._up:
            self._stop.set()
            await self._ended.wait()
            self._up = False


def _words(command: str, token: str = "") -> list[str]:
    """What a real shell makes of a command line."""
    asked = re.sub(r"^\S+", "set -- x", command)
    environ = {**os.environ, "TOKEN": token}
    told = subprocess.run(
        ["/bin/sh", "-c", f"{asked}\nprintf '%s\\0' \"$@\""], env=environ, capture_output=True, text=True, check=True
    )
    return told.stdout.split("\0")[:-1]
