import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from pipeline.inbox.reading import Left, Reading, Stamp, _read_open, read
from pipeline.inbox.settling import Stillness
from pipeline.model import LARGEST_FILE
from tests.support.door import someone_writing

WRITER = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o644)
os.write(file, b"character: Mary\\n")
print("begun", flush=True)
sys.stdin.readline()
os.write(file, b"prompt: a garden\\n")
os.close(file)
print("done", flush=True)
sys.stdin.readline()
"""


def test_a_whole_file_is_read_with_its_stamp(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(b"character: Mary\n")
    assert read(str(file), leases=True) == Reading(b"character: Mary\n", Stamp.of(file.stat()), sure=True)


def test_without_leases_nobody_knows_whether_the_writer_is_done(tmp_path):
    file = tmp_path / "a.yaml"
    with someone_writing(file, "character: Mary\n"):
        found = read(str(file), leases=False)
    assert isinstance(found, Reading)
    assert not found.sure


def test_another_process_that_has_it_open_for_writing_is_noticed_exactly(tmp_path):
    file = tmp_path / "a.yaml"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout.readline() == "begun\n"
        assert read(str(file), leases=True) is Left.OPEN
        print(file=writer.stdin, flush=True)
        assert writer.stdout.readline() == "done\n"
        found = read(str(file), leases=True)
        print(file=writer.stdin, flush=True)
    assert found == Reading(b"character: Mary\nprompt: a garden\n", Stamp.of(file.stat()), sure=True)


def test_a_reader_does_not_count_as_a_writer(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(b"x")
    with file.open("rb"):
        found = read(str(file), leases=True)
    assert isinstance(found, Reading)
    assert found.sure


HOLDER = """
import fcntl, os, signal, sys
from pipeline.inbox.reading import _ask_for_writers
file = os.open(sys.argv[1], os.O_RDONLY)
assert _ask_for_writers(file) is False
print("held", flush=True)
sys.stdin.readline()
os.close(file)
print("alive", flush=True)
"""


def test_a_writer_that_comes_while_the_lease_is_held_waits_and_kills_nobody(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(b"x")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):  # an impatient writer breaks the lease: now the holder has its signal
            os.open(file, os.O_WRONLY | os.O_NONBLOCK)
        writer = threading.Thread(target=file.write_bytes, args=(b"y",))
        writer.start()
        print(file=holder.stdin, flush=True)
        assert holder.stdout.readline() == "alive\n"
        writer.join()
    assert holder.returncode == 0
    assert file.read_bytes() == b"y"


def test_no_signal_handling_of_the_process_is_changed(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGIO, signal.SIGURG)]
    file = tmp_path / "a.yaml"
    file.write_bytes(b"x")
    read(str(file), leases=True)
    assert [signal.getsignal(number) for number in (signal.SIGIO, signal.SIGURG)] == before


def test_never_more_than_a_job_may_hold_is_read(tmp_path):
    file = tmp_path / "a.yaml"
    file.touch()
    os.truncate(file, 1 << 30)
    found = read(str(file), leases=True)
    assert isinstance(found, Reading)
    assert len(found.data) == LARGEST_FILE + 1


def _fifo(path):
    os.mkfifo(path)


def _link(path):
    path.symlink_to("/etc/hostname")


def _dangling_link(path):
    path.symlink_to(path / "nowhere")


def _socket(path):
    os.mknod(path, stat.S_IFSOCK | 0o600)


def _nothing(path):
    assert not path.exists()


@pytest.mark.parametrize("make", [_fifo, _link, _dangling_link, _socket, os.mkdir, _nothing])
def test_what_is_no_regular_file_is_left_at_once(tmp_path, make):
    path = tmp_path / "a.yaml"
    make(path)
    assert read(str(path), leases=True) is Left.GONE


def test_a_file_that_changes_while_it_is_read_is_left(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"12345")
    file = os.open(path, os.O_RDONLY)
    try:
        os.lseek(file, 2, os.SEEK_SET)  # as if it had been shortened under our hands
        assert _read_open(file, leases=False) is Left.OPEN
    finally:
        os.close(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_an_unreadable_file_is_an_error_that_names_the_reason(tmp_path):
    tmp_path.chmod(0o755)
    file = tmp_path / "a.yaml"
    file.write_bytes(b"x")
    file.chmod(0)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            read(str(file), leases=True)
        file_of_root = tmp_path / "b.yaml"
        os.seteuid(0)
        file_of_root.write_bytes(b"y")
        file_of_root.chmod(0o644)
        os.seteuid(65534)
        found = read(str(file_of_root), leases=True)  # somebody else's: no lease without CAP_LEASE, so no answer
    finally:
        os.seteuid(0)
    assert isinstance(found, Reading)
    assert not found.sure


A, B = Stamp(1, 1, 1, 1), Stamp(2, 1, 1, 1)


def test_a_file_has_settled_when_it_was_seen_unchanged_for_long_enough():
    stillness = Stillness(0.5)
    assert not stillness.settled("a", A, 10.0)
    assert not stillness.settled("a", A, 10.4)
    assert stillness.settled("a", A, 10.5)


def test_every_change_starts_the_wait_again():
    stillness = Stillness(0.5)
    stillness.settled("a", A, 10.0)
    assert not stillness.settled("a", B, 10.4)
    assert not stillness.settled("a", B, 10.8)
    assert stillness.settled("a", B, 10.9)


def test_those_that_have_settled_are_named_and_the_next_moment_is_known():
    stillness = Stillness(0.5)
    assert stillness.next_due() is None
    stillness.settled("a", A, 10.0)
    stillness.settled("b", A, 10.1)
    stillness.settled("a", B, 10.2)  # touched again: now the younger one
    assert stillness.next_due() == pytest.approx(10.6)
    assert stillness.due(10.5) == []
    assert stillness.due(10.65) == ["b"]
    assert stillness.due(11) == ["b", "a"]
    stillness.forget("b")
    stillness.settled("c", A, 11)
    stillness.keep_only({"c"})
    assert (len(stillness), stillness.due(12)) == (1, ["c"])
