"""The steering commands as people type them: with a daemon at work, and without one."""

import json
import logging
import os
import re
import shlex
import stat
import statistics
import subprocess
import sys
import threading
import time
import webbrowser
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import structlog
import trio
from click.testing import CliRunner

from pipeline import daemon
from pipeline.catalogue import Catalogue
from pipeline.cli import main
from pipeline.cli.steering import give
from pipeline.config import load_config
from pipeline.orders.desk import Desk
from pipeline.orders.kinds import Cancel, Favorite, Pause, Remove, Resume, Retry
from pipeline.tools.locks import hold, holder
from tests.support.browser import free_port
from tests.support.cloudinary_emulator import CLOUD, KEY, SECRET, CloudinaryEmulator
from tests.support.pictures import plain
from tests.support.waiting import until

SETTINGS = """
settle: 0
scan_interval: 0.1
gallery: {enabled: false}
backends: {sketch: {type: sketch, concurrency: 1, delay: %s, fail_seeds: [2]}}
"""
QUIET = structlog.make_filtering_bound_logger(logging.CRITICAL)
DEADLINE = 60.0  # seconds: only a broken program or a frozen machine needs them


@pytest.fixture(autouse=True)
def _quiet():
    """A daemon in a thread writes its log where a command's answer is looked for."""
    structlog.configure(wrapper_class=QUIET)


class Workspace:
    """A folder with a configuration, and the commands in it."""

    def __init__(self, folder, delay=0, settings=SETTINGS):
        self.folder = folder
        self.file = folder / "pipeline.yaml"
        self.file.write_text(settings % delay if "%s" in settings else settings)
        (folder / "jobs").mkdir(exist_ok=True)

    @property
    def config(self):
        return load_config(self.file, environ={})

    @property
    def catalogue(self):
        return Catalogue(self.folder / ".pipeline/index.db")

    def drop(self, job_id="j1", **keys):
        job = {"id": job_id, "character": "Mary", "prompt": "in a garden", "width": 64, "height": 64, "seed": 1} | keys
        (self.folder / f"jobs/{job_id}.json").write_text(json.dumps(job))

    def work_off(self):
        trio.run(partial(daemon.run, self.config, once=True))

    @contextmanager
    def at_work(self):
        """A daemon in a thread of this process."""
        up, stop = threading.Event(), []

        async def run():
            stop.append((trio.lowlevel.current_trio_token(), trio.Event()))
            await daemon.run(self.config, started=lambda _: up.set(), stop=stop[0][1])

        thread = threading.Thread(target=trio.run, args=(run,))
        thread.start()
        try:
            assert up.wait(DEADLINE)
            yield
        finally:
            token, event = stop[0]
            token.run_sync_soon(event.set)
            thread.join()

    def call(self, *words, code=0, typed=None):
        result = CliRunner().invoke(main, [words[0], "--config", str(self.file), *words[1:]], input=typed)
        assert result.exit_code == code, result.output
        return result.output

    def statuses(self, job_id="j1"):
        return [image["status"] for image in self.catalogue.result(job_id)["images"]]

    def steps(self, character, number):
        return [step.event for step in self.catalogue.history(self.catalogue.image(character, number).row)]

    def result_file(self, job_id="j1"):
        return json.loads((self.folder / f"jobs/done/{job_id}.result.json").read_text())["data"]


@pytest.fixture(params=["with a daemon", "alone"])
def made(request, tmp_path):
    """Mary has an image, a placeholder, an image; a daemon may be at work."""
    space = Workspace(tmp_path)
    space.drop(quantity=3, labels=["spring"])
    space.work_off()
    assert space.statuses() == ["done", "placeholder", "done"]
    if request.param == "alone":
        yield space
    else:
        with space.at_work():
            yield space


def test_favorites(made):
    assert made.call("favorite", "mary", "1", "3") == "mary_image_1 is a favorite\nmary_image_3 is a favorite\n"
    assert made.catalogue.image("mary", 3).chosen
    told = json.loads(made.call("unfavorite", "mary", "3", "--json"))
    assert told == {
        "success": True,
        "messages": ["mary_image_3 is no favorite"],
        "characterId": "mary",
        "numbers": [3],
        "favorite": False,
    }
    assert not made.catalogue.image("mary", 3).chosen
    assert "mary has no image 9" in made.call("favorite", "mary", "9", code=2)


def test_removing_asks_first_and_rewrites_the_result(made):
    file = made.folder / "images/me/characters/mary/images/mary_image_1.png"
    assert "nothing was removed" in made.call("remove", "mary", "1", typed="n\n", code=1)
    assert file.exists()
    assert "mary_image_1 is removed" in made.call("remove", "mary", "1", typed="y\n")
    assert not file.exists()
    assert made.call("remove", "mary", "1", "--yes") == "mary_image_1 is removed\n"
    until(lambda: made.result_file()["images"][0]["status"] == "removed")
    assert made.catalogue.verify() == []
    assert "mary has no image 9" in made.call("remove", "mary", "9", code=2)


def test_retrying_in_place(made):
    assert made.call("retry", "mary", "2") == "1 image is made again: mary_image_2\n"
    made.work_off() if holder(made.config.state) is None else None
    until(lambda: not made.catalogue.image("mary", 2).retrying)
    assert made.statuses() == ["done", "placeholder", "done"]
    made.file.write_text(made.file.read_text().replace("fail_seeds: [2]", "fail_seeds: []"))
    assert "is done" in made.call("retry", "mary", "1", code=1)
    assert "no job has the id" in made.call("retry", "nope", code=2)
    for wrong in (["retry"], ["retry", "mary", "2", "--failed"], ["retry", "--label", "spring"]):
        assert "pipeline retry" in made.call(*wrong, code=2)


def test_retrying_all_placeholders_by_label(made):
    told = json.loads(made.call("retry", "--placeholders", "--label", "spring", "--json"))
    assert told["retried"] == ["mary_image_2"]


def test_cancelling_what_has_ended_or_is_not_there(made):
    assert "has ended already" in made.call("cancel", "j1")
    assert "has ended already" in made.call("cancel", "--label", "spring")
    assert "no job has the id" in made.call("cancel", "nope", code=2)
    assert "name one job" in made.call("cancel", code=2)
    assert "name one job" in made.call("cancel", "j1", "--label", "spring", code=2)


def test_pauses(made):
    assert made.call("pause") == "everything is paused\n"
    assert made.call("pause", "--backend", "sketch") == "back end sketch is paused\n"
    assert made.call("resume", "--backend", "sketch").startswith("back end sketch goes on\nbut everything")
    assert made.call("resume") == "everything goes on\n"
    assert made.call("pause", "j1") == "job j1 is paused\n"
    assert json.loads(made.call("resume", "--json"))["pauses"] == [{"kind": "job", "name": "j1"}]
    assert 'no back end is called "pod"; there is sketch' in made.call("pause", "--backend", "pod", code=2)
    for command in ("pause", "resume"):
        assert "not both" in made.call(command, "j1", "--backend", "sketch", code=2)


def test_adopting_needs_an_account(made):
    assert "the local store holds only its own folder" in made.call("adopt", "mary", "--prefix", "old", code=2)


@pytest.mark.parametrize("alone", [False, True], ids=["with a daemon", "alone"])
def test_old_images_at_cloudinary_get_the_next_numbers(tmp_path, alone):
    with CloudinaryEmulator() as account:
        for n in (1, 2):
            account.plant(f"uploads/mary/pic{n}", plain(shade=n))
        store = {
            "type": "cloudinary",
            "cloud_name": CLOUD,
            "api_key": KEY,
            "api_secret": SECRET,
            "upload_prefix": account.url,
        }
        space = Workspace(tmp_path, settings=f"gallery: {{enabled: false}}\nstore: {json.dumps(store)}\n")
        call = partial(space.call, "adopt", "mary", "--prefix", "uploads/mary")
        if alone:
            first, second = call(), call()
        else:
            with space.at_work():
                first, second = call(), call()
        assert first == "2 images are adopted as numbers 1 to 2\n"
        assert second == "0 images are adopted\n2 were in the index already\n"
        rows = space.catalogue.page("mary").rows
        assert {row.public_id for row in rows} == {"uploads/mary/pic1", "uploads/mary/pic2"}


@pytest.mark.long
def test_without_a_daemon_running_work_is_cancelled_and_the_result_written(tmp_path):
    space = Workspace(tmp_path, delay=300)
    space.drop(quantity=2, labels=["spring"])
    with space.at_work():
        until(lambda: holder(space.config.state) and (tmp_path / "jobs/active/j1.json").exists())
        until(lambda: space.catalogue.job("j1") and space.catalogue.job("j1").counts["running"])
    assert space.call("cancel", "--label", "spring").startswith("j1: 2 images cancelled")
    assert space.result_file()["status"] == "cancelled"
    assert (tmp_path / "jobs/done/j1.json").exists()
    assert space.catalogue.verify() == []


@pytest.mark.long
def test_a_back_end_that_cannot_be_opened_does_not_hinder_cancelling(tmp_path):
    space = Workspace(tmp_path, delay=300)
    space.drop()
    with space.at_work():
        until(lambda: (tmp_path / ".pipeline/index.db").exists() and space.catalogue.job("j1"))
        until(lambda: space.catalogue.job("j1").counts["running"])
    space.file.write_text(
        "gallery: {enabled: false}\nbackends:\n  sketch: {type: comfyui, workflow: missing.json, url: 'http://127.0.0.1:9'}\n"
    )
    told = space.call("cancel", "j1")
    assert "may go on at back end sketch, which could not be told" in told


def test_a_result_that_cannot_be_written_is_told(tmp_path):
    space = Workspace(tmp_path)
    space.drop()
    space.work_off()
    for file in (tmp_path / "jobs/done").iterdir():
        file.unlink()
    (tmp_path / "jobs/done").rmdir()
    (tmp_path / "jobs/done").write_text("a file in the way")
    assert "a result file could not be written" in space.call("remove", "mary", "1", "--yes")


def test_an_index_that_cannot_be_used_is_a_failure(tmp_path):
    space = Workspace(tmp_path)
    (tmp_path / ".pipeline").mkdir()
    (tmp_path / ".pipeline/index.db").write_bytes(b"no index, but long enough to be looked at" * 20)
    assert "it is no index" in space.call("pause", code=1)
    for words in (("remove", "mary", "1"), ("status",), ("verify",)):
        assert "is not a database); put a backup in its place" in space.call(*words, code=1)


def test_whoever_holds_the_folder_and_does_not_answer_is_named(tmp_path):
    space = Workspace(tmp_path)
    with hold(space.config.state, process="pipeline reindex"), pytest.raises(SystemExit) as left:
        give(space.config, Pause(), as_json=False, patience=0.1)
    assert left.value.code == 1
    assert len(Desk(space.config.state).waiting()) == 1


@pytest.fixture
def daemon_process(tmp_path):
    """The real thing, in a process of its own, with two images under way for half a minute."""
    space = Workspace(tmp_path, delay=300, settings=SETTINGS.replace("concurrency: 1", "concurrency: 2"))
    space.drop(quantity=6)
    environ = {key: value for key, value in os.environ.items() if not key.startswith("CLOUDINARY")}
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "--config", str(space.file)],
        stderr=subprocess.DEVNULL,
        env=environ,
    )
    try:
        until((tmp_path / ".pipeline/orders").exists)
        until(lambda: space.catalogue.job("j1") and space.catalogue.job("j1").counts["running"] == 2)
        yield space, process
    finally:
        process.kill()
        process.wait()


def test_a_running_daemon_acts_within_two_seconds(daemon_process):
    space, process = daemon_process

    def within_two_seconds(*words, then):
        began = time.monotonic()
        space.call(*words)
        until(then)
        assert time.monotonic() - began < 2.0

    def is_paused():
        return space.catalogue.lanes()[0].state == "paused"

    within_two_seconds("pause", "--backend", "sketch", then=is_paused)
    within_two_seconds("resume", "--backend", "sketch", then=lambda: not is_paused())
    within_two_seconds("cancel", "j1", then=lambda: space.statuses() == ["cancelled"] * 6)
    until((space.folder / "jobs/done/j1.result.json").exists)
    assert process.poll() is None


def test_an_order_left_while_the_daemon_was_killed_is_carried_out_at_the_next_start(daemon_process):
    space, process = daemon_process
    process.kill()
    process.wait()
    desk = Desk(space.config.state)
    name = desk.leave(Cancel(job="j1"))
    space.work_off()
    assert space.statuses() == ["cancelled"] * 6
    assert desk.take_reply(name).lines == ("j1: 6 images cancelled",)


# -- looking again


def test_the_page_opens_through_a_file_that_only_its_owner_can_read(tmp_path, monkeypatch):
    settings = SETTINGS.replace("{enabled: false}", "{port: 0}") % 0
    space = Workspace(tmp_path, settings=settings)
    space.drop()
    space.work_off()
    seen = tmp_path / "seen"
    monkeypatch.setattr(webbrowser, "_tryorder", None)  # it reads BROWSER once, maybe for a test before this one
    monkeypatch.setenv("BROWSER", f"{sys.executable} -c \"import sys; open('{seen}', 'w').write(sys.argv[1])\" %s")
    assert "nothing answers at" in space.call("gallery", "--open", code=1)
    with serving(space) as port:
        space.file.write_text(settings.replace("port: 0", f"port: {port}, public_url: 'http://127.0.0.1:{port}'"))
        assert f"opened http://127.0.0.1:{port}/gallery/mary" in space.call("gallery", "mary", "--open")
        address = until(lambda: seen.exists() and seen.read_text())
        file = tmp_path / ".pipeline/open.html"
        assert address == file.as_uri()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        (token,) = set(re.findall(r"#t=(pl_[\w-]+)", file.read_text()))
        gallery = f"http://127.0.0.1:{port}/api/image-generation/character/mary"
        signed_in = {"Authorization": f"Bearer {token}"}
        assert httpx.get(gallery, headers=signed_in, trust_env=False).json()["data"]["totalCount"] == 1
        assert token not in address
        command = [sys.executable, "-m", "pipeline", "gallery", "--open", "--config", str(space.file)]
        without = {**os.environ, "BROWSER": "/nonexistent", "PATH": "/nonexistent"}
        told = subprocess.run(command, env=without, capture_output=True, text=True, check=False)
        assert (told.returncode, "open this file in one" in told.stderr) == (1, True)
    assert 'no character has the id "nope"' in space.call("gallery", "nope", "--open", code=2)


@contextmanager
def serving(space):
    """The daemon with its gallery at a free port."""
    ports, stop = [], []
    up = threading.Event()

    def started(what):
        ports.append(what.port)
        up.set()

    async def run():
        stop.append((trio.lowlevel.current_trio_token(), trio.Event()))
        await daemon.run(space.config, started=started, stop=stop[0][1])

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    try:
        assert up.wait(DEADLINE)
        yield ports[0]
    finally:
        token, event = stop[0]
        token.run_sync_soon(event.set)
        thread.join()


def test_an_image_written_back_as_a_job_makes_it_again(tmp_path):
    space = Workspace(tmp_path)
    space.drop(prompt=["in a garden", "at sea: 3 ships, it's\nnoon"], quantity=2, seed=5)
    space.work_off()
    text = space.call("gallery", "mary", "4", "--as-job")
    (tmp_path / "jobs/again.yaml").write_text(text)
    space.work_off()
    first, again = space.catalogue.image("mary", 4), space.catalogue.image("mary", 5)
    assert (again.prompt, again.seed, again.width) == (first.prompt, 8, 64)
    files = [tmp_path / f"images/me/characters/mary/images/mary_image_{n}.png" for n in (4, 5)]
    assert len({file.read_bytes()[-2000:-1200] for file in files}) == 1
    assert "name an image" in space.call("gallery", "mary", "--as-job", code=2)


def test_an_adopted_image_has_no_job(tmp_path):
    folder = tmp_path / "images/me/characters/mary/images"
    folder.mkdir(parents=True)
    (folder / "mary_image_1.png").write_bytes(plain())
    space = Workspace(tmp_path)
    space.drop()
    space.work_off()
    assert "was adopted from the store" in space.call("gallery", "mary", "1", "--as-job", code=2)


PAGE = Path(__file__).parents[1] / "docs/howto-steer.md"
SHOWN = [line for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()]


def test_every_command_of_the_how_to_does_what_it_says(tmp_path, monkeypatch):
    settings = SETTINGS.replace("enabled: false", f"enabled: false, port: {free_port()}")  # where nothing answers
    space = Workspace(tmp_path, settings=settings.replace("sketch: {", "pod: {").replace("[2]", "[1, 9]") % 0)
    space.drop("nightly-2025-07-28", quantity=12, labels=["spring"])
    space.work_off()
    monkeypatch.chdir(tmp_path)
    refused = {"adopt": "the local store holds only", "--open": "nothing answers"}
    assert len(SHOWN) == 17
    for line in SHOWN:
        words = shlex.split(line.partition("|")[0])[1:]
        expected = next((told for word, told in refused.items() if word in words), "")
        told = space.call(*words, code=2 if "adopt" in words else 1 if expected else 0)
        assert expected in told
        if words[0] == "retry":
            space.work_off()
        if "submit -" in line:
            assert space.call("submit", "-", typed=told)
    assert min(path.name for path in tmp_path.glob("backup/mary/*.png")) == "mary_image_1.png"
    assert space.catalogue.image("mary", 9).status == "removed"


# -- every verb: soon where a daemon runs, and not lost where it dies before it has read the order


LEFT = [
    (Resume(), lambda space: space.catalogue.pauses() != []),  # those below come after it
    (Favorite(character="mary", numbers=(1, 2)), lambda space: space.catalogue.image("mary", 2).chosen),
    (Remove(character="mary", numbers=(3,)), lambda space: space.catalogue.image("mary", 3).status == "removed"),
    (Pause(backend="sketch"), lambda space: ("backend", "sketch") in space.catalogue.pauses()),
    (Pause(job="j4"), lambda space: ("job", "j4") in space.catalogue.pauses()),
    (Pause(), lambda space: ("all", "") in space.catalogue.pauses()),
    (Retry(placeholders=True), lambda space: space.steps("mary", 2).count("Retried") == 1),  # nothing starts by now
    (Cancel(job="j2"), lambda space: space.catalogue.job("j2").status == "cancelled"),
    (Cancel(label="later"), lambda space: space.catalogue.job("j3").status == "cancelled"),
]  # fmt: skip


def test_what_a_killed_daemon_has_not_read_is_carried_out_by_the_next_and_twice_does_no_harm(tmp_path):
    space = Workspace(tmp_path)
    space.drop(quantity=3)
    space.work_off()
    space.file.write_text(SETTINGS % 300)
    space.drop("j2", quantity=2)
    space.drop("j3", quantity=2, labels=["later"])
    space.drop("j4")
    desk = Desk(space.config.state)
    space.call("pause")  # so that nothing is under way when the daemon ends
    with space.at_work():
        until(lambda: all(space.catalogue.job(name) for name in ("j2", "j3", "j4")))
    names = [desk.leave(order) for order, _ in LEFT for _ in range(2)]
    with space.at_work():
        replies = [until(partial(desk.take_reply, name)) for name in names]
        assert [order for order, done in LEFT if not done(space)] == []
    assert [reply.exit_code for reply in replies] == [0] * len(names)
    assert desk.waiting() == []
    assert space.catalogue.verify() == []


def test_every_verb_acts_within_two_seconds_on_a_running_daemon(tmp_path):
    space = Workspace(tmp_path)
    space.drop(quantity=3)
    space.work_off()
    space.file.write_text(SETTINGS % 300)
    space.drop("j2", quantity=2)

    def image(number):
        return space.catalogue.image("mary", number)

    verbs = [
        ("pause", lambda: space.catalogue.pauses() == [("all", "")]),
        ("resume", lambda: space.catalogue.pauses() == []),
        ("pause j2", lambda: space.catalogue.pauses() == [("job", "j2")]),
        ("resume j2", lambda: space.catalogue.pauses() == []),
        ("favorite mary 1 3", lambda: image(1).chosen and image(3).chosen),
        ("unfavorite mary 3", lambda: not image(3).chosen),
        ("remove mary 3 --yes", lambda: image(3).status == "removed"),
        ("cancel j2", lambda: space.catalogue.job("j2").status == "cancelled"),
        ("pause", lambda: space.catalogue.pauses() == [("all", "")]),
        ("retry --placeholders", lambda: image(2).retrying),
    ]  # fmt: skip
    with space.at_work():
        until(lambda: space.catalogue.job("j2") and space.catalogue.job("j2").counts["running"])
        spans = []
        for line, done in verbs:
            began = time.monotonic()
            space.call(*line.split())
            until(done)
            spans.append(time.monotonic() - began)
    assert statistics.median(spans) < 2.0, spans  # one alone may meet a machine that is busy with something else
