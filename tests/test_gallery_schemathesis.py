"""Schemathesis asks everything that `/openapi.json` describes, and much that it does not, of the gallery on its server."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import trio

from pipeline.catalogue import cursor
from pipeline.gallery.alone import serve_alone
from tests.support.windows import House, house

LIMITS = "--phases coverage,fuzzing --checks all --request-timeout 10 --workers 1 --no-color --generation-database none"

# A cursor is whatever `next` said: no schema tells a good one from a bad one, so each list gets one of its own.
CURSORS = {
    "GET /api/image-generation/character/{characterId}": cursor.encode(2_000_000_000_000, 9),
    "GET /api/characters": cursor.encode(9),
    "GET /api/jobs": cursor.encode(9),
}


@pytest.fixture
def home(tmp_path):
    async def fill():
        async with house(tmp_path) as made:
            await made.studio.made(n=3, labels=["spring"], name="first")
            await made.studio.job(n=2)
            await made.studio.give_up("mary", 4)
            await made.studio.made("eve", owner="bob")
            return made.studio

    made = House(trio.run(fill))
    yield made
    made.catalogue.close()


def ask_everything(home, tmp_path, *more):
    reports = []
    settings = (
        f"[[operations]]\ninclude-name = '{name}'\nparameters = {{cursor = '{word}'}}\n"
        for name, word in CURSORS.items()
    )
    (tmp_path / "schemathesis.toml").write_text("".join(settings))

    def ask(port):
        try:
            address = f"http://127.0.0.1:{port}"
            told = [f"{address}/openapi.json", "--url", address, "-H", f"Authorization: Bearer {home.alice}"]
            command = [sys.executable, "-m", "schemathesis.cli", "run", *told, *LIMITS.split(), *more]
            reports.append(subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    serve_alone(home.app, "127.0.0.1", 0, listening=lambda port: threading.Thread(target=ask, args=(port,)).start())
    assert reports[0].returncode == 0, reports[0].stdout + reports[0].stderr


@pytest.mark.long
def test_the_gallery_is_as_it_describes_itself(home, tmp_path):
    ask_everything(home, tmp_path, "--max-examples", "3", "--seed", "1")


@pytest.mark.torture
def test_the_gallery_is_as_it_describes_itself_whatever_is_asked(home, tmp_path, pytestconfig):
    seed = pytestconfig.getoption("--hypothesis-seed")
    ask_everything(home, tmp_path, "--max-examples", "50", *([] if seed is None else ["--seed", str(seed)]))
