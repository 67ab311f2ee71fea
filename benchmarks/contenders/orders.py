"""What each contender is told, by its environment's variables, and what all of them do in the same way.

LOOK_EVERY is for 60 images in flight: oftener than that would go over RunPod's 200 status requests a second.
"""

import base64
import io
import json
import os
import threading

from PIL import Image

GPU = os.environ["BENCH_GPU"]
GPU_KEY = os.environ["BENCH_GPU_KEY"]
CLOUD_URL = os.environ["BENCH_CLOUD_URL"]
CLOUD, CLOUD_KEY, CLOUD_SECRET = os.environ["BENCH_CLOUD"].split()
RECORD = os.environ["BENCH_RECORD"]
REDIS = os.environ.get("BENCH_REDIS", "")
IN_FLIGHT = int(os.environ["BENCH_IN_FLIGHT"])
LOOK_EVERY = 0.3  # seconds
BEARER = {"Authorization": f"Bearer {GPU_KEY}"}

_record = open(RECORD, "a", buffering=1)  # noqa: PTH123, SIM115  # open until the process ends
_turn = threading.Lock()


def order(number: int) -> dict:
    """The body of /run."""
    return {"input": {"prompt": "in a garden", "width": 1024, "height": 1536, "seed": number, "num_images": 1}}


def public_id(number: int) -> str:
    return f"me/characters/mary/images/mary_image_{number + 1}"


def checked_picture(job: dict) -> bytes | None:
    """The bytes of a job that has ended well, decoded whole; None while it goes on."""
    if job["status"] in {"IN_QUEUE", "IN_PROGRESS"}:
        return None
    if job["status"] != "COMPLETED":
        raise RuntimeError(f"job {job['id']} is {job['status']}")
    data = base64.b64decode(job["output"]["images"][0].partition(",")[2])
    Image.open(io.BytesIO(data)).load()
    return data


def record(number: int, answer: dict) -> None:
    """One line for an image."""
    line = json.dumps({"number": number + 1, "url": answer["secure_url"], "bytes": answer["bytes"]}) + "\n"
    with _turn:
        _record.write(line)
