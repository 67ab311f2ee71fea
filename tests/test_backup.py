"""Copies of the index: consistent while it is written to, never over another file, and good for a new start."""

import sqlite3
import stat
from contextlib import closing

import orjson
import pytest
import trio
import trio.lowlevel
from click.testing import CliRunner

from pipeline import daemon
from pipeline.backing_up import NotBackedUp, back_up
from pipeline.catalogue import Catalogue
from pipeline.cli import main
from pipeline.config import load_config
from pipeline.errors import IndexTrouble
from pipeline.ledger import open_ledger
from tests.support.index import adopted, job, make, open_index

CONFIG = "settle: 0\ngallery: {enabled: false}\nstore: {type: local}\nbackends: {sketch: {type: sketch}}\n"


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PIPELINE_CONFIG", raising=False)
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    (tmp_path / "jobs").mkdir()
    return tmp_path


def call(*words):
    return CliRunner().invoke(main, list(words), prog_name="pipeline")


async def work_off(folder, name):
    said = {"character": "Mary", "prompt": "in a garden", "width": 64, "height": 64, "quantity": 2}
    (folder / "jobs" / f"{name}.json").write_bytes(orjson.dumps(said | {"id": name}))
    return await daemon.run(load_config(folder / "pipeline.yaml", environ={}), once=True, patience=0.1)


def numbers(path):
    with closing(Catalogue(path)) as catalogue:
        assert catalogue.verify() == []
        return [row.number for row in catalogue.page("mary").rows]


async def test_a_copy_put_back_is_a_whole_index_that_goes_on(workspace):
    await work_off(workspace, "a")
    index, copy = workspace / ".pipeline/index.db", workspace / "copy.db"
    assert back_up(index, copy) == copy.stat().st_size
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    for file in index.parent.glob("index.db*"):
        file.unlink()
    copy.rename(index)
    await work_off(workspace, "b")
    assert sorted(numbers(index)) == [1, 2, 3, 4]
    assert (await work_off(workspace, "a")).exit_code == 0
    assert len(list((workspace / "jobs/duplicate").iterdir())) == 1


async def test_a_copy_made_while_the_ledger_writes_is_of_one_moment(tmp_path):
    copies = []
    async with open_index(tmp_path) as ledger:
        await adopted(ledger, "me")
        await ledger.accept([job("a", quantity=30)])

        async def copying():
            for n in range(6):
                copy = tmp_path / f"copy{n}.db"
                await trio.to_thread.run_sync(back_up, tmp_path / "index.db", copy)
                copies.append(copy)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(copying)
            for image in ledger.planned("a", 30):
                await make(ledger, image)
                await trio.lowlevel.checkpoint()
    assert all(stamp == sorted(stamp, reverse=True) for stamp in map(numbers, copies))
    back_up(tmp_path / "index.db", tmp_path / "last.db")
    assert len(numbers(tmp_path / "last.db")) == 30


async def test_what_is_only_in_the_write_ahead_log_is_copied(tmp_path):
    async with open_ledger(tmp_path / "index.db") as ledger:
        await ledger.accept([job("a")])
        back_up(tmp_path / "index.db", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db-wal").exists()
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert copy.execute("SELECT id FROM jobs").fetchall() == [("a",)]


async def test_no_file_is_replaced_not_even_a_dangling_link(tmp_path):
    async with open_index(tmp_path):
        pass
    standing, link = tmp_path / "mine.db", tmp_path / "link.db"
    standing.write_text("precious")
    link.symlink_to(tmp_path / "nowhere")
    for target in (standing, link):
        with pytest.raises(NotBackedUp, match="is there already"):
            back_up(tmp_path / "index.db", target)
    assert standing.read_text() == "precious"
    with pytest.raises(NotBackedUp, match="No such file or directory"):
        back_up(tmp_path / "index.db", tmp_path / "no/such/folder.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.db", "link.db", "mine.db"]


def test_what_is_no_index_is_not_copied(tmp_path):
    target = tmp_path / "copy.db"
    with pytest.raises(IndexTrouble, match="no index to back up"):
        back_up(tmp_path / "none.db", target)
    (tmp_path / "text.db").write_text("this is no database at all" * 100)
    with pytest.raises(IndexTrouble, match="cannot be copied"):
        back_up(tmp_path / "text.db", target)
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(IndexTrouble, match="another program's"):
        back_up(tmp_path / "other.db", target)
    assert not target.exists()


async def test_a_damaged_index_is_told_instead_of_copied(tmp_path):
    async with open_index(tmp_path) as ledger:
        await adopted(ledger, "me")
        await ledger.accept([job("a", quantity=200)])
    data = bytearray((tmp_path / "index.db").read_bytes())
    with closing(sqlite3.connect(tmp_path / "index.db")) as index:
        (page,) = index.execute("SELECT rootpage FROM sqlite_master WHERE name = 'images_page'").fetchone()
    data[(page - 1) * 4096 + 8 : (page - 1) * 4096 + 200] = bytes(192)
    (tmp_path / "index.db").write_bytes(data)
    with pytest.raises(IndexTrouble, match="is damaged"):
        back_up(tmp_path / "index.db", tmp_path / "copy.db")
    assert not list(tmp_path.glob("copy*"))
    assert not list(tmp_path.glob(".*"))


async def test_the_command_says_where_and_how_large(workspace):
    missing = call("backup", "x.db")
    assert missing.exit_code == 1
    assert "no index to back up" in missing.output
    async with open_index(workspace / "."):
        pass
    (workspace / ".pipeline").mkdir(exist_ok=True)
    (workspace / "index.db").rename(workspace / ".pipeline/index.db")
    told = orjson.loads(call("backup", "x.db", "--json").stdout)
    assert told == {"file": str(workspace / "x.db"), "bytes": (workspace / "x.db").stat().st_size}
    again = call("backup", "x.db")
    assert again.exit_code == 2
    assert "is not replaced" in again.output
    assert "y.db" in call("backup", "y.db").output
