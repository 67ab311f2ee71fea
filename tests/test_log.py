import io
import json
import logging

import pytest
import structlog

from pipeline.errors import AttemptFailed
from pipeline.log import Dam, set_up_logging
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


def test_a_flood_of_one_kind_is_held_back_and_counted():
    moment = [0.0]
    dam = Dam(3, clock=lambda: moment[0])
    passed = []
    for n in range(10):
        try:
            passed.append(dam(None, "info", {"event": "image_trouble", "n": n}))
        except structlog.DropEvent:
            continue
    assert [event["n"] for event in passed] == [0, 1, 2]
    assert dam(None, "info", {"event": "another"}) == {"event": "another"}
    moment[0] = 60.0
    assert dam(None, "info", {"event": "image_trouble"}) == {"event": "image_trouble", "held_back": 7}
    moment[0] = 121.0
    assert dam(None, "info", {"event": "image_trouble"}) == {"event": "image_trouble"}


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
