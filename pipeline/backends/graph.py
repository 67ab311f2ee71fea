"""A ComfyUI graph in API format: reading it, walking its links, and the built-in one.

A node is `{"class_type": …, "inputs": {…}, "_meta": {"title": …}}`; an input is a literal or a link `[node id, output]`.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import ConfigError

Link = tuple[str, int]

_UI_KEYS = frozenset({"nodes", "links", "last_node_id", "last_link_id"})


class WorkflowError(ConfigError):
    """The workflow file cannot be used as it is; the message says what to change in it."""


@dataclass(frozen=True, eq=False)
class Node:
    """One node of a graph, its links already checked; each is itself alone."""

    id: str
    kind: str  # class_type
    title: str
    inputs: Mapping[str, Any]

    def __str__(self) -> str:
        named = f' "{self.title}"' if self.title and self.title != self.kind else ""
        return f"node {self.id} ({self.kind}{named})"

    def link(self, name: str) -> Link | None:
        """Return where an input is linked to; None for a literal or an absent input."""
        return as_link(self.inputs.get(name))

    @cached_property
    def links(self) -> Mapping[str, Link]:
        """All linked inputs by name."""
        return {name: link for name, value in self.inputs.items() if (link := as_link(value)) is not None}

    def literal(self, name: str) -> object:
        """Return the value of a widget; None where the input is linked or absent."""
        value = self.inputs.get(name)
        return None if as_link(value) is not None else value


class Widget(NamedTuple):
    """An input of a node that holds a value of its own, and may be given another."""

    node: Node
    input: str

    @property
    def value(self) -> object:
        """What stands in it now."""
        return self.node.literal(self.input)


def as_link(value: object) -> Link | None:
    """Read `["4", 0]` as a link."""
    match value:
        case [str(node), int(output)] if not isinstance(output, bool):
            return node, output
        case _:
            return None


class Graph:
    """A whole workflow, read only."""

    def __init__(self, raw: Mapping[str, Any], *, source: str) -> None:
        self.source = source
        self.raw = raw
        self.nodes: Mapping[str, Node] = {key: _node(key, value, source) for key, value in raw.items()}
        for node in self.nodes.values():
            for name, (target, _) in node.links.items():
                if target not in self.nodes:
                    raise WorkflowError(
                        f"{source}: {node}: {name} is linked to node {target}, which is not in the file"
                    )

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def source_of(self, node: Node, name: str) -> Node | None:
        """Return the node an input is linked to."""
        link = node.link(name)
        return None if link is None else self.nodes[link[0]]

    def upstream(self, start: Node, follow: Callable[[Node], Iterable[str]] | None = None) -> Iterator[Node]:
        """Yield `start` and what feeds it, nearest first; `follow` names the inputs to go along (default: all)."""
        seen = {start.id}
        waiting = deque([start])
        while waiting:
            node = waiting.popleft()
            yield node
            for name in node.links if follow is None else follow(node):
                target = self.source_of(node, name)
                if target is not None and target.id not in seen:
                    seen.add(target.id)
                    waiting.append(target)

    def root_along(self, start: Node, name: str) -> Link | None:
        """Follow links of one name (`model`, `clip`) up to the output that no such input feeds: the loader's."""
        link = start.link(name)
        seen: set[str] = set()
        while link is not None and link[0] not in seen:
            seen.add(link[0])
            further = self.nodes[link[0]].link(name)
            if further is None:
                return link
            link = further
        return None


def read_workflow(data: bytes, *, source: str) -> Graph:
    """Read a file that was exported with "Export (API)".

    Raises:
        WorkflowError: no JSON, the format of the editor, or no graph at all.
    """
    try:
        raw = _unwrapped(json.loads(data))
    except ValueError as error:
        raise WorkflowError(f'{source}: is not JSON ({error}); export the workflow with "Export (API)"') from error
    if isinstance(raw, dict) and isinstance(raw.get("nodes"), list) and _UI_KEYS & raw.keys():
        raise WorkflowError(
            f"{source}: this is the editor's own format (it has nodes and links), which ComfyUI cannot run; "
            "in ComfyUI choose Workflow > Export (API) and name that file as workflow"
        )
    if not isinstance(raw, dict) or not raw:
        raise WorkflowError(f'{source}: holds no graph; export the workflow with "Export (API)"')
    return Graph(raw, source=source)


def load_workflow(path: Path | None) -> Graph:
    """Read the file, or return the built-in graph for None.

    Raises:
        WorkflowError: also where the file cannot be read.
    """
    if path is None:
        return Graph(BUILT_IN, source="the built-in workflow")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WorkflowError(f"workflow {path}: {error.strerror}") from error
    return read_workflow(data, source=str(path))


def _unwrapped(raw: object) -> object:
    """Take the graph out of a body of POST /prompt, or out of a RunPod worker's input."""
    for wrapper in ("input", "workflow", "prompt"):
        inner = raw.get(wrapper) if isinstance(raw, dict) else None
        if isinstance(inner, dict) and "class_type" not in inner:
            raw = inner
    return raw


def _node(key: str, value: object, source: str) -> Node:
    match value:
        case {"class_type": str(kind), "inputs": dict(inputs)}:
            return Node(key, kind, _title_in(value), inputs)
        case _:
            raise WorkflowError(
                f'{source}: "{key}" is not a node with class_type and inputs; export the workflow with "Export (API)"'
            )


def _title_in(value: object) -> str:
    match value:
        case {"_meta": {"title": str(title)}}:
            return title
        case _:
            return ""


def _built_in(kind: str, title: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}


BUILT_IN: Mapping[str, Any] = {
    "1": _built_in("CheckpointLoaderSimple", "Load Checkpoint", ckpt_name="{{model}}"),
    "2": _built_in("CLIPTextEncode", "Positive", text="", clip=["1", 1]),
    "3": _built_in("CLIPTextEncode", "Negative", text="", clip=["1", 1]),
    "4": _built_in("EmptyLatentImage", "Size", width=1024, height=1536, batch_size=1),
    "5": _built_in(
        "KSampler",
        "KSampler",
        seed=0,
        steps=28,
        cfg=6.0,
        sampler_name="dpmpp_2m",
        scheduler="karras",
        denoise=1.0,
        model=["1", 0],
        positive=["2", 0],
        negative=["3", 0],
        latent_image=["4", 0],
    ),
    "6": _built_in("VAEDecode", "VAE Decode", samples=["5", 0], vae=["1", 2]),
    "7": _built_in("SaveImage", "Save Image", filename_prefix="ComfyUI", images=["6", 0]),
}
