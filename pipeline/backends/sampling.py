"""What ComfyUI's nodes mean: where a sampler's prompt, seed, size and model come from.

Nodes are known by the names of their inputs, not by their classes, so that variants and custom nodes of the usual
shape are understood without a list of them.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.backends.graph import Graph, Link, Node, Widget, WorkflowError

SAVED_AS: Final = "filename_prefix"

# Encoders may have several of these (SDXL, Flux, SD3); all of them take the prompt.
_TEXTS = ("text", "text_g", "text_l", "clip_l", "clip_g", "t5xxl", "llama", "bert", "mt5xl", "prompt", "user_prompt")
_VALUES = ("value", "Value", "int", "float", "number", "string", "String")  # of primitive nodes
_WIDGETS: Mapping[str, tuple[str, ...]] = {
    "prompt": (*_TEXTS, "positive"),
    "negative_prompt": (*_TEXTS, "negative"),
    "seed": ("seed", "noise_seed"),
    "width": ("width", "empty_latent_width"),
    "height": ("height", "empty_latent_height"),
    "steps": ("steps",),
    "cfg_scale": ("cfg", "guidance"),
    "sampler_name": ("sampler_name",),
    "scheduler": ("scheduler",),
    "model": ("ckpt_name", "unet_name", "model_name"),
}
_TOLD_DIRECTLY: Mapping[str, tuple[str, ...]] = {
    **_WIDGETS,
    "prompt": ("prompt", "text"),
    "negative_prompt": ("negative_prompt",),
    "model": ("model", "model_name"),
}
_SIDES = {"prompt": "positive", "negative_prompt": "negative"}
_PIXELS = frozenset({"latent_image", "latent", "samples", "samples_to", "pixels", "image", "images"})
_NO_CONDITIONING = frozenset(
    {"model", "clip", "vae", "image", "mask", "pixels", "samples", "latent", "control_net", "style_model"}
)
_RESIZERS = frozenset({"LatentUpscale", "ImageScale"})  # they take an absolute size, not a factor
_SIZE_PAIRS = (("width", "height"), ("target_width", "target_height"))


@dataclass(frozen=True, slots=True)
class Followers:
    """Widgets that must change along with the size and the steps, since they repeat or depend on them."""

    widths: tuple[Widget, ...] = ()
    heights: tuple[Widget, ...] = ()
    scaled_widths: tuple[Widget, ...] = ()  # of a later upscale: they keep their factor
    scaled_heights: tuple[Widget, ...] = ()
    step_marks: tuple[Widget, ...] = ()  # where one sampler hands over to the next
    batches: tuple[Widget, ...] = ()  # one image is asked for at a time
    width: int = 0  # what the workflow was exported with
    height: int = 0
    steps: int = 0


def is_sampler(node: Node) -> bool:
    """Tell whether a node makes an image (or a latent) out of another one and conditioning."""
    if _PIXELS.isdisjoint(node.links):
        return False
    seeded = any(name in node.inputs for name in ("seed", "noise_seed", "cfg"))
    return "guider" in node.links or ("positive" in node.links and seeded)


def widgets(graph: Graph, node: Node, role: str) -> list[Widget]:
    """Return a node's own widgets that can take `role`, or those of the nodes that feed them."""
    own = [widget for name in _WIDGETS[role] if name in node.inputs for widget in _resolved(graph, node, name, role)]
    if own:
        return own if role in _SIDES else own[:1]
    return [Widget(node, name) for name in _VALUES if _fits(node.literal(name), role)][:1]


def inputs_of(graph: Graph, sampler: Node, role: str) -> list[Widget]:
    """Follow a sampler's links to the widgets that take `role`.

    Without a sampler (nodes that call a service, or draw by themselves) the node that saves the image is taken for
    one, and the nearest node before it that has such an input is meant.

    Raises:
        WorkflowError: a text is put together from several parts.
    """
    if not is_sampler(sampler):
        told = (
            (node, name) for node in graph.upstream(sampler) for name in _TOLD_DIRECTLY[role] if name in node.inputs
        )
        return next((found for node, name in told if (found := _resolved(graph, node, name, role))), [])
    holder: Node | None
    if role in _SIDES:
        return _texts_of(graph, sampler, role)
    if role in ("width", "height"):
        holder = _size_node(graph, sampler)
    elif role == "model":
        root = model_root(graph, sampler)
        holder = None if root is None else graph.nodes[root[0]]
    elif role == "cfg_scale":
        # Guidance-distilled models (Flux) are steered there; their cfg stays at 1.
        guided = (node for node in _conditioning(graph, sampler, "positive") if "guidance" in node.inputs)
        holder = next(guided, None) or _guider(graph, sampler)
    else:
        holder = _with_any(graph, sampler, _WIDGETS[role])
    return [] if holder is None else widgets(graph, holder, role)


def encoders(graph: Graph, sampler: Node, side: str) -> list[Node]:
    """Return the text encoders behind a sampler's `positive` or `negative`."""
    return [node for node in _conditioning(graph, sampler, side) if _text_inputs(node, side)]


def model_root(graph: Graph, sampler: Node) -> Link | None:
    """Return the loader's output that a sampler's MODEL comes from."""
    return graph.root_along(_guider(graph, sampler), "model")


def followers(
    graph: Graph,
    samplers: Sequence[Node],
    *,
    taken: Collection[Widget],
    width: object,
    height: object,
    steps: object,
) -> Followers:
    """Find what must change along with size and steps, given what stands there now."""
    same: list[tuple[Widget, Widget]] = []
    scaled: list[tuple[Widget, Widget]] = []
    if isinstance(width, int) and isinstance(height, int):
        for node in graph:
            for across, down in _SIZE_PAIRS:
                pair = (node.literal(across), node.literal(down))
                if Widget(node, across) in taken:
                    continue
                if pair == (width, height):
                    same.append((Widget(node, across), Widget(node, down)))
                elif node.kind in _RESIZERS and _is_size(pair) and _after(graph, node, samplers):
                    scaled.append((Widget(node, across), Widget(node, down)))
    sized = {found.id: found for sampler in samplers if (found := _size_node(graph, sampler)) is not None}
    return Followers(
        widths=tuple(pair[0] for pair in same),
        heights=tuple(pair[1] for pair in same),
        scaled_widths=tuple(pair[0] for pair in scaled),
        scaled_heights=tuple(pair[1] for pair in scaled),
        step_marks=tuple(_step_marks(graph, samplers, steps)) if isinstance(steps, int) else (),
        batches=tuple(
            Widget(node, "batch_size") for node in sized.values() if _fits(node.literal("batch_size"), "steps")
        ),
        width=width if isinstance(width, int) else 0,
        height=height if isinstance(height, int) else 0,
        steps=steps if isinstance(steps, int) else 0,
    )


def _step_marks(graph: Graph, samplers: Sequence[Node], steps: int) -> Iterator[Widget]:
    for sampler in samplers:
        for node in graph.upstream(sampler, _named("sigmas")):
            for name in ("start_at_step", "end_at_step", "step"):
                mark = node.literal(name)
                if isinstance(mark, int) and 0 < mark <= steps:
                    yield Widget(node, name)


def _after(graph: Graph, node: Node, samplers: Sequence[Node]) -> bool:
    before = {up.id for up in graph.upstream(node)}
    return any(sampler.id in before for sampler in samplers)


def _is_size(pair: tuple[Any, Any]) -> bool:
    return all(isinstance(side, int) and side > 0 for side in pair)


def _guider(graph: Graph, sampler: Node) -> Node:
    return graph.source_of(sampler, "guider") or sampler


def _named(*prefixes: str) -> Callable[[Node], list[str]]:
    return lambda node: [name for name in node.links if name.startswith(prefixes)]


def _with_any(graph: Graph, sampler: Node, names: Sequence[str]) -> Node | None:
    """Return the sampler itself, or what its noise, sampler and sigmas come from, if it has one of these inputs."""
    nodes = graph.upstream(sampler, _named("noise", "sampler", "sigmas"))
    return next((node for node in nodes if any(name in node.inputs for name in names)), None)


def _size_node(graph: Graph, sampler: Node) -> Node | None:
    """Return the node that an empty latent (or the picture to start from) gets its size from."""
    nodes = graph.upstream(sampler, lambda node: [name for name in node.links if name in _PIXELS])
    for node in nodes:
        if node is not sampler and all(any(n in node.inputs for n in _WIDGETS[role]) for role in ("width", "height")):
            return node
    return None


def _texts_of(graph: Graph, sampler: Node, role: str) -> list[Widget]:
    side = _SIDES[role]
    found = encoders(graph, sampler, side)
    if side == "negative":
        positive = {node.id for node in encoders(graph, sampler, "positive")}
        # Guidance-distilled workflows feed both sides from one text, or blank the negative one out.
        found = [node for node in found if node.id not in positive or "negative" in node.inputs]
    return [
        widget for node in found for name in _text_inputs(node, side) for widget in _resolved(graph, node, name, role)
    ]


def _conditioning(graph: Graph, sampler: Node, side: str) -> Iterator[Node]:
    """Yield the nodes that a sampler's conditioning passes through, up to the encoders."""
    holder = _guider(graph, sampler)
    starts = ("positive", "conditioning", "cond1") if side == "positive" else ("negative",)
    waiting = [link for link in map(holder.link, starts) if link is not None][:1]
    seen: set[Link] = set()
    while waiting:
        link = waiting.pop(0)
        node = graph.nodes[link[0]]
        if link in seen or "ZeroOut" in node.kind:
            continue
        seen.add(link)
        yield node
        if not _text_inputs(node, side):
            waiting += [node.links[name] for name in _towards_text(node, link[1], side)]


def _towards_text(node: Node, output: int, side: str) -> list[str]:
    if {"positive", "negative"} <= node.links.keys():
        return [{0: "positive", 1: "negative"}.get(output, side)]  # ControlNet, inpainting: two in, two out
    named = [name for name in node.links if name.startswith("cond") or name == side]
    return named or [name for name in node.links if name not in _NO_CONDITIONING]


def _text_inputs(node: Node, side: str) -> list[str]:
    """Return the inputs of an encoder (or of a loader that encodes) that hold text for this side."""
    if isinstance(node.literal(side), str):
        return [side]
    if "clip" not in node.links and "Encode" not in node.kind:
        return []
    return [name for name in _TEXTS if name in node.inputs]


def _resolved(graph: Graph, node: Node, name: str, role: str) -> list[Widget]:
    """Return the widget behind an input: its own, or the one of the primitive node that it is linked to."""
    seen: set[str] = set()
    while (source := graph.source_of(node, name)) is not None and source.id not in seen:
        seen.add(source.id)
        usual = [n for n in (*_WIDGETS[role], *_VALUES) if _fits(source.literal(n), role)][:1]
        fitting = usual or [n for n in source.inputs if _fits(source.literal(n), role)]
        if len(fitting) > 1:
            raise WorkflowError(
                f"{graph.source}: {role} comes from {source}, which has several inputs for it ({', '.join(fitting)}); "
                f"write {{{{{role}}}}} into the right one"
            )
        if not fitting:
            if len(source.links) != 1:
                return []
            fitting = list(source.links)
        node, name = source, fitting[0]
    return [Widget(node, name)] if _fits(node.literal(name), role) else []


def _fits(value: object, role: str) -> bool:
    match role:
        case "prompt" | "negative_prompt" | "sampler_name" | "scheduler" | "model":
            return isinstance(value, str)
        case "cfg_scale":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return isinstance(value, int) and not isinstance(value, bool)
