"""Clients that take all the connections there are: the daemon goes on making images, and lets others in again."""

import json
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import httpx
import pytest

from pipeline.gallery.tokens import Tokens
from tests.support.waiting import until

DESCRIPTORS = 120
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({n}, {n})); from pipeline.__main__ import main; main()"


ALLOWED = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, {limits}); from pipeline.gallery.listening import places; print(places(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"


@pytest.mark.parametrize(
    ("limits", "places"), [((1024, 20_000), "2000 4000"), ((60, 120), "60 120"), ((9_000, 9_000), "2000 9000")]
)
def test_half_of_the_descriptors_that_may_be_had_are_connections(limits, places):
    told = subprocess.run(
        [sys.executable, "-c", ALLOWED.format(limits=limits)], check=True, capture_output=True, text=True
    )
    assert told.stdout.strip() == places


def listens(port):
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.torture  # idle connections are ended in waves of fifteen seconds
def test_more_idle_connections_than_descriptors_stop_no_work(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "pipeline.yaml").write_text(f"settle: 0\ngallery: {{port: {port}}}\nstore: {{type: local}}\n")
    (tmp_path / "jobs").mkdir()
    command = [sys.executable, "-c", LIMITED.format(n=DESCRIPTORS), "run"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as daemon, ExitStack() as lines:
        until(lambda: listens(port), 180)
        token = Tokens(tmp_path / ".pipeline" / "tokens").create("me")
        for _ in range(2 * DESCRIPTORS):
            lines.enter_context(socket.create_connection(("127.0.0.1", port)))
        draft = tmp_path / "draft.json"
        draft.write_text(json.dumps({"id": "one", "character": "Mary", "prompt": "x", "quantity": 8, "width": 64, "height": 64}))  # fmt: skip
        draft.rename(tmp_path / "jobs" / "one.json")
        result = tmp_path / "jobs" / "done" / "one.result.json"
        until(result.exists, 180)
        assert json.loads(result.read_text())["data"]["generatedCount"] == 8
        lines.close()
        address = f"http://127.0.0.1:{port}/api/image-generation/character/mary"
        answer = httpx.get(address, headers={"authorization": f"Bearer {token}"}, timeout=60)
        assert answer.json()["data"]["totalCount"] == 8
        daemon.send_signal(signal.SIGTERM)
        said = daemon.stderr.read()
        assert daemon.wait(20) == 0
    assert "Too many open files" not in said
    assert "Traceback" not in said
