"""What a power cut would find: the order in which the real program hands its writes to the disk, as strace sees it."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.support.afterwards import Dropped, wrongs

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: apt-get install strace")

CONFIG = (
    "settle: 0\nscan_interval: 0.05\ngallery: {enabled: false}\nbackends: {sketch: {type: sketch, concurrency: 1}}\n"
)
CALLS = "fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,write,pwrite64"
_LINE = re.compile(r"\d+ +(?P<call>\w+)\((?P<rest>.*)\) += +(?P<answer>-?\d+)")
_PATH = re.compile(r"<([^>]*)>|\"([^\"]*)\"")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("power") / "work"


@pytest.fixture(scope="module")
def seen(work):
    """What one run said to the disk."""
    return run_traced(work)


def run_traced(folder):
    (folder / "jobs").mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(CONFIG)
    (folder / "jobs/a.yaml").write_text("id: a\ncharacter: Mary\nprompt: a\nwidth: 64\nheight: 64\n")
    trace = folder / "trace.txt"
    command = ["strace", "-f", "-y", "-qq", "-e", f"trace={CALLS}", "-o", str(trace), sys.executable, "-m", "pipeline"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "CLOUDINARY"))}
    done = subprocess.run([*command, "run", "--once"], check=False, cwd=folder, env=environ, capture_output=True)
    if b"ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.decode()[:200]}")
    assert done.returncode == 0, done.stderr
    return list(calls(trace.read_text(errors="replace"), folder))


def calls(text, folder):
    """Yield each call that went well as its name and the paths in it, seen from the workspace."""
    pending = {}
    for line in text.splitlines():
        thread = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            pending[thread] = line.removesuffix("<unfinished ...>")
            continue
        whole = pending.pop(thread, "") + line.split("resumed>", 1)[1] if "resumed>" in line else line
        match = _LINE.match(whole)
        if match and int(match["answer"]) >= 0:
            paths = [one or other for one, other in _PATH.findall(match["rest"])]
            ours = [path.removeprefix(f"{folder}/") for path in paths if path.startswith(f"{folder}/")]
            if ours:
                yield match["call"], *ours


def assert_in_order(seen, *steps):
    """Each step, patterns for a call's name and its paths, comes after the one before it."""
    at = 0
    for step in steps:
        while at < len(seen) and not matches(seen[at], step):
            at += 1
        assert at < len(seen), f"{step} does not follow"
        at += 1


def matches(call, step):
    return len(call) == len(step) and all(re.fullmatch(pattern, word) for pattern, word in zip(step, call, strict=True))


COMMIT = ("fdatasync", r"\.pipeline/index\.db-wal")
SPOOL, IMAGES = r"\.pipeline/spool", r"images/me/characters/mary/images"


def renamed(old, new):
    return ("rename.*", old, new)


def draft_in(folder):
    return rf"{folder}/\.[0-9a-f]{{16}}\.tmp"


def written(folder, name):
    """Written under another name, flushed, renamed, the folder flushed."""
    draft = draft_in(folder)
    return (("write", draft), ("fsync", draft), renamed(draft, f"{folder}/{name}"), ("fsync", folder))


def test_every_write_is_on_the_disk_before_what_relies_on_it(work, seen):
    assert wrongs(work, Dropped({"a": ("done",)})) == []
    assert_in_order(
        seen,
        renamed("jobs/a.yaml", "jobs/active/a.yaml"),
        ("fsync", "jobs/active"),
        ("fsync", "jobs"),
        COMMIT,  # accepted
        COMMIT,  # about to be submitted
        *written(SPOOL, r"1-.*\.img"),
        COMMIT,  # fetched
        *written(IMAGES, r"mary_image_1\.png"),
        COMMIT,  # stored
        ("unlink.*", rf"{SPOOL}/1-.*\.img"),
        renamed("jobs/active/a.yaml", "jobs/done/a.yaml"),
        ("fsync", "jobs/done"),
        ("fsync", "jobs/active"),
        *written("jobs/done", r"a\.result\.json"),
        COMMIT,  # filed
    )


def test_nothing_is_renamed_before_its_bytes_are_flushed(seen):
    dirty = set()
    drafts = 0
    for call, *paths in seen:
        if call in {"write", "pwrite64"}:
            dirty.add(paths[0])
        elif call in {"fsync", "fdatasync"}:
            dirty.discard(paths[0])
        elif call.startswith("rename"):
            assert paths[0] not in dirty, paths
            drafts += paths[0].endswith(".tmp")
    assert drafts >= 4  # spool, image, small image, result
    assert not [path for path in dirty if path.endswith((".db", "-wal", ".img", ".png", ".webp", ".json"))]
