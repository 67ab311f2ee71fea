"""Our adapter against the real RunPod worker SDK in production mode, with RunPod's queue played by an emulator."""

import base64
import itertools
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from pipeline.backends.connecting import open_transport
from pipeline.backends.fetch import Fetcher
from pipeline.backends.pace import Pace
from pipeline.backends.runpod import Runpod
from pipeline.backends.runpod_inputs import input_builder
from pipeline.errors import AttemptFailed, InvalidRequest, OutOfTime
from pipeline.model import Recipe
from tests.support import pictures
from tests.support.loopback import Emulator, Reply, said, served

ROOT = Path(__file__).parents[1]
SDK = Path(os.environ.get("PIPELINE_RUNPOD_SDK", ROOT / ".venv" / "runpod-sdk")) / "bin" / "python"

pytestmark = [
    pytest.mark.runpod,
    pytest.mark.skipif(not SDK.exists(), reason="the RunPod worker SDK is missing; install it with .ci/runpod-sdk"),
]

PICTURE = pictures.plain()


class Queue(Emulator):
    """RunPod between its two sides: clients submit and ask, workers take and hand back."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[str] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.to_stop: list[str] = []
        self._ids = itertools.count(1)

    def route(self, method: str, path: str, query: dict[str, str], body: bytes) -> Reply:
        match [method, *path.strip("/").split("/")[2:]]:
            case ["POST", "run"]:
                job_id = f"job-{next(self._ids)}-u1"
                self.jobs[job_id] = {"id": job_id, "status": "IN_QUEUE", "input": json.loads(body)["input"]}
                self.waiting.append(job_id)
                return said({"id": job_id, "status": "IN_QUEUE"})
            case ["GET", "status", job_id]:
                return said({key: value for key, value in self.jobs[job_id].items() if key != "input"})
            case ["POST", "cancel", job_id]:
                self.jobs[job_id]["status"] = "CANCELLED"
                self.to_stop.append(job_id)
            case ["GET", "job-take", _]:
                return self._take()
            case ["POST", "job-done", _, job_id]:
                return self._done(self.jobs[job_id], json.loads(body))
            case ["GET", "job-stop", *_]:
                stopped, self.to_stop = self.to_stop, []
                return said({"jobsToStop": stopped}) if stopped else Reply(204, delay=0.2)
        return said({})

    def _take(self) -> Reply:
        if not self.waiting:
            return Reply(204, delay=0.1)
        job = self.jobs[self.waiting.pop(0)]
        job["status"] = "IN_PROGRESS"
        return said({"id": job["id"], "input": job["input"]})

    def _done(self, job: dict[str, Any], told: dict[str, Any]) -> Reply:
        if told.get("status") == "IN_PROGRESS":
            if job["status"] == "IN_PROGRESS":  # it is sent by a thread, and may come after the result
                job["output"] = told["output"]
        elif job["status"] == "IN_PROGRESS":
            job.pop("output", None)
            job |= {
                "status": "FAILED" if told.get("error") else "COMPLETED",
                "executionTime": 1500,
                "delayTime": 10,
                **told,
            }
        return Reply(200)


@contextmanager
def worker(origin: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    base = f"{origin}/v2/e"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(log.parent),
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=SIM",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=SIM",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=SIM",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID",
        "RUNPOD_WEBHOOK_JOB_STOP": f"{base}/job-stop/$RUNPOD_POD_ID",
        "RUNPOD_PING_INTERVAL": "2000",
        "RUNPOD_DEBUG_LEVEL": "ERROR",
        "RUNPOD_POD_ID": "pod1",
        "RUNPOD_ENDPOINT_ID": "e",
        "RUNPOD_AI_API_KEY": "x",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }
    handler = ROOT / "tests" / "support" / "runpod_worker.py"
    with log.open("wb") as out:
        # A group of its own: the worker forks a child that pings.
        process = subprocess.Popen(
            [SDK, handler], env=environment, cwd=log.parent, stdout=out, stderr=out, start_new_session=True
        )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def asked(acts: str, timeout: float = 60.0):
    return pictures.request(recipe=Recipe(params={"acts": acts}), timeout=timeout)


@pytest.mark.long
async def test_every_shape_that_a_real_worker_hands_back(tmp_path):
    queue = Queue()
    template = {"acts": "{{acts}}", "picture": base64.b64encode(PICTURE).decode(), "seed": "{{seed}}"}
    with served(queue) as origin, worker(origin, tmp_path / "worker.log"):
        async with open_transport(origin, slots=3) as clients:
            backend = Runpod(
                f"{origin}/v2/e",
                clients,
                api_key="x",
                build=input_builder("custom", template=template),
                pace=Pace(20),
                fetcher=Fetcher(),
            )

            async def made(acts, timeout=60.0):
                request = asked(acts, timeout)
                submission = await backend.submit(request)
                try:
                    return await backend.collect(request, submission)
                except OutOfTime:
                    await backend.cancel(submission)  # as whoever asks does
                    raise

            with trio.fail_after(120):
                for acts in ("comfyui", "a1111", "sdxl"):
                    picture = await made(acts)
                    assert (picture.data, picture.gpu_seconds) == (PICTURE, 1.5)
                for acts, kind, code, words in (
                    ("raise", AttemptFailed, "failed", "the prompt broke it"),
                    ("error", InvalidRequest, "invalid_request", "Workflow validation failed: node 4"),
                    ("422", InvalidRequest, "invalid_request", "steps"),
                    ("no image", AttemptFailed, "empty_output", "no image"),
                    ("hang", AttemptFailed, "timed_out", "still IN_PROGRESS"),
                ):
                    with pytest.raises(kind, match=words) as caught:
                        await made(acts, timeout=3.0 if acts == "hang" else 60.0)
                    assert caught.value.code == code
                    assert "Traceback" not in str(caught.value)
                assert (await made("comfyui")).data == PICTURE  # the one that hung was really stopped
                with pytest.raises(AttemptFailed) as caught:
                    await made("crash", timeout=3.0)
                assert caught.value.code == "timed_out"
