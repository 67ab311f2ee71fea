"""The loop: when it looks, what it hears, and what it does where it hears nothing."""

import errno
import subprocess
import sys
import threading

import pytest
import structlog
import trio
from watchdog.events import FileClosedEvent

from pipeline.inbox.disk import Disk
from pipeline.inbox.door import EARS_TRIED_AGAIN, MANY
from pipeline.inbox.watching import MOST_HEARD, Ears, make_observer
from tests.support.door import open_stand, someone_writing, spec
from tests.support.waiting import becomes

LONG = 3_600.0  # seconds between scans, where only what is heard can explain that a file was taken
BAD = "character: Mary\nprompt: x\nquantty: 3\n"


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as lines:
        yield lines


class Notification:
    """Gives out observers, or none, as with all inotify instances in use."""

    def __init__(self, *, works: bool = True):
        self.works = works
        self.asked = []

    def __call__(self):
        self.asked.append(trio.current_time())
        if not self.works:
            raise OSError(errno.EMFILE, "inotify instance limit reached")
        return make_observer()


# -- without notification, in virtual time


async def test_without_notification_the_scan_carries_on_and_says_so(autojump_clock, tmp_path, log):
    disk = Disk(leases=True, observer=Notification(works=False))
    async with open_stand(tmp_path, scan_interval=2, disk=disk) as stand, trio.open_nursery() as nursery:
        await nursery.start(stand.inbox.run)
        await trio.sleep(1)
        stand.put("a.yaml")
        await trio.sleep(0.99)
        assert stand.accepted == []
        await trio.sleep(0.02)
        assert len(stand.accepted) == 1
        assert not stand.inbox.watching
        assert stand.inbox.deaf == "file notification cannot be had: inotify instance limit reached"
        nursery.cancel_scope.cancel()
    told = [line for line in log if line["event"] == "new files are found by scanning alone"]
    assert [line["reason"] for line in told] == ["file notification cannot be had: inotify instance limit reached"]


async def test_notification_is_asked_for_again_now_and_then(autojump_clock, tmp_path, log):
    notification = Notification(works=False)
    disk = Disk(leases=True, observer=notification)
    async with open_stand(tmp_path, scan_interval=2, disk=disk) as stand, trio.open_nursery() as nursery:
        start = trio.current_time()
        await nursery.start(stand.inbox.run)
        await trio.sleep(EARS_TRIED_AGAIN + 1)
        assert [asked - start for asked in notification.asked] == [0, EARS_TRIED_AGAIN]
        notification.works = True
        await trio.sleep(EARS_TRIED_AGAIN)
        assert stand.inbox.watching
        assert stand.inbox.deaf is None
        nursery.cancel_scope.cancel()
    assert [line["event"] for line in log if "notification" in line["event"]] == ["file notification works again"]


async def test_a_settled_file_is_dealt_with_on_time_not_at_the_next_scan(autojump_clock, tmp_path):
    disk = Disk(leases=False, observer=Notification(works=False))
    async with open_stand(tmp_path, settle=0.5, scan_interval=60, disk=disk) as stand, trio.open_nursery() as nursery:
        stand.put("a.yaml")
        await nursery.start(stand.inbox.run)
        await trio.sleep(0.49)
        assert stand.accepted == []
        await trio.sleep(0.02)
        assert len(stand.accepted) == 1
        nursery.cancel_scope.cancel()


async def test_a_file_in_active_settles_on_time_too(autojump_clock, tmp_path):
    disk = Disk(leases=True, observer=Notification(works=False))
    async with open_stand(tmp_path, settle=0.5, scan_interval=60, disk=disk) as stand, trio.open_nursery() as nursery:
        (stand.jobs / "active").mkdir()
        (stand.jobs / "active/20250728-120000-mary-ab12.yaml").write_text(BAD)
        await nursery.start(stand.inbox.run)
        await trio.sleep(0.51)
        assert stand.inbox.totals.rejected == 1
        nursery.cancel_scope.cancel()


async def test_trouble_is_waited_out_until_the_next_scan_without_spinning(autojump_clock, tmp_path):
    flushed = []

    def flush(folder):
        flushed.append(trio.current_time())
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    disk = Disk(leases=False, flush=flush, observer=Notification(works=False))
    async with open_stand(tmp_path, settle=0.5, scan_interval=2, disk=disk) as stand, trio.open_nursery() as nursery:
        stand.put("a.yaml")
        start = trio.current_time()
        await nursery.start(stand.inbox.run)
        await trio.sleep(7)
        assert [moment - start for moment in flushed] == pytest.approx([0.5, 2.5, 4.5, 6.5], abs=0.51)
        assert "No space left on device" in stand.inbox.hindrance
        nursery.cancel_scope.cancel()


async def test_draining_waits_for_writers_only_as_long_as_it_is_told(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        stand.put("a.yaml")
        with someone_writing(stand.jobs / "b.yaml", "character: Mary\n"):
            start = trio.current_time()
            result = await stand.inbox.drain(patience=10)
            assert (result.taken, result.written) == (1, 1)
            assert trio.current_time() - start == pytest.approx(10, abs=0.6)


async def test_draining_an_empty_folder_takes_no_time(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        start = trio.current_time()
        assert (await stand.inbox.drain(patience=10)).left == 0
        assert trio.current_time() == start


async def test_two_passes_at_once_take_turns(autojump_clock, tmp_path):
    async def slowly(call, *args):
        answer = call(*args)
        await trio.sleep(1)
        return answer

    async with open_stand(tmp_path, run_sync=slowly) as stand, trio.open_nursery() as nursery:
        for name in "abc":
            stand.put(f"{name}.yaml", spec(name))
        nursery.start_soon(stand.inbox.scan)
        nursery.start_soon(stand.inbox.scan)
    async with open_stand(tmp_path) as stand:
        assert stand.prompts() == ["a", "b", "c"]


# -- with the kernel's notification, in real time


@pytest.fixture
async def listening(tmp_path):
    """An inbox that scans once at the start and then for an hour hears only."""
    async with (
        open_stand(tmp_path, run_sync=trio.to_thread.run_sync, scan_interval=LONG, settle=0.05) as stand,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(stand.inbox.run)
        await becomes(lambda: stand.inbox.watching and stand.inbox.totals.passes >= 2)
        yield stand
        nursery.cancel_scope.cancel()


async def test_a_file_renamed_into_the_folder_is_heard_of(listening):
    listening.put("a.yaml")
    await becomes(lambda: listening.accepted)


async def test_a_file_that_another_program_writes_in_place_is_taken_when_it_is_closed(listening):
    script = (
        "import sys; file = open(sys.argv[1], 'w'); file.write('character: Mary\\n'); file.flush(); print(flush=True);"
        "sys.stdin.readline(); file.write('prompt: all of it\\n'); file.close()"
    )
    before = listening.inbox.totals.passes
    command = [sys.executable, "-c", script, str(listening.jobs / "a.yaml")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:  # noqa: ASYNC220  # waits for no more than its first line
        writer.stdout.readline()
        await becomes(lambda: listening.inbox.totals.passes > before)
        assert listening.accepted == []
        print(file=writer.stdin, flush=True)
        await becomes(lambda: listening.accepted)
    assert listening.prompts() == ["all of it"]


async def test_a_hard_link_into_the_folder_is_heard_of(listening):
    elsewhere = listening.jobs.parent / "a.yaml"
    elsewhere.write_text(spec())
    (listening.jobs / "a.yaml").hardlink_to(elsewhere)
    await becomes(lambda: listening.accepted)


async def test_a_bad_file_is_set_aside_soon_after_it_is_heard_of(listening):
    listening.put("a.yaml", BAD)
    await becomes(lambda: listening.inbox.totals.rejected)


async def test_where_leases_tell_nothing_a_closed_file_need_not_settle(tmp_path):
    async with (
        open_stand(
            tmp_path,
            run_sync=trio.to_thread.run_sync,
            scan_interval=LONG,
            settle=LONG,
            disk=Disk(leases=False),
        ) as stand,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(stand.inbox.run)
        await becomes(lambda: stand.inbox.watching)
        (stand.jobs / "closed.yaml").write_text(spec("closed"))
        stand.put("moved.yaml", spec("moved"))
        await becomes(lambda: len(stand.accepted) == 2)
        (stand.jobs.parent / "made.yaml").write_text(spec("made"))
        (stand.jobs / "made.yaml").hardlink_to(stand.jobs.parent / "made.yaml")  # nobody closes or renames this one
        (stand.jobs / "moved.yaml").write_text(spec("second"))
        await becomes(lambda: len(stand.accepted) == 3)
        assert stand.waiting() == ["made.yaml"]
        nursery.cancel_scope.cancel()


async def test_a_deleted_folder_is_made_again_and_listened_to_again(tmp_path):
    options = {"run_sync": trio.to_thread.run_sync, "scan_interval": 0.2}
    async with open_stand(tmp_path, **options) as stand, trio.open_nursery() as nursery:
        await nursery.start(stand.inbox.run)
        await becomes(lambda: stand.inbox.watching)
        stand.jobs.rename(tmp_path / "moved-away")
        await becomes(lambda: stand.jobs.is_dir() and stand.inbox.watching)
        await becomes(lambda: not stand.inbox._ears.deaf())
        stand.put("a.yaml")
        await becomes(lambda: stand.accepted)
        nursery.cancel_scope.cancel()


async def test_a_flood_is_worked_off_without_listening_to_it(tmp_path):
    files = MOST_HEARD + 200
    looking, dropped = trio.Event(), trio.Event()

    async def gated(call, *args):
        if call.__name__ == "_look":
            looking.set()
            await dropped.wait()
        return await trio.to_thread.run_sync(call, *args)

    async with open_stand(tmp_path, run_sync=gated, scan_interval=LONG) as stand, trio.open_nursery() as nursery:
        await nursery.start(stand.inbox.run)
        await becomes(lambda: stand.inbox.watching and stand.inbox.totals.passes >= 2)
        ears = stand.inbox._ears
        for n in range(files):
            stand.put(f"{n}.yaml", spec(f"p{n}"))
            if n == 0:
                await looking.wait()
        await becomes(lambda: len(ears._heard) == MOST_HEARD and not stand.inbox.watching)
        dropped.set()
        await becomes(lambda: len(stand.accepted) == files)
        await becomes(lambda: stand.inbox.watching)
        assert sorted(stand.prompts()) == sorted(f"p{n}" for n in range(files))
        nursery.cancel_scope.cancel()


async def test_many_files_waiting_at_the_start_are_taken_before_listening_begins(tmp_path):
    async with open_stand(tmp_path, run_sync=trio.to_thread.run_sync, scan_interval=LONG) as stand:
        for n in range(MANY):
            stand.put(f"{n}.yaml")
        async with trio.open_nursery() as nursery:
            await nursery.start(stand.inbox.run)
            await becomes(lambda: stand.inbox.watching)
            assert len(stand.accepted) == MANY
            nursery.cancel_scope.cancel()


async def test_listening_ends_with_the_loop_and_leaves_no_thread_behind(tmp_path):
    before = set(threading.enumerate())
    async with open_stand(tmp_path) as stand:
        async with trio.open_nursery() as nursery:
            await nursery.start(stand.inbox.run)
            await becomes(lambda: stand.inbox.watching)
            assert set(threading.enumerate()) > before
            nursery.cancel_scope.cancel()
        assert not stand.inbox.watching
    assert set(threading.enumerate()) == before


async def test_an_event_after_the_end_wakes_nobody(tmp_path):
    ears = await trio.to_thread.run_sync(lambda: trio.run(_ears_of_another_run, tmp_path))
    ears.hear(FileClosedEvent(str(tmp_path / "a.yaml")))


async def _ears_of_another_run(folder):
    return Ears(folder, make_observer)


async def test_what_cannot_be_listened_to_is_told_with_its_reason(tmp_path):
    (tmp_path / "file").write_text("x")
    ears = Ears(tmp_path / "file/jobs", make_observer)
    ears.open()
    assert ears.deaf()
    assert ears.reason == "file notification cannot be had: Not a directory"


async def test_a_folder_that_is_missing_for_a_moment_is_no_reason_to_stop_asking(tmp_path):
    ears = Ears(tmp_path / "jobs", make_observer)
    ears.open()
    assert (ears.deaf(), ears.reason) == (True, None)
    (tmp_path / "jobs").mkdir()
    ears.open()
    assert not ears.deaf()
    ears.close()


async def test_a_folder_that_vanishes_while_listening_begins_leaves_no_thread_behind(tmp_path):
    folder = tmp_path / "jobs"
    folder.mkdir()

    def make():
        folder.rmdir()
        return make_observer()

    before = set(threading.enumerate())
    ears = Ears(folder, make)
    ears.open()
    assert ears.deaf()
    assert set(threading.enumerate()) == before


async def test_a_folder_that_is_gone_is_not_listened_to_any_more(tmp_path):
    folder = tmp_path / "jobs"
    folder.mkdir()
    ears = Ears(folder, make_observer)
    ears.open()
    assert not ears.deaf()
    folder.rmdir()
    assert ears.deaf()
    ears.close()


async def test_subfolders_and_other_files_are_not_listened_to(tmp_path):
    ears = Ears(tmp_path, make_observer)
    (tmp_path / "mine").mkdir()
    ears.open()
    for name in ("mine/a.yaml", "a.txt", ".a.yaml", "last.yaml"):
        (tmp_path / name).write_text("x")
    names = set()
    while "last.yaml" not in names:
        await ears.wait()
        names |= ears.take().names
    ears.close()
    assert names == {"last.yaml"}


async def test_a_folder_that_does_not_answer_is_told_although_nothing_fails(tmp_path, autojump_clock):
    hangs = trio.Event()
    held = []

    async def run_sync(function, *arguments, **_):
        if held:
            await hangs.wait()
        return function(*arguments)

    async with open_stand(tmp_path, run_sync=run_sync, scan_interval=2.0) as stand, trio.open_nursery() as nursery:
        assert stand.inbox.hindrance is None
        await nursery.start(stand.inbox.run)
        await trio.sleep(100)
        assert stand.inbox.hindrance is None
        held.append(True)
        await trio.sleep(100)
        assert "its file system may hang" in stand.inbox.hindrance
        told = []
        gallery = threading.Thread(target=lambda: told.append(stand.inbox.hindrance))
        gallery.start()
        gallery.join()
        assert told == [stand.inbox.hindrance]
        hangs.set()
        await trio.sleep(3)
        assert stand.inbox.hindrance is None
        nursery.cancel_scope.cancel()
