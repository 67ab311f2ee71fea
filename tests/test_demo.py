"""The demo as a newcomer runs it: in a pipe, and in a terminal."""

import os
import pty
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from pipeline.demo import free_port

COMMAND = [sys.executable, "-m", "pipeline"]


@pytest.fixture
def quiet_environment():
    """The demo must not touch an account that happens to be in the environment."""
    return {**os.environ, "CLOUDINARY_URL": "cloudinary://key:secret@cloud?upload_prefix=http://127.0.0.1:9"}


@pytest.fixture
def made_once(tmp_path, quiet_environment):
    """A folder in which the demo has run in a pipe."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    demo = subprocess.run(
        [*COMMAND, "demo"], cwd=tmp_path, env=quiet_environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert demo.returncode == 0, demo.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 15  # whatever else the machine does
    assert "\x1b" not in demo.stdout
    assert "Mary in a garden  8/8" in demo.stdout
    assert "Alice, one refused  5/5  1 placeholder" in demo.stdout
    assert "alice_image_3 is a placeholder, on purpose." in demo.stdout
    assert len(list((tmp_path / "pipeline-demo/images").glob("demo/characters/*/images/*.png"))) == 17
    return tmp_path


@pytest.mark.long
def test_a_second_time_in_a_terminal_it_counts_on_and_serves_until_ctrl_c(made_once, quiet_environment):
    terminal, inside = pty.openpty()
    demo = subprocess.Popen(
        [*COMMAND, "demo"],
        cwd=made_once,
        env=quiet_environment,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    try:
        text = _read_until(terminal, "Ctrl-C ends it")
        asked = re.search(r'curl -H "Authorization: Bearer (\S+)" (\S+)', text)
        assert asked, text
        answer = httpx.get(asked[2], headers={"Authorization": f"Bearer {asked[1]}"})
        assert answer.status_code == 200
        assert answer.json()["data"]["totalCount"] == 16
        picture = httpx.get(answer.json()["data"]["images"][0]["url"])
        assert picture.headers["content-type"] == "image/png"
        demo.send_signal(signal.SIGINT)
        assert demo.wait(15) == 0
    finally:
        demo.kill()
        demo.wait()
        os.close(terminal)


def test_ctrl_c_ends_it_early_and_well(tmp_path, quiet_environment):
    for n in range(5):  # on a busy machine it may have made all its images before this program has its next turn
        folder = tmp_path / str(n)
        folder.mkdir()
        text = _interrupted(folder, quiet_environment)
        if "images in" not in text:
            break
    assert "Ended before all images were made" in text


def _interrupted(folder, environment):
    """Ctrl-C as soon as the bars are drawn; how far they have come is the machine's business."""
    terminal, inside = pty.openpty()
    environment = environment | {"TERM": "xterm-256color"}  # a dumb one is shown no bars
    demo = subprocess.Popen(
        [*COMMAND, "demo"], cwd=folder, env=environment, stdin=inside, stdout=inside, stderr=inside, start_new_session=True
    )  # fmt: skip
    os.close(inside)
    try:
        _read_until(terminal, "/8")
        demo.send_signal(signal.SIGINT)
        text = _read_until(terminal, "the folder stays.")
        assert demo.wait(15) == 0
        return text
    finally:
        demo.kill()
        demo.wait()
        os.close(terminal)


def _read_until(terminal: int, words: str) -> str:
    text = ""
    deadline = time.monotonic() + 60
    while words not in text:
        ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert ready, text
        try:
            text += os.read(terminal, 65536).decode(errors="replace")
        except OSError:  # it has ended, and said no more
            raise AssertionError(text) from None
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_another_port_is_taken_where_the_usual_one_is_in_use():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert free_port(taken) != taken
    assert free_port(taken) == taken
