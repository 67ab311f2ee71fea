"""RunPod's hosted queue in front of a number of slots, each of which takes the same time for every image.

    python -m benchmarks.servers.gpu --slots 50 --seconds 1 --pictures FOLDER

Nothing runs in it: a job's beginning and end are known when it is submitted. Results are the pictures of the folder,
encoded beforehand, chosen by the input's seed; a job of as many images as there are pictures gets each once. Over 200
status requests in a second it answers 429, as RunPod does.
"""

import base64
import heapq
import itertools
import time
from pathlib import Path

import orjson

from benchmarks.servers.http import arguments, said, serve, whole

KEY = "rpa_0BENCHMARKBENCHMARKBENCHMARK0"
AUTHORIZATION = f"Bearer {KEY}".encode()
MOST_LOOKS = 200  # status requests in a second
FRONT = b"/v2/e/"


class Gpu:
    def __init__(self, slots: int, seconds: float, pictures: list[bytes]):
        self._seconds = seconds
        self._free = [0.0] * slots  # a heap of the moments when slots are free
        self._outputs = [
            b'"output":{"images":["data:image/png;base64,%s"]}' % base64.b64encode(data) for data in pictures
        ]
        self._jobs = {}
        self._orders = []  # seeds and moments
        self._ids = itertools.count(1)
        self._looks = {}  # by second
        self._refused = self._cancelled = 0
        self._begun = time.process_time()

    def answer(self, method, target, headers, body) -> bytes:
        if target == b"/stats":
            return said(self._stats())
        if target == b"/orders":
            return said(self._orders)
        if headers.get(b"authorization") != AUTHORIZATION:
            return said({"error": "unauthorized"}, 401)
        what, _, job_id = target.removeprefix(FRONT).partition(b"/")
        match method, what:
            case "GET", b"status":
                reply = self._status(job_id)
            case "POST", b"run":
                reply = self._run(body)
            case "POST", b"cancel":
                self._cancelled += 1
                reply = said({"id": job_id.decode(), "status": "CANCELLED"})
            case "GET", b"health":
                reply = said({"jobs": {"completed": 0, "inQueue": 0}, "workers": {"idle": 1, "running": 0}})
            case _:
                reply = said({"error": "endpoint not found"}, 404)
        return reply

    def _run(self, body: bytes) -> bytes:
        given = orjson.loads(body).get("input")
        if not given:
            return said({"error": "input is required"}, 400)
        present = time.time()
        begins = max(present, self._free[0])
        heapq.heapreplace(self._free, begins + self._seconds)
        self._orders.append((given.get("seed"), present))
        job_id = b"%08x-0000-4000-8000-000000000000-u1" % next(self._ids)
        self._jobs[job_id] = (present, begins, given.get("seed", 0) % len(self._outputs))
        return whole(b'{"id":"%s","status":"IN_QUEUE"}' % job_id)

    def _status(self, job_id: bytes) -> bytes:
        present = time.time()
        second = int(present)
        self._looks[second] = looks = self._looks.get(second, 0) + 1
        if looks > MOST_LOOKS:
            self._refused += 1
            return said({"error": "too many requests"}, 429)
        if (job := self._jobs.get(job_id)) is None:
            return said({"error": "job not found"}, 404)
        submitted, begins, picture = job
        if present < begins:
            return whole(b'{"id":"%s","status":"IN_QUEUE"}' % job_id)
        delay = (begins - submitted) * 1000
        if present < begins + self._seconds:
            return whole(b'{"delayTime":%d,"id":"%s","status":"IN_PROGRESS","workerId":"w1"}' % (delay, job_id))
        return whole(
            b'{"delayTime":%d,"executionTime":%d,"id":"%s",%s,"status":"COMPLETED","workerId":"w1"}'
            % (delay, self._seconds * 1000, job_id, self._outputs[picture])
        )

    def _stats(self) -> dict:
        return {
            "runs": len(self._jobs),
            "first_run": self._orders[0][1] if self._orders else None,
            "looks": sum(self._looks.values()),
            "most_looks_in_a_second": max(self._looks.values(), default=0),
            "looks_refused": self._refused,
            "cancelled": self._cancelled,
            "cpu": time.process_time() - self._begun,
        }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--slots", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--pictures", type=Path, required=True)
    said_so = parser.parse_args()
    pictures = [file.read_bytes() for file in sorted(said_so.pictures.glob("*.png"))]
    serve(Gpu(said_so.slots, said_so.seconds, pictures).answer)


if __name__ == "__main__":
    main()
