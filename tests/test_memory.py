"""What the daemon holds in memory: bounded, however many images wait and however large and many the results are."""

import base64
import os
import re
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import cloudinary_emulator as cloudinary
from tests.support import loopback, pictures, runpod_emulator
from tests.support.afterwards import rows
from tests.support.cloudinary_emulator import CloudinaryEmulator
from tests.support.loopback import Reply
from tests.support.runpod_emulator import Plan, RunPod
from tests.support.waiting import until
from tests.test_kills import program

SIDE = 1672  # pixels: three bytes each make 8 MB where nothing can be packed
AT_ONCE = 64  # results
FEW = 20
MOST = 350  # MB
MOST_OF_FEW = 260  # MB: 45 more than it takes, and less than it would take if nobody asked for room
NOISE = os.urandom(SIDE * SIDE * 3)
CONFIG = """
settle: 0.1
scan_interval: 0.5
gallery: {enabled: false}
store: STORE
backends: {xl: {type: runpod, url: ORIGIN/v2/e, api_key: KEY, stagger: 0, concurrency: RESULTS, timeout: 3600}}
"""


def noise():
    """An 8 MB PNG of as many pixels: what decoding takes is in it."""
    width = SIDE * 3
    lines = b"".join(b"\0" + NOISE[at : at + width] for at in range(0, len(NOISE), width))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines, 0)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def ballast():
    """An 8 MB PNG of few pixels, which is decoded in no time."""
    picture = pictures.plain()
    return picture[:-12] + _chunk(b"baLt", NOISE) + picture[-12:]


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


class Heavy(RunPod):
    """Ends the first so many jobs at the same moment, each with the same large picture; the others never."""

    def __init__(self, at_once, picture):
        super().__init__()
        self.usual = Plan(seconds=1e6)
        self._ended = (
            b', "status": "COMPLETED", "executionTime": 100, "output": {"images": ["'
            + base64.b64encode(picture)
            + b'"]}}'
        )
        self._at_once = at_once
        self.over = False

    def route(self, method, path, query, body):
        before, _, job_id = path.rpartition("/")
        if self.over and before.endswith("status") and int(job_id[:8], 16) <= self._at_once:
            return Reply(200, b'{"id": "' + job_id.encode() + b'"' + self._ended, {"Content-Type": "application/json"})
        return super().route(method, path, query, body)


def peak(process):
    """The most memory that a process has had so far, in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def stored(folder):
    return rows(folder, "SELECT count(*) AS n FROM images WHERE status = 'done'")[0]["n"]


def drop(folder, name, quantity, priority=0):
    text = f"character: Mary\nprompt: {name}\nquantity: {quantity}\npriority: {priority}\n"
    (folder / f"jobs/{name}.yaml").write_text(text)


@contextmanager
def store(kind):
    """What `store:` says, for a store that is there."""
    if kind == "local":
        yield "{type: local}"
    else:
        with CloudinaryEmulator() as cloud:
            account = f"cloud_name: {cloudinary.CLOUD}, api_key: {cloudinary.KEY}, api_secret: {cloudinary.SECRET}"
            yield f"{{type: cloudinary, {account}, upload_prefix: {cloud.url}}}"


def memory_stays_bounded(folder, *, kind, picture, results, waiting, most):
    """Let large results come all at once while many images wait."""
    (folder / "jobs").mkdir(parents=True)
    pods = Heavy(results, picture)
    with loopback.served(pods) as origin, store(kind) as place:
        config = CONFIG.replace("STORE", place).replace("ORIGIN", origin).replace("KEY", runpod_emulator.KEY)
        config = config.replace("RESULTS", str(results))
        (folder / "pipeline.yaml").write_text(config)
        for n in range(results):
            drop(folder, f"first-{n}", 1, priority=1)
        with program(folder) as process:
            until(lambda: pods.paid == results, 600)
            for n in range(waiting // 10_000):
                drop(folder, f"waiting-{n}", 10_000)
            until(lambda: rows(folder, "SELECT count(*) AS n FROM images")[0]["n"] == results + waiting, 600)
            pods.over = True
            until(lambda: stored(folder) == results, 600)
            assert peak(process) < most
    assert all(row["attempts"] == 1 and not row["doubtful"] for row in rows(folder) if row["status"] == "done")


@pytest.mark.long
def test_large_results_that_come_all_at_once_are_read_as_there_is_room_for_them(tmp_path):
    memory_stays_bounded(
        tmp_path / "work", kind="local", picture=ballast(), results=FEW, waiting=10_000, most=MOST_OF_FEW
    )


@pytest.mark.torture
@pytest.mark.parametrize("kind", ["local", "cloudinary"])
def test_64_results_of_8_mb_while_100_000_images_wait_stay_under_350_mb(tmp_path, kind):
    memory_stays_bounded(tmp_path / "work", kind=kind, picture=noise(), results=AT_ONCE, waiting=100_000, most=MOST)
