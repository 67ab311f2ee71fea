"""`keep_done` clears the files of jobs that ended long ago, and nothing else."""

import os
import sqlite3
from contextlib import asynccontextmanager, closing

import pytest
import trio

from pipeline import daemon
from pipeline import lifecycle as law
from pipeline.config import load_config
from pipeline.ending.clearing import Clearing
from pipeline.errors import IndexTrouble
from pipeline.tools.clock import now
from tests.support.index import HandClock, adopted, give_up, images_of, job, make, open_index
from tests.support.waiting import inline

DAY = 86_400_000
KEEP = 30 * 86_400.0


@asynccontextmanager
async def workspace(folder):
    """A job `old` that has ended and was filed, and the stage, 31 days later."""
    done = folder / "jobs/done"
    done.mkdir(parents=True)
    clock = HandClock()
    async with open_index(folder, clock) as ledger:
        await ledger.accept([job("old")])
        await adopted(ledger)
        await make(ledger, images_of(ledger, "old")[0])
        await ledger.filed("old")
        put(done, "old", clock.at)
        clock.at += 31 * DAY
        yield ledger, done, clock, Clearing(ledger, folder / "jobs", KEEP, clock=clock, run_sync=inline)


def put(done, job_id, at):
    (done / f"{job_id}.yaml").write_text("character: Mary")
    result = done / f"{job_id}.result.json"
    result.write_text(f'{{"success": true, "data": {{"jobId": "{job_id}"}}}}')
    dated(result, at)


def dated(path, at):
    os.utime(path, ns=(at * 1_000_000, at * 1_000_000))


def names(done):
    return sorted(path.name for path in done.iterdir())


async def test_what_is_older_goes_and_the_index_stays(tmp_path):
    async with workspace(tmp_path) as (ledger, done, _, clearing):
        assert await clearing.clear() == 2
        assert names(done) == []
        assert ledger.knows("old")
        assert [image.state.value for image in images_of(ledger, "old")] == ["done"]
        assert ledger.to_file(9) == []
        assert await clearing.clear() == 0


@pytest.mark.parametrize(("later", "left"), [(-1, 2), (0, 0)])
async def test_the_last_moment_counts(tmp_path, later, left):
    async with workspace(tmp_path) as (_, done, clock, clearing):
        clock.at += later - DAY
        await clearing.clear()
        assert len(names(done)) == left


async def test_a_result_that_a_retry_has_rewritten_is_young_again(tmp_path):
    async with workspace(tmp_path) as (_, done, clock, clearing):
        dated(done / "old.result.json", clock.at - DAY)
        assert await clearing.clear() == 0
        assert len(names(done)) == 2


async def test_nothing_of_anybody_else_is_touched(tmp_path):
    async with workspace(tmp_path) as (ledger, done, clock, clearing):
        at = clock.at - 31 * DAY
        put(done, "unknown", at)  # the index has no such job
        await ledger.accept([job("new"), job("young"), job("again"), job("unfiled")])
        await make(ledger, images_of(ledger, "young")[0])
        await ledger.filed("young")
        clock.at -= 31 * DAY
        for name in ("again", "unfiled"):
            image = await give_up(ledger, images_of(ledger, name)[0])
        await ledger.filed("again")
        await ledger.record(images_of(ledger, "again")[0], law.Retried())
        assert image.state.value == "placeholder"
        clock.at += 31 * DAY
        for name in ("new", "young", "again", "unfiled"):
            put(done, name, at)
        for name in ("old.txt", "notes.yaml", "old", ".old.yaml", "old.yaml~", "old-2.yaml", "old.error.txt"):
            (done / name).write_text("mine")
        (done / "folder.yaml").mkdir()
        before = set(names(done))
        assert await clearing.clear() == 2
        assert before - set(names(done)) == {"old.yaml", "old.result.json"}


async def test_links_folders_and_foreign_results_of_that_name_stay(tmp_path):
    async with workspace(tmp_path) as (_, done, _clock, clearing):
        elsewhere = tmp_path / "elsewhere.yaml"
        (done / "old.yaml").rename(elsewhere)
        (done / "old.yaml").symlink_to(elsewhere)
        (done / "old.result.json").write_text('{"data": {"jobId": "another"}}')
        assert await clearing.clear() == 0
        assert names(done) == ["old.result.json", "old.yaml"]
        assert elsewhere.exists()


async def test_what_only_half_went_before_a_crash_goes_at_the_next_look(tmp_path):
    async with workspace(tmp_path) as (_, done, _clock, clearing):
        (done / "old.yaml").unlink()
        assert await clearing.clear() == 1
        assert names(done) == []


async def test_a_workspace_without_that_folder_has_nothing_to_clear(tmp_path):
    async with workspace(tmp_path) as (ledger, _, clock, _clearing):
        assert await Clearing(ledger, tmp_path / "none", KEEP, clock=clock, run_sync=inline).clear() == 0


async def test_it_looks_at_the_start_and_every_hour_and_trouble_ends_nothing(tmp_path, autojump_clock, capsys):
    moments = []

    class Watched(Clearing):
        async def clear(self):
            moments.append(trio.current_time())
            if len(moments) == 2:
                raise IndexTrouble("the disk is gone")
            if len(moments) == 3:
                raise PermissionError(13, "Permission denied")
            return await super().clear()

    async with workspace(tmp_path) as (ledger, done, clock, _), trio.open_nursery() as nursery:
        nursery.start_soon(Watched(ledger, tmp_path / "jobs", KEEP, clock=clock, run_sync=inline).run)
        await trio.sleep(3 * 3600 + 1)
        nursery.cancel_scope.cancel()
    assert moments == [0.0, 3600.0, 7200.0, 10800.0]
    assert names(done) == []
    said = capsys.readouterr().out
    assert "done_cleared" in said
    assert "files=2" in said
    assert "the disk is gone" in said
    assert "Permission denied" in said


@pytest.mark.parametrize("keep", ["", "keep_done: 30d"])
async def test_the_daemon_clears_where_it_is_told_to(tmp_path, keep):
    (tmp_path / "pipeline.yaml").write_text(f"settle: 0\ngallery: {{enabled: false}}\n{keep}")
    config = load_config(tmp_path / "pipeline.yaml", environ={})
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/mary.yaml").write_text("{id: spring, character: Mary, prompt: x, width: 64, height: 64}")
    done, long_ago = tmp_path / "jobs/done", now() - 31 * DAY
    await daemon.run(config, once=True)
    assert names(done) == ["spring.result.json", "spring.yaml"]
    with closing(sqlite3.connect(config.state / "index.db")) as connection, connection:
        connection.execute("UPDATE jobs SET finished_at = ?", (long_ago,))
    dated(done / "spring.result.json", long_ago)
    stop = trio.Event()
    with trio.move_on_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: daemon.run(config, stop=stop))
            while keep and names(done):  # noqa: ASYNC110 - what happens in files rings no bell
                await trio.sleep(0.01)
            stop.set()
    assert len(names(done)) == (0 if keep else 2)
