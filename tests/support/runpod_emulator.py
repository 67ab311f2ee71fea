"""RunPod's queue API without RunPod: jobs that take time, end in every way, expire, and are counted when bought.

Jobs go on while nobody asks, so a test may kill the program that submitted them and start it again.
"""

import base64
import itertools
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support import pictures
from tests.support.loopback import Emulator, Reply, said

KEY = "rpa_0SECRETSECRETSECRETSECRETSECRET0"
LARGEST = 10 << 20
KEPT = 1800.0


@dataclass
class Plan:
    """How one job goes.

    ends: a status, or `IN_PROGRESS` for one that never ends (a result too large for its worker to deliver, say).
    """

    seconds: float = 1.0
    queued: float = 0.0
    ends: str = "COMPLETED"
    output: Any = None
    error: Any = None
    make_output: Callable[[dict], Any] | None = None
    progress: Any = None
    forgotten_after: float | None = None  # seconds after submission: RunPod loses jobs now and then


@dataclass
class Job:
    id: str
    input: Any
    plan: Plan
    at: float
    ttl: float
    limit: float
    cancelled_at: float | None = None

    def ended_at(self) -> float:
        if self.cancelled_at is not None:
            return self.cancelled_at
        runs = self.limit if self.plan.ends == "IN_PROGRESS" else self.plan.seconds
        return self.at + self.plan.queued + runs


def sdxl_output(given: dict) -> dict:
    """What worker-sdxl hands back, with a picture that depends on seed and size."""
    picture = pictures.plain(given.get("width", 24), given.get("height", 16), shade=given.get("seed", 0))
    uri = "data:image/png;base64," + base64.b64encode(picture).decode()
    return {"images": [uri], "image_url": uri, "seed": given.get("seed")}


class RunPod(Emulator):
    """One endpoint, `e`, under `/v2/e`."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self.plans: deque[Plan] = deque()
        self.usual = Plan(make_output=sdxl_output)
        self.by_seed: dict[int, Plan] = {}
        self.bodies: list[dict] = []
        self.jobs: dict[str, Job] = {}
        self.cancelled: list[str] = []
        self.key: str | None = KEY
        self.skipped = 0.0  # seconds that have passed all at once
        self._ids = itertools.count(1)

    @property
    def paid(self) -> int:
        return len(self.jobs)

    def now(self) -> float:
        return self.clock() + self.skipped

    def refuses(self, headers: dict[str, str], path: str) -> Reply | None:
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            return Reply(401)
        return None

    def route(self, method: str, path: str, query: dict[str, str], body: bytes) -> Reply:
        match [method, *path.strip("/").split("/")]:
            case ["POST", "v2", "e", "run"]:
                return self._run(body)
            case ["GET", "v2", "e", "status", job_id]:
                job = self._kept(job_id)
                return said({"error": "job not found"}, 404) if job is None else said(self._told(job))
            case ["POST", "v2", "e", "cancel", job_id]:
                return self._cancel(job_id)
            case ["GET", "v2", "e", "health"]:
                return said({"jobs": {"completed": self.paid, "inQueue": 0}, "workers": {"idle": 1, "running": 0}})
        return said({"error": "endpoint not found"}, 404)

    def _run(self, body: bytes) -> Reply:
        if len(body) > LARGEST:
            return Reply(400, b"bad request: body: exceeded max body size of 10MiB")
        given = json.loads(body)
        self.bodies.append(given)
        if not given.get("input"):
            return said({"error": "input is required"}, 400)
        policy = given.get("policy", {})
        job = Job(
            id=f"{next(self._ids):08x}-0000-4000-8000-000000000000-u1",
            input=given["input"],
            plan=self.plans.popleft() if self.plans else self.by_seed.get(given["input"].get("seed"), self.usual),
            at=self.now(),
            ttl=policy.get("ttl", 86_400_000) / 1000,
            limit=policy.get("executionTimeout", 600_000) / 1000,
        )
        self.jobs[job.id] = job
        return said({"id": job.id, "status": "IN_QUEUE"})

    def _kept(self, job_id: str) -> Job | None:
        job = self.jobs.get(job_id)
        if job is None or self.now() >= min(job.at + job.ttl, job.ended_at() + KEPT):
            return None
        after = job.plan.forgotten_after
        return None if after is not None and self.now() >= job.at + after else job

    def _cancel(self, job_id: str) -> Reply:
        self.cancelled.append(job_id)
        job = self._kept(job_id)
        if job is None:
            return said({"error": "job not found"}, 404)
        if self.now() < job.ended_at():
            job.cancelled_at = self.now()
        return said({"id": job_id, "status": "CANCELLED"})

    def _told(self, job: Job) -> dict[str, Any]:
        plan, began = job.plan, job.at + job.plan.queued
        told: dict[str, Any] = {"id": job.id, "status": "IN_QUEUE"}
        if job.cancelled_at is not None:
            return told | {"status": "CANCELLED"}
        if self.now() < began:
            return told
        told |= {"delayTime": round(plan.queued * 1000), "workerId": "w1", "status": "IN_PROGRESS"}
        if self.now() < job.ended_at():
            return told if plan.progress is None else told | {"output": plan.progress}
        told |= {"executionTime": round((job.ended_at() - began) * 1000)}
        if plan.ends == "IN_PROGRESS":
            return told | {"status": "TIMED_OUT"}
        told["status"] = plan.ends
        output = plan.make_output(job.input) if plan.make_output else plan.output
        return told | {name: value for name, value in (("output", output), ("error", plan.error)) if value is not None}
