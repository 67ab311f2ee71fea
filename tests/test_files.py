import errno
import os
import resource
import signal
import stat
import threading
from pathlib import Path

import pytest

from pipeline.tools import files
from pipeline.tools.files import (
    fsync_folder,
    make_folder,
    move_exclusively,
    rename_exclusive,
    sweep_drafts,
    write_durably,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path):
    write_durably(tmp_path / "a", b"bytes", replace=False, mode=0o600)
    assert (tmp_path / "a").read_bytes() == b"bytes"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert names(tmp_path) == ["a"]


def test_an_earlier_file_gives_way_only_where_it_may(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_durably(tmp_path / "a", b"new", replace=False)
    assert (tmp_path / "a").read_bytes() == b"old"
    write_durably(tmp_path / "a", b"new", replace=True)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_a_missing_folder_is_an_error_that_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        write_durably(tmp_path / "none/a", b"x", replace=False)
    assert error.value.filename == str(tmp_path / "none/a")  # not its draft


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path):
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            write_durably(tmp_path / "a", b"xx", replace=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert error.value.filename == str(tmp_path / "a")
    assert names(tmp_path) == []


@pytest.mark.parametrize("rename", [rename_exclusive, move_exclusively])
def test_a_file_is_renamed_into_another_folder(tmp_path, rename):
    (tmp_path / "to").mkdir()
    (tmp_path / "a").write_bytes(b"x")
    rename(tmp_path / "a", tmp_path / "to/b")
    assert names(tmp_path) == ["to"]
    assert (tmp_path / "to/b").read_bytes() == b"x"


def _dangling(path):
    path.symlink_to("nowhere")


def _file(path):
    path.write_bytes(b"theirs")


@pytest.mark.parametrize("obstacle", [_file, _dangling, os.mkdir])
@pytest.mark.parametrize("fallback", [False, True])
def test_no_rename_ever_replaces_anything(tmp_path, obstacle, fallback):
    (tmp_path / "a").write_bytes(b"ours")
    obstacle(tmp_path / "b")
    before = (tmp_path / "b").lstat()
    with pytest.raises(FileExistsError):
        (files._reserve_and_rename if fallback else move_exclusively)(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").lstat().st_ino == before.st_ino
    assert (tmp_path / "a").read_bytes() == b"ours"


@pytest.mark.parametrize("fallback", [False, True])
def test_a_vanished_source_leaves_no_trace_of_the_attempt(tmp_path, fallback):
    with pytest.raises(FileNotFoundError):
        (files._reserve_and_rename if fallback else move_exclusively)(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == []


def test_where_the_system_has_no_such_rename_the_name_is_reserved_first(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    files._reserve_and_rename(tmp_path / "a", tmp_path / "b")
    assert (names(tmp_path), (tmp_path / "b").read_bytes()) == (["b"], b"x")


def test_of_many_that_want_one_name_exactly_one_gets_it(tmp_path):
    (tmp_path / "to").mkdir()
    outcomes = []

    def contend(n):
        (tmp_path / str(n)).write_bytes(b"x")
        start.wait()
        try:
            move_exclusively(tmp_path / str(n), tmp_path / "to/one")
            outcomes.append("got it")
        except FileExistsError:
            outcomes.append("exists")

    start = threading.Barrier(8)
    threads = [threading.Thread(target=contend, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["exists"] * 7 + ["got it"]


def test_another_file_system_is_told_apart(tmp_path):
    places = [
        place for place in (Path("/dev/shm"), Path(__file__).parent) if place.stat().st_dev != tmp_path.stat().st_dev
    ]
    if not places:
        pytest.skip("needs a second file system")
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(OSError, match="cross-device") as told:
        move_exclusively(tmp_path / "a", places[0] / f"{os.getpid()}-x")
    assert told.value.errno == errno.EXDEV


def test_folders_are_made_with_their_parents_and_left_where_they_exist(tmp_path):
    make_folder(tmp_path / "a/b/c", mode=0o700)
    make_folder(tmp_path / "a/b/c")
    assert stat.S_IMODE((tmp_path / "a/b/c").stat().st_mode) == 0o700


def test_only_a_folder_can_be_flushed_as_one(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    fsync_folder(tmp_path)
    with pytest.raises(NotADirectoryError):
        fsync_folder(tmp_path / "a")


def test_only_drafts_that_this_program_left_are_swept(tmp_path):
    for name in (".0123456789abcdef.tmp", ".mary.tmp", "0123456789abcdef.tmp", "mary.yaml"):
        (tmp_path / name).write_bytes(b"half")
    sweep_drafts(tmp_path)
    sweep_drafts(tmp_path / "missing")
    assert names(tmp_path) == [".mary.tmp", "0123456789abcdef.tmp", "mary.yaml"]
