"""The whole daemon on real files, threads and sockets; only what is far away is scripted."""

import os
import signal
from contextlib import asynccontextmanager

import httpx
import orjson
import pytest
import trio
from structlog.testing import capture_logs

from pipeline import daemon
from pipeline.catalogue import Catalogue
from pipeline.config import load_config
from pipeline.daemon import Outcome
from pipeline.errors import ConfigError, HeldElsewhere, StoreUnavailable
from pipeline.ledger import open_ledger
from pipeline.model import State
from pipeline.opening import Openers
from tests.support.scripted import ScriptedBackend, ScriptedStore
from tests.support.waiting import becomes

SKETCH = """
settle: 0
scan_interval: 0.1
gallery: {port: 0}
backends: {sketch: {type: sketch, concurrency: 2}}
"""


def configured(folder, text=SKETCH):
    (folder / "pipeline.yaml").write_text(text)
    (folder / "jobs").mkdir(exist_ok=True)
    return load_config(folder / "pipeline.yaml", environ={})


def drop(folder, name="mary.yaml", **keys):
    job = {"character": "Mary", "prompt": "in a garden", "width": 64, "height": 64} | keys
    (folder / "jobs").mkdir(exist_ok=True)
    (folder / "jobs" / name).write_bytes(orjson.dumps(job))


def scripted(backend, store=None):
    @asynccontextmanager
    async def open_scripted(config, pace):
        yield backend

    openers = {"backend": open_scripted}
    if store is not None:
        openers["store"] = lambda config, *, public_url: store
    return Openers(**openers)


def done(folder):
    return sorted(path.name for path in (folder / "jobs/done").iterdir())


def reasons(log):
    (told,) = [line["waits_for"] for line in log if "waits_for" in line]
    return told


async def test_once_works_off_what_is_there(tmp_path):
    config = configured(tmp_path)
    drop(tmp_path, quantity=3, id="spring")
    with trio.fail_after(20):
        outcome = await daemon.run(config, once=True)
    assert outcome == Outcome({State.DONE: 3}, rejected=0, waiting=False)
    assert outcome.exit_code == 0
    assert done(tmp_path) == ["spring.result.json", "spring.yaml"]
    assert len(list((tmp_path / "images/me/characters/mary/images").glob("*.png"))) == 3
    assert Catalogue(tmp_path / ".pipeline/index.db").verify() == []
    assert list((tmp_path / ".pipeline/spool").iterdir()) == []
    assert (tmp_path / ".pipeline").stat().st_mode & 0o777 == 0o700


async def test_once_with_nothing_to_do_ends_at_once(tmp_path):
    with trio.fail_after(5):
        assert (await daemon.run(configured(tmp_path), once=True)).exit_code == 0


class SlowToTell:
    """An index that has numbered jobs for a while before it says so."""

    def __init__(self, ledger):
        self._ledger = ledger

    def __getattr__(self, name):
        return getattr(self._ledger, name)

    async def adopt(self, *args):
        await self._ledger.adopt(*args)
        await trio.sleep(0.5)


async def test_once_does_not_end_between_numbering_a_job_and_starting_it(tmp_path):
    @asynccontextmanager
    async def slow(index):
        async with open_ledger(index) as ledger:
            yield SlowToTell(ledger)

    drop(tmp_path)
    with trio.fail_after(20):
        outcome = await daemon.run(configured(tmp_path), once=True, openers=Openers(ledger=slow))
    assert outcome == Outcome({State.DONE: 1}, rejected=0, waiting=False)


async def test_once_tells_of_rejected_files_and_of_placeholders(tmp_path):
    config = configured(tmp_path, SKETCH.replace("concurrency: 2", "fail_seeds: [7]"))
    drop(tmp_path, seed=7)
    (tmp_path / "jobs/broken.yaml").write_text("quantty: 1")
    with trio.fail_after(20):
        outcome = await daemon.run(config, once=True)
    assert outcome == Outcome({State.PLACEHOLDER: 1}, rejected=1, waiting=False)
    assert outcome.exit_code == 1


async def test_once_tells_of_a_file_that_could_be_neither_taken_nor_set_aside(tmp_path):
    drop(tmp_path)
    (tmp_path / "jobs/rejected").write_text("in the way")
    (tmp_path / "jobs/broken.yaml").write_text("quantty: 1")
    with trio.fail_after(20):
        outcome = await daemon.run(configured(tmp_path), once=True, patience=0.5)
    assert outcome == Outcome({State.DONE: 1}, rejected=0, waiting=True)
    assert outcome.exit_code == 1


async def test_once_gives_up_waiting_for_a_back_end_that_is_down(tmp_path):
    pod = ScriptedBackend()
    pod.down = "stopped"
    drop(tmp_path)
    with trio.fail_after(20), capture_logs() as log:
        outcome = await daemon.run(configured(tmp_path), once=True, patience=0.5, openers=scripted(pod))
    assert outcome == Outcome({}, rejected=0, waiting=True)
    assert outcome.exit_code == 1
    assert reasons(log) == ["back end sketch is down: stopped"]
    pod.down = None
    with trio.fail_after(20):
        assert (await daemon.run(configured(tmp_path), once=True, openers=scripted(pod))).exit_code == 0


async def test_once_gives_up_waiting_for_a_store_that_is_down(tmp_path):
    store = ScriptedStore()
    away = StoreUnavailable("503", code="http_503")
    store.on_listing.extend([away] * 9)
    drop(tmp_path)
    with trio.fail_after(20), capture_logs() as log:
        outcome = await daemon.run(
            configured(tmp_path), once=True, patience=0.3, openers=scripted(ScriptedBackend(takes=0.1), store)
        )
    assert outcome.waiting
    assert reasons(log) == ["the store cannot be listed for what it holds already: 503"]
    store.on_listing.clear()
    store.on_put.extend([away] * 9)
    with trio.fail_after(20), capture_logs() as log:
        outcome = await daemon.run(
            configured(tmp_path), once=True, patience=0.3, openers=scripted(ScriptedBackend(takes=0.1), store)
        )
    assert outcome.waiting
    assert reasons(log) == ["store: 503"]


async def test_once_gives_up_waiting_for_a_disk_that_takes_nothing(tmp_path):
    pod = ScriptedBackend(takes=0.5)
    drop(tmp_path)

    async def spoil():
        await becomes(lambda: pod.starts)
        (tmp_path / ".pipeline/spool").rmdir()
        (tmp_path / ".pipeline/spool").write_text("in the way")

    with trio.fail_after(20), capture_logs() as log:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spoil)
            outcome = await daemon.run(configured(tmp_path), once=True, patience=0.5, openers=scripted(pod))
    assert outcome.waiting
    (reason,) = reasons(log)
    assert reason.startswith("disk: the spool cannot be used")


async def test_credentials_that_a_store_refuses_cost_no_gpu_time(tmp_path):
    store, backend = ScriptedStore(), ScriptedBackend(takes=0.1)
    store.on_probe.extend([StoreUnavailable("401", code="credentials", credentials=True)] * 9)
    drop(tmp_path)
    with trio.fail_after(20):
        outcome = await daemon.run(configured(tmp_path), once=True, patience=0.3, openers=scripted(backend, store))
    assert outcome.waiting
    assert backend.starts == []


async def test_it_serves_and_takes_files_until_a_signal(tmp_path):
    config = configured(tmp_path)
    outcomes = []

    async def work(*, task_status):
        outcomes.append(await daemon.run(config, started=task_status.started))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            started = await nursery.start(work)
            token = started.tokens.lend(None, seconds=60)
            drop(tmp_path, quantity=2, id="j")
            result = tmp_path / "jobs/done/j.result.json"
            await becomes(result.exists)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{started.port}") as client:
                assert (await client.get("/readyz")).status_code == 200
                answer = await client.get(
                    "/api/image-generation/character/mary", headers={"Authorization": f"Bearer {token}"}
                )
            assert {image["number"] for image in answer.json()["data"]["images"]} == {1, 2}
            os.kill(os.getpid(), signal.SIGTERM)
    assert outcomes == [Outcome({State.DONE: 2}, rejected=0, waiting=False)]
    assert orjson.loads(result.read_bytes())["success"]


async def test_a_second_signal_ends_at_once(tmp_path):
    slow = ScriptedBackend(takes=60.0, at_once=True)
    drop(tmp_path)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: daemon.run(configured(tmp_path), openers=scripted(slow)))
            await becomes(lambda: slow.starts)
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep(0.1)
            began = trio.current_time()
            os.kill(os.getpid(), signal.SIGINT)
        assert trio.current_time() - began < 3


async def test_once_ends_at_a_signal_while_the_folder_cannot_be_used(tmp_path):
    config = configured(tmp_path)
    drop(tmp_path)
    (tmp_path / "jobs/active").write_text("no folder")
    outcomes = []

    async def work():
        outcomes.append(await daemon.run(config, once=True))

    with capture_logs() as log, trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await becomes(lambda: any(line["log_level"] == "error" for line in log))
            os.kill(os.getpid(), signal.SIGTERM)
    assert outcomes == [Outcome(waiting=True)]
    assert (tmp_path / "jobs/mary.yaml").exists()


async def test_a_second_daemon_is_told_who_holds_the_folders(tmp_path):
    config = configured(tmp_path)
    stop = trio.Event()

    async def work(*, task_status):
        await daemon.run(config, stop=stop, started=task_status.started)

    async with trio.open_nursery() as nursery:
        await nursery.start(work)
        with pytest.raises(HeldElsewhere, match=str(os.getpid())):
            await daemon.run(config)
        stop.set()


async def test_a_gallery_open_to_the_network_needs_a_token_first(tmp_path):
    config = configured(tmp_path, SKETCH.replace("{port: 0}", "{port: 0, host: 0.0.0.0}"))
    with pytest.raises(ConfigError, match="pipeline token create"):
        await daemon.run(config)


async def test_a_taken_port_is_said_before_anything_starts(tmp_path):
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        drop(tmp_path)
        with pytest.raises(ConfigError, match="set another port"):
            await daemon.run(configured(tmp_path, SKETCH.replace("port: 0", f"port: {port}")))
    assert (tmp_path / "jobs/mary.yaml").exists()
