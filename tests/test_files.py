import errno
import subprocess
import sys

import pytest

from pipeline import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_with_its_permissions(tmp_path):
    files.write_durably(tmp_path / "key", b"secret", replace=False, mode=0o600)
    assert (tmp_path / "key").read_bytes() == b"secret"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["key"]


def test_only_a_replacement_replaces(tmp_path):
    path = tmp_path / "file"
    files.write_durably(path, b"first", replace=True)
    with pytest.raises(FileExistsError):
        files.write_durably(path, b"second", replace=False)
    assert path.read_bytes() == b"first"
    files.write_durably(path, b"third", replace=True)
    assert path.read_bytes() == b"third"
    assert names(tmp_path) == ["file"]


def test_a_name_of_the_greatest_length_can_be_written(tmp_path):
    files.write_durably(tmp_path / ("x" * 255), b"data", replace=False)
    assert names(tmp_path) == ["x" * 255]


def test_nothing_is_written_through_a_link(tmp_path):
    outside = tmp_path / "outside"
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(FileExistsError):
        files.write_durably(tmp_path / "link", b"data", replace=False)
    files.write_durably(tmp_path / "link", b"data", replace=True)
    assert not outside.exists()
    assert (tmp_path / "link").read_bytes() == b"data"


def test_a_missing_folder_is_the_callers_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write_durably(tmp_path / "none" / "file", b"data", replace=False)


@pytest.mark.parametrize("kernel_knows", [True, False])
@pytest.mark.parametrize("occupant", ["file", "folder", "dangling link"])
def test_a_rename_never_replaces(tmp_path, kernel_knows, occupant):
    move = files.rename_exclusive if kernel_knows else files._reserve_and_rename
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"data")
    if occupant == "file":
        target.write_bytes(b"other")
    elif occupant == "folder":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        move(source, target)
    assert source.read_bytes() == b"data"
    assert names(tmp_path) == ["source", "target"]


@pytest.mark.parametrize("kernel_knows", [True, False])
def test_a_vanished_source_leaves_nothing_behind(tmp_path, kernel_knows):
    move = files.rename_exclusive if kernel_knows else files._reserve_and_rename
    with pytest.raises(FileNotFoundError):
        move(tmp_path / "source", tmp_path / "target")
    assert names(tmp_path) == []


@pytest.mark.parametrize("kernel_knows", [True, False])
def test_a_rename_between_folders(tmp_path, kernel_knows):
    move = files.rename_exclusive if kernel_knows else files._reserve_and_rename
    (tmp_path / "active").mkdir()
    (tmp_path / "job.yaml").write_text("prompt: x")
    move(tmp_path / "job.yaml", tmp_path / "active" / "job.yaml")
    assert (tmp_path / "active" / "job.yaml").read_text() == "prompt: x"
    assert names(tmp_path) == ["active"]


def test_a_rename_within_a_folder(tmp_path):
    (tmp_path / "draft").write_text("data")
    files.rename_exclusive(tmp_path / "draft", tmp_path / "final")
    assert names(tmp_path) == ["final"]


def test_other_errors_keep_their_names(tmp_path):
    (tmp_path / "source").write_text("data")
    with pytest.raises(OSError, match="target") as caught:
        files.rename_exclusive(tmp_path / "source", tmp_path / "source" / "target")
    assert caught.value.errno == errno.ENOTDIR
    assert caught.value.filename2 == str(tmp_path / "source" / "target")


def test_folders_are_made_with_their_parents_and_left_alone_afterwards(tmp_path):
    deep = tmp_path / "a" / "b" / "c"
    files.make_folder(deep, mode=0o700)
    files.make_folder(deep)
    assert deep.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotADirectoryError):
        files.make_folder(tmp_path / "file" / "sub")


FULL = """
import resource, signal, sys, pathlib
from pipeline.files import write_durably
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
try:
    write_durably(pathlib.Path(sys.argv[1]), b"x" * 100, replace=True)
except OSError as error:
    print(error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def test_a_full_disk_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    ran = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == str(errno.EFBIG)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]
