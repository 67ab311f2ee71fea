import fcntl
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from pipeline.errors import ConfigError, HeldElsewhere
from pipeline.tools.locks import LOCK_NAME, Holder, hold, holder
from pipeline.tools.mounts import Mount, mount_of
from pipeline.tools.state_folder import refuse_shared

HOLDER = """
import sys
from pathlib import Path
from pipeline.tools.locks import hold
with hold(Path(sys.argv[1]), process="pipeline run"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def start_holder(folder):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    return other


def test_the_second_process_is_told_which_one_holds_the_folder(tmp_path):
    with start_holder(tmp_path) as other:
        with pytest.raises(HeldElsewhere) as told, hold(tmp_path):
            pass
        other.kill()
    words = (
        rf"{re.escape(str(tmp_path))} is held by process {other.pid} \(pipeline run\) since \d{{4}}-\S+Z; stop it, .*"
    )
    assert re.fullmatch(words, str(told.value))


def test_a_killed_holder_lets_go_and_its_words_do_no_harm(tmp_path):
    with start_holder(tmp_path) as other:
        other.kill()
    assert str(other.pid) in (tmp_path / LOCK_NAME).read_text()
    with hold(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK_NAME).read_text()


def test_a_command_at_work_is_waited_for_and_a_daemon_is_not(tmp_path):
    letting_go = threading.Event()

    def work():
        with hold(tmp_path, process="pipeline cancel", brief=True):
            letting_go.wait()

    command = threading.Thread(target=work)
    command.start()
    while holder(tmp_path) is None:
        time.sleep(0.01)
    with pytest.raises(HeldElsewhere, match=r"\(pipeline cancel\)"), hold(tmp_path, patience=0.2):
        pass
    threading.Timer(0.2, letting_go.set).start()
    with hold(tmp_path, patience=60):
        began = time.monotonic()
        with pytest.raises(HeldElsewhere), hold(tmp_path, patience=60):
            pass
        assert time.monotonic() - began < 10
    command.join()


def test_the_folder_is_free_again_afterwards_and_the_lock_file_stays(tmp_path):
    for _ in range(2):
        with hold(tmp_path / "jobs"):
            pass
    assert (tmp_path / "jobs" / LOCK_NAME).exists()


def test_one_process_cannot_hold_a_folder_twice_but_can_hold_two(tmp_path):
    with hold(tmp_path / "jobs"), hold(tmp_path / "state"), pytest.raises(HeldElsewhere), hold(tmp_path / "jobs"):
        pass


@pytest.mark.parametrize(
    "words", [b"", b"\x00" * 50, b"[]", b"7", b'{"pid": "x"}', b'{"pid": 1}', b"\xff", b"x" * 9_000]
)
def test_a_holder_whose_words_cannot_be_read_is_a_holder_all_the_same(tmp_path, words):
    with start_holder(tmp_path) as other:
        (tmp_path / LOCK_NAME).write_bytes(words)
        with pytest.raises(HeldElsewhere, match="held by another process"), hold(tmp_path):
            pass
        other.kill()


def test_whoever_asks_is_told_the_holder_without_holding_anything(tmp_path):
    assert holder(tmp_path / "none") is None
    with hold(tmp_path, process="pipeline run"):
        told = holder(tmp_path)
        assert isinstance(told, Holder)
        assert (told.pid, told.process) == (os.getpid(), "pipeline run")
        (tmp_path / LOCK_NAME).write_bytes(b"")
        assert holder(tmp_path) == Holder(0, "another process", "")
    assert holder(tmp_path) is None


def test_somebody_who_is_just_asking_keeps_nobody_from_the_folder(tmp_path):
    with hold(tmp_path):
        pass
    asking = os.open(tmp_path / LOCK_NAME, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    done = threading.Timer(0.015, os.close, (asking,))
    done.start()
    with hold(tmp_path):
        pass
    done.join()


def test_a_shorter_name_leaves_nothing_of_a_longer_one(tmp_path):
    with hold(tmp_path, process="a very long name of a process"):
        pass
    with hold(tmp_path, process="short"):
        assert (tmp_path / LOCK_NAME).read_text().rstrip().endswith("}")


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["/usr/bin/pipeline", "run", "--token", "secret"], "pipeline run"),
        (["/x/pipeline/__main__.py", "run"], "pipeline run"),
        (["pipeline", "--config", "x"], "pipeline"),
        ([""], "pipeline"),
    ],
)
def test_the_holder_is_named_without_its_arguments(tmp_path, monkeypatch, argv, named):
    monkeypatch.setattr(sys, "argv", argv)
    with hold(tmp_path), pytest.raises(HeldElsewhere, match=rf"\({named}\)"), hold(tmp_path):
        pass


def _link(path):
    path.symlink_to("/tmp/elsewhere")


@pytest.mark.parametrize("obstacle", [os.mkdir, _link])
def test_a_lock_file_that_cannot_be_opened_is_told_with_its_path(tmp_path, obstacle):
    obstacle(tmp_path / LOCK_NAME)
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / LOCK_NAME))), hold(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_told_with_its_path(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be opened"), hold(tmp_path / "file/jobs"):
        pass


TABLE = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /home rw shared:2 - nfs4 server:/export\\040two rw,vers=4.2
31 30 0:41 / /home/me/local rw - xfs /dev/vdb rw
32 22 0:42 / /mnt/with\\040space rw - fuse.sshfs me@host: rw
33 22 0:43 / /mnt/c rw - 9p drvfs rw
34 22 0:44 / /over rw - nfs server:/old rw
35 34 0:45 / /over rw - ext4 /dev/vdc rw
36 22 0:46 / /mnt/merged rw master:1 - fuse.mergerfs a:b rw
nonsense
37 22 0:47 / /short rw - ext4
"""


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "mountinfo"
    file.write_text(TABLE)
    return file


@pytest.mark.parametrize(
    ("folder", "shared"),
    [
        ("/var/lib/pipeline", False),
        ("/home/me/.pipeline", True),
        ("/home", True),
        ("/homes/me", False),
        ("/home/me/local/.pipeline", False),
        ("/mnt/with space/state", True),
        ("/mnt/c/Users/me", True),
        ("/over/state", False),  # mounted over
        ("/mnt/merged/state", False),
        ("/short/state", False),
    ],
)
def test_a_state_folder_on_a_network_file_system_is_refused(tmp_path, table, folder, shared):
    place = tmp_path.joinpath(folder)
    if not shared:
        refuse_shared(place, mountinfo=table)
        return
    with pytest.raises(ConfigError) as told:
        refuse_shared(place, mountinfo=table)
    assert folder in str(told.value)
    assert "local disk" in str(told.value)


def test_the_mount_is_named_as_the_kernel_names_it(tmp_path, table):
    home = tmp_path.joinpath("/home/x")
    assert mount_of(home, mountinfo=table) == Mount(tmp_path.joinpath("/home"), "nfs4", "server:/export two")


def test_where_the_kernel_does_not_tell_nothing_is_refused(tmp_path):
    assert mount_of(tmp_path, mountinfo=tmp_path / "none") is None
    refuse_shared(tmp_path, mountinfo=tmp_path / "none")


def test_this_machines_own_table_is_understood(tmp_path):
    mount = mount_of(tmp_path)
    assert mount is not None
    assert mount.point.stat().st_dev == tmp_path.stat().st_dev


def test_whoever_looks_is_told_what_the_holder_has_trouble_with(tmp_path):
    with hold(tmp_path) as plate:
        size = (tmp_path / LOCK_NAME).stat().st_size
        assert holder(tmp_path).trouble == ""
        plate.say("the disk is full: „voll“ " + "x" * 10_000)
        assert holder(tmp_path).trouble.startswith("the disk is full: „voll“ xxx")
        assert (tmp_path / LOCK_NAME).stat().st_size == size  # so it can be said though no block is free
        plate.say("\0" * 10_000)
        assert set(holder(tmp_path).trouble) == {"\0"}
        plate.say("")
        assert holder(tmp_path).trouble == ""
    assert holder(tmp_path) is None
