import orjson
import pytest
import trio

from pipeline.ending.filing import Filing
from pipeline.errors import IndexTrouble
from pipeline.ledger import open_ledger
from pipeline.lifecycle import Removed
from tests.support.index import images_of
from tests.support.scripted import ScriptedBackend, ScriptedStore, house, job, reading
from tests.support.waiting import inline


def filed(folder, name="j1.result.json"):
    return orjson.loads((folder / "jobs/done" / name).read_bytes())


async def ended(folder, home, **changes):
    """A job that has ended, its result not filed yet."""
    home.stages.filing.file = _later
    await home.accept(job(**changes))
    await trio.sleep(5)
    assert home.ledger.to_file(9) == ["j1"]
    return Filing(home.ledger, home.parts.catalogue, folder / "jobs", run_sync=inline)


async def _later(job_id):
    await trio.sleep_forever()


async def test_the_job_file_moves_and_its_result_stands_beside_it(tmp_path, autojump_clock):
    async with house(tmp_path, {"pod": ScriptedBackend()}) as home:
        filing = await ended(tmp_path, home, images=2)
        await filing.file("j1")
        assert home.ledger.to_file(9) == []
    result = filed(tmp_path)
    assert result["success"]
    assert result["data"]["jobId"] == "j1"
    assert [image["status"] for image in result["data"]["images"]] == ["done", "done"]
    assert sorted(path.name for path in (tmp_path / "jobs/done").iterdir()) == ["j1.result.json", "j1.yaml"]
    assert list((tmp_path / "jobs/active").iterdir()) == []


async def test_filing_a_second_time_changes_nothing(tmp_path, autojump_clock):
    async with house(tmp_path, {"pod": ScriptedBackend()}) as home:
        filing = await ended(tmp_path, home)
        await filing.file("j1")
        before = (tmp_path / "jobs/done/j1.result.json").read_bytes()
        await filing.file("j1")
    assert (tmp_path / "jobs/done/j1.result.json").read_bytes() == before
    assert len(list((tmp_path / "jobs/done").iterdir())) == 2


async def test_a_job_file_removed_from_active_changes_nothing(tmp_path, autojump_clock):
    async with house(tmp_path, {"pod": ScriptedBackend()}) as home:
        filing = await ended(tmp_path, home)
        (tmp_path / "jobs/active/j1.yaml").unlink()
        await filing.file("j1")
    assert [path.name for path in (tmp_path / "jobs/done").iterdir()] == ["j1.result.json"]


@pytest.mark.parametrize("foreign", [b"mine", b'{"data": {"jobId": "other"}}', b"[1]", b'{"data": 3}'])
async def test_files_of_others_in_done_are_never_replaced(tmp_path, autojump_clock, foreign):
    done = tmp_path / "jobs/done"
    async with house(tmp_path, {"pod": ScriptedBackend()}) as home:
        filing = await ended(tmp_path, home)
        (done / "j1.yaml").write_bytes(foreign)
        (done / "j1.result.json").write_bytes(foreign)
        await filing.file("j1")
    assert (done / "j1.yaml").read_bytes() == foreign
    assert (done / "j1.result.json").read_bytes() == foreign
    assert (done / "j1-2.yaml").read_text() == "j1"
    assert filed(tmp_path, "j1-2.result.json")["data"]["jobId"] == "j1"


async def test_a_link_or_a_folder_of_that_name_is_left_alone(tmp_path, autojump_clock):
    done = tmp_path / "jobs/done"
    async with house(tmp_path, {"pod": ScriptedBackend()}) as home:
        filing = await ended(tmp_path, home)
        (done / "j1.result.json").symlink_to(tmp_path / "elsewhere")
        (done / "j1-2.result.json").mkdir()
        await filing.file("j1")
    assert not (tmp_path / "elsewhere").exists()
    assert filed(tmp_path, "j1-3.result.json")["success"]


async def test_what_happens_while_a_result_is_written_makes_it_due_again(tmp_path, autojump_clock):
    async with house(tmp_path, {"pod": ScriptedBackend()}) as home:
        filing = await ended(tmp_path, home)
        (image,) = images_of(home.ledger, "j1")

        async def meanwhile(function, *args):
            function(*args)
            await home.ledger.record(image, Removed())

        filing._run_sync = meanwhile
        await filing.file("j1")
        assert home.ledger.to_file(9) == ["j1"]
        filing._run_sync = inline
        await filing.file("j1")
        assert home.ledger.to_file(9) == []
    assert [image["status"] for image in filed(tmp_path)["data"]["images"]] == ["removed"]
    assert not filed(tmp_path)["success"]


async def test_a_full_disk_is_waited_out_and_said_once(tmp_path, autojump_clock, capsys):
    async with house(tmp_path, {"pod": ScriptedBackend(takes=1.0)}, ScriptedStore()) as home:
        tries = []

        async def full(function, *args):
            tries.append(trio.current_time())
            if len(tries) < 4:
                raise OSError(28, "No space left on device")
            function(*args)

        home.stages.filing._run_sync = full
        await home.accept(job("a"), job("b", seed=9))
        await trio.sleep(1.5)
        assert "No space left on device" in home.stages.filing.trouble
        await home.settled()
        assert home.stages.filing.trouble is None
    assert filed(tmp_path, "a.result.json")["success"]
    assert filed(tmp_path, "b.result.json")["success"]
    assert capsys.readouterr().out.count("filing_stuck") == 1


async def test_an_index_that_cannot_be_read_is_waited_out(tmp_path, autojump_clock):
    async with house(tmp_path, {"pod": ScriptedBackend()}) as home:
        to_file, fails = home.ledger.to_file, [1, 2]

        def unreadable(limit):
            if fails:
                fails.pop()
                raise IndexTrouble("disk I/O error")
            return to_file(limit)

        home.ledger.to_file = unreadable
        await home.accept(job())
        await trio.sleep(1.5)
        assert home.stages.filing.trouble == "disk I/O error"
        await home.settled()
        assert home.stages.filing.trouble is None
    assert filed(tmp_path)["success"]


async def test_a_job_that_the_index_does_not_know_any_more_is_not_filed(tmp_path, autojump_clock):
    async with house(tmp_path, {"pod": ScriptedBackend()}) as home:
        await ended(tmp_path, home)
        async with open_ledger(tmp_path / "empty.db", run_sync=inline), reading(tmp_path / "empty.db") as empty:
            filing = Filing(home.ledger, empty, tmp_path / "jobs", run_sync=inline)
            with pytest.raises(IndexTrouble, match="pipeline verify"):
                await filing.file("j1")
    assert not (tmp_path / "jobs/done/j1.result.json").exists()
