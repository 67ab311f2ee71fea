"""What ComfyUI's answers mean: its queue, its history, and its many ways of saying no, in words for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.backends.answers import is_id, seconds
from pipeline.errors import AttemptFailed

_ENDS = ("execution_success", "execution_error", "execution_interrupted")
_FORGETTABLE = 20  # choices up to this many are repeated in full by ComfyUI; we do not repeat more


@dataclass(frozen=True, slots=True)
class File:
    """A picture among a prompt's outputs, as `/view` wants to be asked for it."""

    name: str
    subfolder: str
    kind: str  # "output", "temp" or "input"

    def query(self) -> Mapping[str, str]:
        """Return the parameters of `/view`."""
        return {"filename": self.name, "subfolder": self.subfolder, "type": self.kind}


@dataclass(frozen=True, slots=True)
class Finished:
    """One entry of the history."""

    outputs: Mapping[str, Any]
    succeeded: bool
    messages: Sequence[tuple[str, Mapping[str, Any]]]

    def failure(self) -> AttemptFailed | None:
        """Return what went wrong there; None where nothing did."""
        for event, data in self.messages:
            if event == "execution_error":
                return _execution_error(data)
            if event == "execution_interrupted":
                where = f" in node {data.get('node_id')} ({data.get('node_type')})" if data.get("node_id") else ""
                return AttemptFailed(f"somebody interrupted it in ComfyUI{where}", code="interrupted")
        if not self.succeeded:
            return AttemptFailed("ComfyUI says error, and nothing more", code="execution_error")
        return None

    def pictures(self, saver: str) -> list[File]:
        """Return the pictures that were kept, those of the node `saver` first; previews are none."""
        nodes = sorted(self.outputs, key=lambda node: node != saver)
        found = [file for node in nodes for file in _files(self.outputs[node])]
        return sorted((file for file in found if file.kind != "temp"), key=lambda file: file.kind != "output")

    def gpu_seconds(self) -> float | None:
        """Return how long it ran, by ComfyUI's own clock."""
        at = {event: data["timestamp"] for event, data in self.messages if isinstance(data.get("timestamp"), int)}
        started = at.get("execution_start")
        ended = next((at[event] for event in _ENDS if event in at), None)
        return None if started is None or ended is None else seconds(ended - started)


def in_queue(
    told: object, *, prompt_id: str, prefix: str | None = None, secrets: Sequence[str] = ()
) -> tuple[str, bool] | None:
    """Look a submission up in an answer of `/queue`: its id there and whether it runs.

    Old servers give ids of their own; there it is known by the name it will be saved under.
    """
    if not isinstance(told, dict):
        return None
    for key, running in (("queue_running", True), ("queue_pending", False)):
        for entry in _listed(told.get(key)):
            match entry:
                case [_, str(found), graph, *_] if found == prompt_id or (
                    _saves_under(graph, prefix) and is_id(found, secrets)
                ):
                    return found, running
    return None


def finished(told: object, prompt_id: str) -> Finished | None:
    """Read an answer of `/history/ID`; None while there is no entry, or none that says how it ended."""
    match told.get(prompt_id) if isinstance(told, dict) else None:
        case {"outputs": dict(outputs), "status": dict(status)}:
            pass
        case {"outputs": dict(outputs)}:
            status = {}  # servers of before 2024
        case _:
            return None
    messages = [
        (message[0], message[1])
        for message in _listed(status.get("messages"))
        if isinstance(message, list) and list(map(type, message)) == [str, dict]
    ]
    return Finished(outputs, status.get("status_str", "success") == "success", messages)


def complaints(told: object) -> str | None:
    """Put the errors of an answer of `/prompt` into a sentence; None where it has none.

    Also the answer of a 200 can have some: then only a part of the graph runs.
    """
    if not isinstance(told, dict):
        return None
    said = [sentence for node, errors in _by_node(told.get("node_errors")) for sentence in _about(node, errors)]
    if not said:
        match told.get("error"):
            case {"message": str(message), "details": str(details)} if details:
                said = [f"{message}: {details}"]
            case {"message": str(message)}:
                said = [message]
            case str(message) if message:
                said = [message]
    return "; ".join(said) or None


def error_kind(told: object) -> str | None:
    """Return the word ComfyUI has for why it refused."""
    match told:
        case {"error": {"type": str(kind)}}:
            return kind
        case _:
            return None


def _by_node(errors: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for node, said in errors.items() if isinstance(errors, dict) else ():
        if isinstance(said, dict):
            yield node, said


def _about(node: str, said: Mapping[str, Any]) -> Iterator[str]:
    where = f"node {node} ({said.get('class_type', 'unknown class')})"
    for error in _listed(said.get("errors")):
        if not isinstance(error, dict):
            continue
        extra = error.get("extra_info")
        extra = extra if isinstance(extra, dict) else {}
        name, value = extra.get("input_name"), extra.get("received_value")
        match extra.get("input_config"):
            case [list(options), *_] if error.get("type") == "value_not_in_list":
                shown = ", ".join(map(str, options[:_FORGETTABLE])) or "none"
                yield f'{where}: {name} "{value}" is not installed there; installed: {shown}'
            case _:
                details = error.get("details")
                message = error.get("message") or error.get("type") or "refused"
                yield f"{where}: {message}: {details}" if details else f"{where}: {message}"


def _execution_error(data: Mapping[str, Any]) -> AttemptFailed:
    kind = str(data.get("exception_type") or "error").rpartition(".")[2]
    message = " ".join(str(data.get("exception_message") or "").split())
    where = f"node {data.get('node_id')} ({data.get('node_type')})"
    memory = kind in ("OutOfMemoryError", "MemoryError") or "out of memory" in message.lower()
    if memory:
        return AttemptFailed(
            f"{where} ran out of memory: {message or kind}; a smaller size or model needs less", code="out_of_memory"
        )
    return AttemptFailed(f"{where} failed: {kind}: {message}", code="execution_error")


def _files(output: object) -> Iterator[File]:
    images = output.get("images") if isinstance(output, dict) else None
    for image in images if isinstance(images, list) else ():
        match image:
            case {"filename": str(name)} if name:
                yield File(name, str(image.get("subfolder") or ""), str(image.get("type") or "output"))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _saves_under(graph: object, prefix: str | None) -> bool:
    for node in graph.values() if isinstance(graph, dict) else ():
        match node:
            case {"inputs": {"filename_prefix": str(name)}} if name == prefix:
                return True
    return False
