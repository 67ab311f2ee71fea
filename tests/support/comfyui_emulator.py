"""ComfyUI's HTTP API without a GPU: validation, one-by-one execution, history, files, restarts, and weather.

`Comfy` answers requests; `loopback` puts it under httpx or on a real socket.
"""

import hashlib
import io
import json
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from PIL import Image

from tests.support import comfyui_nodes, loopback
from tests.support.loopback import Emulator, Reply

STOPPED_POD = loopback.PAGE


@dataclass
class Weather(loopback.Weather):
    """As the others', but for `path`, which is how the path begins, and `answer`, which is not handled."""

    reply: Reply = field(default_factory=Reply)

    def hits(self, method: str, path: str) -> bool:
        return self.method in ("", method) and path.startswith(self.path)


@dataclass
class Entry:
    number: float
    id: str
    graph: dict
    extra: dict
    outputs: list[str]
    queued_at: float
    started_at: float = 0.0
    result: str = "success"

    def told(self) -> list:
        return [self.number, self.id, self.graph, self.extra, self.outputs]


def json_reply(value: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8"})


def draw(graph: dict) -> bytes:
    """Make a small picture that depends on all of the graph but the names its files get."""
    plain = {key: node for key, node in graph.items() if "filename_prefix" not in node["inputs"]}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).digest()
    sizes = [node["inputs"] for node in graph.values() if node["class_type"].startswith("Empty")]
    size = (sizes[0]["width"], sizes[0]["height"]) if sizes and isinstance(sizes[0]["width"], int) else (64, 64)
    picture = Image.frombytes("RGB", (4, 2), digest[:24]).resize(size)
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


class Comfy(Emulator):
    """One server. `new` ones know /api/jobs and insist on UUIDs; `old` (0.3.64) take any prompt_id; `ancient` mint their own."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, age: str = "new", seconds: float = 1.0) -> None:
        super().__init__(clock)
        self.age = age
        self.seconds = seconds
        self.info = comfyui_nodes.object_info()
        self.embeddings = list(comfyui_nodes.EMBEDDINGS)
        self.results: deque[str] = deque()  # success | error | oom | silent_error | empty | temp | garbage | hang
        self.fail_seeds: list[int] = []
        self.bodies: list[dict] = []  # of POST /prompt, accepted or not
        self.accepted: list[str] = []  # ids, one per paid submission
        self.executed: list[str] = []  # ids that were computed to the end
        self.interrupts: list[str | None] = []
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.login: str | None = None  # value of Authorization that is asked for
        self.pending: list[Entry] = []
        self.running: Entry | None = None
        self.history: dict[str, dict] = {}
        self._cache: dict[str, dict] = {}
        self._number = 0
        self._free_at = 0.0

    def restart(self) -> None:
        """Forget the queue, what runs, the history and the cache; files stay."""
        with self.lock:
            self._advance()
            self.pending.clear()
            self.running = None
            self.history.clear()
            self._cache.clear()

    def reply_to(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[str, Reply]:
        """Answer as the weather allows: its kind, and what is answered in the end."""
        weather = self.weather_for(method, urlsplit(target).path)
        kind = weather.kind if weather else ""
        if weather and kind in ("page", "answer", "refuse", "reset"):
            return kind, weather.reply
        return kind, self.handle(method, target, headers, body)

    def refuses(self, headers: dict[str, str], path: str) -> Reply | None:
        if self.login is not None and headers.get("authorization") != self.login:
            return Reply(401, b"Unauthorized", {"Content-Type": "text/plain"})
        return Reply(403) if "origin" in headers else None

    def route(self, method: str, path: str, query: dict[str, str], body: bytes) -> Reply:
        self._advance()
        parts = path.removeprefix("/api").strip("/").split("/")
        lost = Reply(404, b"404: Not Found", {"Content-Type": "text/plain; charset=utf-8"})
        reply = self._told(parts, query) if method == "GET" else self._ordered(path, parts, body)
        return lost if reply is None else reply

    def _told(self, parts: list[str], query: dict[str, str]) -> Reply | None:
        told: object = None
        match parts:
            case ["view"]:
                data = self.files.get((query.get("type", "output"), query.get("subfolder", ""), query["filename"]))
                return Reply(404) if data is None else Reply(200, data, {"Content-Type": "image/png"})
            case ["queue"]:
                running = [self.running.told()] if self.running else []
                told = {"queue_running": running, "queue_pending": [entry.told() for entry in self.pending]}
            case ["history", prompt_id]:
                told = {prompt_id: self.history[prompt_id]} if prompt_id in self.history else {}
            case ["object_info"]:
                told = self.info
            case ["object_info", kind]:
                told = {kind: self.info[kind]} if kind in self.info else {}
            case ["embeddings"]:
                told = self.embeddings
            case ["system_stats"]:
                told = {"system": {"comfyui_version": "0.3.64"}, "devices": []}
        return None if told is None else json_reply(told)

    def _ordered(self, path: str, parts: list[str], body: bytes) -> Reply | None:
        said = json.loads(body or b"{}")
        match parts:
            case ["prompt"]:
                return self._prompt(said)
            case ["jobs", job, "cancel"] if self.age == "new" and path.startswith("/api/"):
                return json_reply({"cancelled": self._cancel(job)})
            case ["queue"]:
                for unwanted in said.get("delete", []):
                    self._delete(unwanted)
                return Reply(200)
            case ["interrupt"]:
                unwanted = said.get("prompt_id")
                self.interrupts.append(unwanted)
                if self.running and unwanted in (None, self.running.id):
                    self._end(self.clock(), "interrupted")
                return Reply(200)
        return None

    def _prompt(self, body: dict) -> Reply:
        self.bodies.append(body)
        if "prompt" not in body:
            return self._refusal("no_prompt", "No prompt provided", {})
        prompt_id = str(body.get("prompt_id", uuid.uuid4()))
        if self.age == "ancient":
            prompt_id = str(uuid.uuid4())
        if self.age == "new" and not _is_canonical(prompt_id):
            return self._refusal("invalid_prompt_id", "prompt_id must be a valid UUID", {})
        graph = body["prompt"]
        for key, node in graph.items():
            if node["class_type"] not in self.info:
                message = f"Cannot execute because node {node['class_type']} does not exist."
                return self._refusal("invalid_prompt", message, {}, f"Node ID '#{key}'")
        outputs = [key for key, node in graph.items() if self.info[node["class_type"]]["output_node"]]
        if not outputs:
            return self._refusal("prompt_no_outputs", "Prompt has no outputs", {})
        errors: dict[str, dict] = {}
        good = [key for key in outputs if not self._faults(graph, key, key, errors)]
        if not good:
            return self._refusal("prompt_outputs_failed_validation", "Prompt outputs failed validation", errors)
        self.accepted.append(prompt_id)
        self.pending.append(Entry(self._number, prompt_id, graph, {}, good, self.clock()))
        self._number += 1
        self._advance()
        return json_reply({"prompt_id": prompt_id, "number": self._number - 1, "node_errors": errors})

    @staticmethod
    def _refusal(kind: str, message: str, errors: dict, details: str = "") -> Reply:
        error = {"type": kind, "message": message, "details": details, "extra_info": {}}
        return json_reply({"error": error, "node_errors": errors}, 400)

    def _faults(self, graph: dict, key: str, output: str, errors: dict[str, dict]) -> bool:
        """Validate a node and all that feeds it, as execution.py does; True where something is wrong."""
        node = graph[key]
        told = self.info[node["class_type"]]
        wrong = [fault for name in told["input"]["required"] if (fault := self._fault(graph, node, name, told))]
        upstream = [
            self._faults(graph, value[0], output, errors)
            for value in node["inputs"].values()
            if isinstance(value, list) and value[0] in graph
        ]
        if wrong:
            entry = errors.setdefault(key, {"errors": wrong, "dependent_outputs": [], "class_type": node["class_type"]})
            if output not in entry["dependent_outputs"]:
                entry["dependent_outputs"].append(output)
        return bool(wrong) or any(upstream)

    def _fault(self, graph: dict, node: dict, name: str, told: dict) -> dict | None:  # noqa: PLR0911 - one per rule
        kind, *config = told["input"]["required"][name]
        if kind == "COMBO":
            kind = config[0]["options"]
        if name not in node["inputs"]:
            return _fault("required_input_missing", "Required input is missing", name, {"input_name": name})
        value = node["inputs"][name]
        if isinstance(value, list):
            made = self.info[graph[value[0]]["class_type"]]["output"]
            if value[1] >= len(made) or made[value[1]] != kind:
                details = f"{name}, received_type({made[value[1] : value[1] + 1]}) mismatch input_type({kind})"
                return _fault("return_type_mismatch", "Return type mismatch between linked nodes", details, {})
            return None
        if isinstance(kind, list):
            if value in kind:
                return None
            extra = {"input_name": name, "input_config": [kind, {}], "received_value": value}
            return _fault("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {kind}", extra)
        limits = config[0] if config else {}
        if kind in ("INT", "FLOAT"):
            try:
                number = float(value)
            except (TypeError, ValueError) as error:
                details = f"{name}, {value}, {error}"
                return _fault("invalid_input_type", f"Failed to convert an input value to a {kind} value", details, {})
            if number < limits.get("min", number):
                return _fault("value_smaller_than_min", f"Value {value} smaller than min of {limits['min']}", name, {})
        elif kind == "STRING":
            return None if isinstance(value, str) else _fault("invalid_input_type", "not a STRING", name, {})
        else:
            return _fault("bad_linked_input", "Bad linked input, must be a length-2 list", name, {})
        return None

    def _advance(self) -> None:
        """Do what the one worker would have done by now."""
        now = self.clock()
        while True:
            if self.running is None:
                if not self.pending:
                    return
                entry = self.pending.pop(0)
                entry.started_at = max(entry.queued_at, self._free_at)
                entry.result = self.results.popleft() if self.results else "success"
                if any(node["inputs"].get("seed") in self.fail_seeds for node in entry.graph.values()):
                    entry.result = "error"
                self.running = entry
            entry = self.running
            seconds = 0.0 if json.dumps(entry.graph) in self._cache else self.seconds
            if entry.result == "hang" or entry.started_at + seconds > now:
                return
            self._end(entry.started_at + seconds, entry.result)

    def _end(self, at: float, result: str) -> None:
        entry = self.running
        assert entry is not None
        self.running = None
        self._free_at = at
        stamp = {"prompt_id": entry.id, "timestamp": round(at * 1000)}
        started = {**stamp, "timestamp": round(entry.started_at * 1000)}
        messages: list = [["execution_start", started], ["execution_cached", {"nodes": [], **started}]]
        outputs: dict = {}
        if result in ("error", "oom"):
            kind = "torch.OutOfMemoryError" if result == "oom" else "RuntimeError"
            said = "Allocation on device \nThis error means you ran out of memory" if result == "oom" else "bad shapes"
            about = {"node_id": "5", "node_type": "KSampler", "exception_message": said, "exception_type": kind}
            messages.append(["execution_error", {**stamp, **about, "traceback": [], "executed": []}])
        elif result == "interrupted":
            messages.append(
                ["execution_interrupted", {**stamp, "node_id": "5", "node_type": "KSampler", "executed": []}]
            )
        elif result != "silent_error":
            outputs = self._outputs(entry, result)
            messages.append(["execution_success", stamp])
            self.executed.append(entry.id)
        ended_well = bool(messages) and messages[-1][0] == "execution_success"
        status = {"status_str": "success" if ended_well else "error", "completed": ended_well, "messages": messages}
        self.history[entry.id] = {"prompt": entry.told(), "outputs": outputs, "status": status, "meta": {}}

    def _outputs(self, entry: Entry, result: str) -> dict:
        key = json.dumps(entry.graph)
        if key not in self._cache:
            data = b"\x89PNG\r\n\x1a\nhalf" if result == "garbage" else draw(entry.graph)
            self._cache[key] = (
                {}
                if result == "empty"
                else {
                    node: {"images": [self._save(entry.graph[node], data, "temp" if result == "temp" else "output")]}
                    for node in entry.outputs
                }
            )
        return self._cache[key]

    def _save(self, node: dict, data: bytes, kind: str) -> dict:
        prefix = node["inputs"].get("filename_prefix")
        if prefix is None:
            prefix, kind = "ComfyUI_temp", "temp"
        folder, _, base = prefix.rpartition("/")
        taken = [
            name for where, sub, name in self.files if (where, sub) == (kind, folder) and name.startswith(f"{base}_")
        ]
        name = f"{base}_{len(taken) + 1:05}_.png"
        self.files[kind, folder, name] = data
        return {"filename": name, "subfolder": folder, "type": kind}

    def _delete(self, unwanted: str) -> bool:
        for entry in self.pending:
            if entry.id == unwanted:
                self.pending.remove(entry)
                return True
        return False

    def _cancel(self, unwanted: str) -> bool:
        if self.running and self.running.id == unwanted:
            self._end(self.clock(), "interrupted")
            return True
        return self._delete(unwanted)


def _fault(kind: str, message: str, details: str, extra: dict) -> dict:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


def _is_canonical(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
