import subprocess
import sys

import pytest
import trio

from pipeline.errors import SpoolTrouble
from pipeline.spool import FRESH, Spool
from tests.support.waiting import inline


def make(tmp_path, **options):
    return Spool(tmp_path / "spool", tmp_path / "kept", run_sync=options.pop("run_sync", inline), **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


async def test_what_was_written_is_read_after_a_restart(tmp_path):
    await make(tmp_path).write("1-a.img", b"bytes")
    again = make(tmp_path)
    assert await again.read("1-a.img") == b"bytes"
    assert again.total == 5


async def test_a_second_write_under_a_name_replaces_the_first(tmp_path):
    spool = make(tmp_path)
    await spool.write("1-a.img", b"bytes")
    await spool.write("1-a.img", b"other bytes")
    assert await spool.read("1-a.img") == b"other bytes"
    assert spool.total == 11


async def test_what_passed_its_examination_is_read_from_memory_once_and_from_the_disk_after_that(tmp_path):
    hops = []

    async def counted(function, *args):
        hops.append(function)
        return await inline(function, *args)

    spool = make(tmp_path, run_sync=counted)
    assert await spool.write_examined("1-a.img", b"bytes", len) == 5
    assert (tmp_path / "spool/1-a.img").read_bytes() == b"bytes"
    assert await spool.read("1-a.img") == b"bytes"
    assert len(hops) == 1
    assert await spool.read("1-a.img") == b"bytes"
    assert len(hops) == 2
    assert spool.total == 5


async def test_what_does_not_pass_leaves_nothing(tmp_path):
    spool = make(tmp_path)
    with pytest.raises(ZeroDivisionError):
        await spool.write_examined("1-a.img", b"bytes", lambda data: len(data) / 0)
    assert names(tmp_path / "spool") == []
    assert spool.total == 0


async def test_memory_holds_the_newest_files_up_to_a_bound_and_nothing_that_is_gone(tmp_path):
    spool = make(tmp_path)
    third = bytes(FRESH // 3 + 1)
    for name in ("1-a.img", "2-b.img", "3-c.img"):
        await spool.write_examined(name, third, len)
    for name in ("1-a.img", "2-b.img", "3-c.img"):
        (tmp_path / "spool" / name).unlink()
    with pytest.raises(SpoolTrouble):  # the oldest had to make room, so only the disk had it
        await spool.read("1-a.img")
    await spool.drop("3-c.img")
    with pytest.raises(SpoolTrouble):
        await spool.read("3-c.img")
    assert await spool.read("2-b.img") == third


async def test_the_total_follows_every_way_in_and_out(tmp_path):
    spool = make(tmp_path, limit=12)
    await spool.write("1-a.img", b"12345")
    await spool.write("2-b.img", b"1234567")
    assert (spool.total, spool.full) == (12, True)
    await spool.drop("1-a.img")
    await spool.drop("1-a.img")
    assert (spool.total, spool.full) == (7, False)
    await spool.keep("2-b.img")
    assert spool.total == 0
    assert await spool.kept() == {"2-b.img": 7}
    await spool.bring_back("2-b.img")
    assert spool.total == 7
    assert await spool.kept() == {}
    assert await spool.read("2-b.img") == b"1234567"


async def test_keeping_twice_is_what_a_crash_before_the_record_does(tmp_path):
    spool = make(tmp_path)
    await spool.write("1-a.img", b"bytes")
    await spool.keep("1-a.img")
    await make(tmp_path).keep("1-a.img")
    await spool.bring_back("1-a.img")
    await spool.bring_back("1-a.img")
    assert spool.total == 5


async def test_a_sweep_leaves_what_a_row_needs_and_nothing_else(tmp_path):
    spool = make(tmp_path)
    for name in ("1-a.img", "2-b.img", "3-c.img"):
        await spool.write(name, b"bytes")
    (tmp_path / "spool" / ".0123.tmp").write_bytes(b"half")
    spool = make(tmp_path)
    assert await spool.sweep({"2-b.img", "9-gone.img"}) == [".0123.tmp", "1-a.img", "3-c.img"]
    assert names(tmp_path / "spool") == ["2-b.img"]
    assert spool.total == 5


async def test_folders_and_files_are_for_their_owner_alone(tmp_path):
    spool = make(tmp_path)
    await spool.write("1-a.img", b"bytes")
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "spool" / "1-a.img").stat().st_mode & 0o777 == 0o600


async def test_a_folder_that_went_missing_is_made_again(tmp_path):
    spool = make(tmp_path)
    (tmp_path / "spool").rmdir()
    await spool.write("1-a.img", b"bytes")
    assert await spool.read("1-a.img") == b"bytes"


@pytest.mark.parametrize("call", ["read", "keep", "bring_back"])
async def test_lost_bytes_are_told_from_a_disk_in_trouble(tmp_path, call):
    with pytest.raises(SpoolTrouble, match=r"1-a\.img could not be .* not there") as caught:
        await getattr(make(tmp_path), call)("1-a.img")
    assert caught.value.lost


@pytest.mark.parametrize("name", ["", ".hidden", "../out", "a/b", "a\0b", "/etc/passwd"])
async def test_a_name_never_leaves_the_folder(tmp_path, name):
    with pytest.raises(ValueError, match="no name"):
        await make(tmp_path).write(name, b"bytes")


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(SpoolTrouble, match="could not be opened") as caught:
        make(tmp_path)
    assert not caught.value.lost


FULL_DISK = """
import resource, signal, sys, pathlib, trio
from pipeline.errors import SpoolTrouble
from pipeline.spool import FRESH, Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = Spool(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
async def main():
    try:
        await spool.write("1-a.img", b"x" * 300_000)
    except SpoolTrouble as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(spool.total)
    await spool.write("1-a.img", b"x" * 300_000)
    print(spool.total)
trio.run(main)
"""


def test_a_disk_without_room_leaves_nothing_half_written_and_recovers(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "spool", tmp_path / "kept"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told, before, after = ran.stdout.splitlines()
    assert "1-a.img could not be written: File too large; make room" in told
    assert (before, after) == ("0", "300000")
    assert names(tmp_path / "spool") == ["1-a.img"]


async def test_a_write_in_a_thread_is_not_torn_by_cancellation(tmp_path):
    spool = make(tmp_path, run_sync=trio.to_thread.run_sync)
    with trio.move_on_after(0) as scope:
        await spool.write("1-a.img", b"bytes")
    assert scope.cancelled_caught
    assert names(tmp_path / "spool") == []
    await spool.write("1-a.img", b"bytes")
    assert await spool.read("1-a.img") == b"bytes"
