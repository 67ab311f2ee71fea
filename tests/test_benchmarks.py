"""The benchmark's servers are as strict as what they stand for, and the main job runs against them."""

import json
import subprocess
import sys

import pytest

from benchmarks.servers.cloud import KEY, Cloud
from benchmarks.servers.gpu import AUTHORIZATION, MOST_LOOKS, Gpu
from tests.support import pictures

ROOM_FOR_A_SLOW_START = 150  # seconds


@pytest.mark.long
def test_the_main_job_is_measured():
    words = ["--images", "6", "--slots", "3", "--in-flight", "4", "--seconds", "0.1", "--kilobytes", "20", "--json"]
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.main_job", *words],
        check=True, capture_output=True, text=True, timeout=ROOM_FOR_A_SLOW_START,
    ).stdout  # fmt: skip
    found = json.loads(told)
    assert found["ratio"] >= 1  # the ideal cannot be beaten
    assert found["cpu_ms"] > 0
    assert found["looks_a_second"] > 0


def test_looks_beyond_the_limit_are_refused_and_counted():
    gpu = Gpu(slots=1, seconds=60, pictures=[pictures.plain(24, 16, shade=1)])
    headers = {b"authorization": AUTHORIZATION}
    ordered = gpu.answer("POST", b"/v2/e/run", headers, b'{"input": {"seed": 3}}')
    job_id = json.loads(ordered.partition(b"\r\n\r\n")[2])["id"].encode()
    answers = [gpu.answer("GET", b"/v2/e/status/" + job_id, headers, b"")[:12] for _ in range(3 * MOST_LOOKS)]
    assert answers[0] == b"HTTP/1.1 200"
    assert answers.count(b"HTTP/1.1 429") >= MOST_LOOKS  # the calls lie in two seconds at most
    assert gpu.answer("GET", b"/v2/e/status/" + job_id, {}, b"").startswith(b"HTTP/1.1 401")


def test_an_upload_with_a_wrong_signature_is_refused():
    fields = {"api_key": KEY, "public_id": "mary_image_1", "timestamp": "1", "signature": "0" * 40}
    parts = [f'--b\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    body = "".join([*parts, "--b--\r\n"]).encode()
    headers = {b"content-type": b"multipart/form-data; boundary=b"}
    assert Cloud().answer("POST", b"/v1_1/demo/image/upload", headers, body).startswith(b"HTTP/1.1 401")
