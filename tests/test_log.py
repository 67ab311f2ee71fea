import contextlib
import errno
import io
import json
import logging
import sys
import threading
from pathlib import Path

import pytest
import structlog

from pipeline.errors import AttemptFailed
from pipeline.tools.log import MOST_A_MINUTE, Dam, set_up_logging
from tests.support.scripted import ScriptedBackend, house, job


def told(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_where_nobody_looks_on():
    stream = io.StringIO()
    set_up_logging(stream=stream)
    structlog.get_logger().info("backend_down", backend="pod")
    structlog.get_logger().debug("image_step")
    (line,) = told(stream)
    assert (line["event"], line["level"], line["backend"]) == ("backend_down", "info", "pod")
    assert line["timestamp"].endswith("Z")


def broken(hidden):
    raise ValueError("GET https://bucket.example/a.png?X-Amz-Signature=abcdefgh Authorization: Bearer abcdefghijkl")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "terminal"])
def test_a_traceback_holds_no_variables_and_no_secrets(stream):
    set_up_logging(stream=stream)
    try:
        broken("local-variable-value")
    except ValueError:
        structlog.get_logger().exception("adapter_broke")
    text = stream.getvalue()
    assert "ValueError" in text
    assert "test_log.py" in text
    for secret in ("bcdefg", "Signature"):
        assert secret not in text
    assert text.count("local-variable-value") == 1  # where the source line is quoted


def pour(dam, kind, lines):
    """How many of so many lines pass."""
    passed = 0
    for _ in range(lines):
        with contextlib.suppress(structlog.DropEvent):
            passed += bool(dam(None, "info", {"event": kind}))
    return passed


def test_a_flood_of_one_kind_is_held_back_and_counted(capsys):
    moment = [0.0]
    dam = Dam(3, clock=lambda: moment[0])
    assert pour(dam, "image_trouble", 10) == 3
    assert pour(dam, "another", 1) == 1
    assert capsys.readouterr().out == ""
    moment[0] = 60.0
    assert pour(dam, "another", 1) == 1  # whatever is said next, after the minute
    assert "event='more_like_it' like='image_trouble' lines=7" in capsys.readouterr().out
    moment[0] = 121.0
    assert pour(dam, "image_trouble", 3) == 3
    assert capsys.readouterr().out == ""


def test_what_was_held_back_is_told_though_nothing_more_is_said(capsys):
    moment = [0.0]
    dam = Dam(3, clock=lambda: moment[0])
    pour(dam, "image_trouble", 10)
    dam.tell_rest()
    assert capsys.readouterr().out == ""
    moment[0] = 60.0
    dam.tell_rest()
    dam.tell_rest()
    pour(dam, "image_trouble", 5)
    dam.tell_rest(at_once=True)
    said = capsys.readouterr().out.splitlines()
    assert [line.partition("like=")[2].split(" level")[0] for line in said] == [
        "'image_trouble' lines=7",
        "'image_trouble' lines=2",
    ]


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_ends_nothing():
    set_up_logging(stream=Full())
    structlog.get_logger().warning("brake_held")
    logging.getLogger("trio").warning("as a library says it")
    broken_off = io.StringIO()
    set_up_logging(stream=broken_off)
    broken_off.close()
    structlog.get_logger().warning("brake_held")


def test_what_libraries_say_is_a_line_like_ours_and_held_back_alike():
    stream = io.StringIO()
    set_up_logging(stream=stream)
    try:
        Path("/nowhere").stat()
    except OSError:
        logging.getLogger("trio").exception("accept failed; token=%s", "abcdefghijklmnop")
    (line,) = told(stream)
    assert (line["event"], line["library"], line["level"]) == ("library", "trio", "error")
    assert "accept failed" in line["said"]
    assert "FileNotFoundError" in line["exception"]
    for n in range(200):
        logging.getLogger("urllib3").warning("pool %d is full", n)
    assert len(told(stream)) <= MOST_A_MINUTE


def test_a_thread_that_breaks_is_a_line_like_ours():
    stream = io.StringIO()
    set_up_logging(stream=stream)

    def breaks():
        raise OSError(errno.EINVAL, "Invalid argument")

    for ends in (breaks, sys.exit):
        thread = threading.Thread(target=ends, name="inotify")
        thread.start()
        thread.join()
    (line,) = told(stream)
    assert (line["event"], line["thread"], line["level"]) == ("thread_broke", "inotify", "error")
    assert line["exception"].endswith("OSError: [Errno 22] Invalid argument")


def test_debugging_is_never_held_back():
    dam = Dam(1)
    assert [dam(None, "debug", {"event": "image_step"})["event"] for _ in range(5)] == ["image_step"] * 5


class Talking(ScriptedBackend):
    """An adapter that says something of its own while it waits."""

    async def collect(self, request, submission):
        structlog.get_logger().info("unknown_status", status="ODD")
        return await super().collect(request, submission)


async def test_every_line_of_an_image_names_it_and_its_place_at_the_back_end(tmp_path, autojump_clock):
    stream = io.StringIO()
    set_up_logging(stream=stream, level=logging.DEBUG)
    pod = Talking(takes=1.0)
    pod.on_collect.append(AttemptFailed("out of memory", code="failed"))
    async with house(tmp_path, {"pod": pod}) as home:
        await home.accept(job())
        await home.settled()
    lines = [
        line
        for line in told(stream)
        if line["event"] in {"unknown_status", "image_step", "image_trouble", "image_stored"}
    ]
    steps = [line.get("step", line["event"]) for line in lines]
    assert steps == [
        "Submitting", "Accepted", "unknown_status", "AttemptLost",
        "Submitting", "Accepted", "unknown_status", "Fetched", "StoredAt", "image_stored",
    ]  # fmt: skip
    assert {(line["job"], line["image"], line["backend"]) for line in lines} == {("j1", "mary_image_1", "pod")}
    remotes = [line["remote"] for line in lines]
    first, second = remotes[1], remotes[5]
    assert first != second
    assert remotes == [None, *[first] * 3, None, *[second] * 3, None, None]
