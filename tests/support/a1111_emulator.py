"""A1111's API without a GPU: one image at a time, requests that block until theirs is done, and no way to fetch it later."""

import base64
import io
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from tests.support import pictures
from tests.support.loopback import Emulator, Reply, said

SAMPLERS = ("DPM++ 2M", "Euler a", "Euler", "DDIM")
SCHEDULERS = (("automatic", "Automatic"), ("karras", "Karras"), ("uniform", "Uniform"))
LOGIN = ("painter", "hush-hush-secret")


@dataclass
class Task:
    id: str
    starts: float
    ends: float


class A1111(Emulator):
    """One web UI. `ui` false is `--nowebui`."""

    def __init__(self, clock: Callable[[], float] = time.time, *, seconds: float = 0.0, ui: bool = True) -> None:
        super().__init__(clock)
        self.seconds = seconds
        self.ui = ui
        self.login: tuple[str, str] | None = None
        self.bodies: list[dict] = []
        self.tasks: list[Task] = []
        self.interrupted: list[str] = []
        self.results: deque[Reply] = deque()  # instead of a picture, for the next accepted requests
        self.by_seed: dict[int, Reply] = {}
        self.grid = False
        self.embeddings: list[str] = ["mary-v2"]
        self.skipped: list[str] = ["old-mary"]
        self.loras = ["glow"]
        self.models = ["animagine.safetensors [1449e5b0b9]", "v1-5.safetensors [6ce0161689]"]
        self.samplers = list(SAMPLERS)
        self.absent: set[str] = set()  # routes that this version does not have

    @property
    def paid(self) -> int:
        return len(self.bodies)

    def refuses(self, headers: dict[str, str], path: str) -> Reply | None:
        if path.rpartition("/")[2] in self.absent or (path.startswith("/internal") and not self.ui):
            return said({"detail": "Not Found"}, 404)
        if self.login is None or not path.startswith("/sdapi"):
            return None
        wanted = base64.b64encode(":".join(self.login).encode()).decode()
        wrong = headers.get("authorization") != f"Basic {wanted}"
        return said({"detail": "Incorrect username or password"}, 401) if wrong else None

    def current(self) -> Task | None:
        now = self.clock()
        return next((task for task in self.tasks if task.starts <= now < task.ends), None)

    def route(self, method: str, path: str, query: dict[str, str], body: bytes) -> Reply:
        match [method, *path.strip("/").split("/")]:
            case ["POST", "sdapi", "v1", "txt2img"]:
                return self._txt2img(json.loads(body))
            case ["GET", "sdapi", "v1", "progress"]:
                task = self.current()
                return said({"progress": 0.0, "state": {}, "current_task": task.id if task else None})
            case ["POST", "sdapi", "v1", "interrupt"]:
                return self._interrupt()
            case ["POST", "internal", "progress"]:
                return self._progress(json.loads(body)["id_task"])
            case ["GET", "sdapi", "v1", what] if what in self._lists():
                return said(self._lists()[what])
        return said({"detail": "Not Found"}, 404)

    def _lists(self) -> dict[str, object]:
        return {
            "embeddings": {
                "loaded": {name: {} for name in self.embeddings},
                "skipped": {name: {} for name in self.skipped},
            },
            "loras": [{"name": name, "alias": name, "path": f"/loras/{name}"} for name in self.loras],
            "sd-models": [{"title": title, "model_name": title.partition(".")[0]} for title in self.models],
            "samplers": [{"name": name, "aliases": [], "options": {}} for name in self.samplers],
            "schedulers": [{"name": name, "label": label} for name, label in SCHEDULERS],
        }

    def _txt2img(self, body: dict) -> Reply:
        wrong = [name for name in ("steps", "width", "seed") if not isinstance(body.get(name, 1), int)]
        if wrong:
            return said({"detail": [{"loc": ["body", wrong[0]], "msg": "value is not a valid integer"}]}, 422)
        if body.get("sampler_name", "Euler") not in self.samplers:
            return said({"detail": "Sampler not found"}, 404)
        now = self.clock()
        starts = max([now, *(task.ends for task in self.tasks)])
        task = Task(body.get("force_task_id", "none"), starts, starts + self.seconds)
        self.tasks.append(task)
        self.bodies.append(body)
        reply = self.results.popleft() if self.results else self.by_seed.get(body["seed"]) or said(self._made(body))
        reply.delay = task.ends - now
        return reply

    def _made(self, body: dict) -> dict:
        picture = pictures.plain(body.get("width", 24), body.get("height", 16), shade=body["seed"])
        images = [base64.b64encode(picture).decode()]
        used = [name for name in self.embeddings + self.skipped if name in body["prompt"]]
        hashes = ", ".join(f"{name}: 0a1b2c3d4e5f" for name in used)
        text = f"{body['prompt']}\nSteps: 20, Seed: {body['seed']}" + (f', TI hashes: "{hashes}"' if hashes else "")
        info = {"seed": body["seed"], "infotexts": [text], "index_of_first_image": 0}
        if self.grid:
            out = io.BytesIO()
            Image.new("RGB", (8, 8), "red").save(out, "PNG")
            images.insert(0, base64.b64encode(out.getvalue()).decode())
            info |= {"infotexts": [text, text], "index_of_first_image": 1}
        return {"images": images, "parameters": body, "info": json.dumps(info)}

    def _interrupt(self) -> Reply:
        if (task := self.current()) is not None:
            self.interrupted.append(task.id)
            task.ends = self.clock()
        return said({})

    def _progress(self, task_id: str) -> Reply:
        task = next((task for task in self.tasks if task.id == task_id), None)
        now = self.clock()
        active = task is not None and task.starts <= now < task.ends
        queued = task is not None and now < task.starts
        completed = task is not None and now >= task.ends
        return said({"active": active, "queued": queued, "completed": completed, "progress": 0.5, "eta": 1.0})
