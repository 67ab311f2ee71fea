"""Which inputs of a workflow take a job's values: by `{{prompt}}`-style placeholders, else by node titles, else by the sampler's links.

Found once, when the workflow is read. Ambiguity is an error that lists the candidates: guessing would make images
that look right and are not.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pipeline.backends import sampling
from pipeline.backends.graph import Graph, Link, Node, Widget, WorkflowError
from pipeline.backends.template import names_in

PLACEHOLDER: Final = "placeholder"
TITLE: Final = "title"
LINKS: Final = "links"

ROLES: Final = (
    "prompt",
    "negative_prompt",
    "seed",
    "width",
    "height",
    "model",
    "steps",
    "cfg_scale",
    "sampler_name",
    "scheduler",
)

# What people write, in a title or in double braces, for each of the job's keys.
_ALIASES: Mapping[str, str] = {
    "positive": "prompt",
    "positive prompt": "prompt",
    "negative": "negative_prompt",
    "negative prompt": "negative_prompt",
    "noise seed": "seed",
    "cfg": "cfg_scale",
    "cfg scale": "cfg_scale",
    "guidance": "cfg_scale",
    "guidance scale": "cfg_scale",
    "sampler": "sampler_name",
    "sampler name": "sampler_name",
    "checkpoint": "model",
    "ckpt": "model",
    "ckpt name": "model",
    **{role: role for role in ROLES if "_" not in role},
}
_OUTPUT_TITLES = frozenset({"output", "result", "final", "save"})
_SAMPLER_TITLES = frozenset({"sampler", "main", "main sampler"})

_TITLE_OF: Mapping[str, str] = {"negative_prompt": "negative", "cfg_scale": "cfg", "sampler_name": "sampler"}


@dataclass(frozen=True, slots=True)
class Bound:
    """Where one of the job's keys goes, and how that was found."""

    widgets: tuple[Widget, ...]
    how: str


@dataclass(frozen=True, slots=True)
class BoundInput:
    """One line of what `validate --plan` prints."""

    key: str  # the job's key; `output` is the node whose picture is taken
    input: str
    node: str
    kind: str
    how: str


@dataclass(frozen=True)
class Binding:
    """A workflow with its inputs found."""

    graph: Graph
    bound: Mapping[str, Bound]
    unclear: Mapping[str, str]  # keys that only matter if a job sets them: the sentence to refuse with
    saver: Node
    model_root: Link | None
    clip_root: Link | None
    followers: "sampling.Followers" = field(default_factory=sampling.Followers)

    @property
    def placeholders(self) -> frozenset[str]:
        """Names in double braces that are no key of a job: they take their values from `params`."""
        return frozenset(name for name in names_in(dict(self.graph.raw)) if role_of(name) is None)

    @property
    def has_seed(self) -> bool:
        """Whether images of one job can differ."""
        return "seed" in self.bound

    def describe(self) -> list[BoundInput]:
        """Tell for each key which input of which node takes it."""
        lines = [
            BoundInput(key, name, node.id, node.kind, bound.how)
            for key in ROLES
            if (bound := self.bound.get(key)) is not None
            for node, name in bound.widgets
        ]
        saver = self.saver
        return [*lines, BoundInput("output", sampling.SAVED_AS, saver.id, saver.kind, LINKS)]


def role_of(name: str) -> str | None:
    """Translate a title or a placeholder's name to the job's key; None: it means none."""
    plain = " ".join(name.replace("_", " ").replace("-", " ").casefold().split())
    return _ALIASES.get(plain)


def bind(graph: Graph) -> Binding:
    """Find where the job's keys go.

    Raises:
        WorkflowError: no way to tell which node takes the prompt, the seed or the size, or which image is meant.
    """
    by_placeholder = _by_placeholder(graph)
    by_title = _by_title(graph)
    saver = _saver(graph)
    chain = _Chain(graph, saver)
    bound: dict[str, Bound] = {}
    unclear: dict[str, str] = {}
    for role in ROLES:
        if by_placeholder.get(role):
            bound[role] = Bound(tuple(by_placeholder[role]), PLACEHOLDER)
        elif by_title.get(role):
            bound[role] = Bound(tuple(by_title[role]), TITLE)
        else:
            try:
                widgets = tuple(dict.fromkeys(chain.widgets(role)))
            except WorkflowError as error:
                if role in ("prompt", "seed", "width", "height"):
                    raise
                unclear[role] = str(error)
            else:
                if widgets:
                    bound[role] = Bound(widgets, LINKS)
    if "prompt" not in bound:
        raise WorkflowError(
            f"{graph.source}: found no input for the prompt; give the node that holds the text the title "
            '"prompt", or write {{prompt}} into it'
        )
    model_root, clip_root = chain.roots(bound["prompt"])
    return Binding(graph, bound, unclear, saver, model_root, clip_root, chain.followers(bound))


def _by_placeholder(graph: Graph) -> dict[str, list[Widget]]:
    found: dict[str, list[Widget]] = {}
    for node in graph:
        for name, value in node.inputs.items():
            for role in filter(None, map(role_of, names_in(value))):
                found.setdefault(role, []).append(Widget(node, name))
    return found


def _by_title(graph: Graph) -> dict[str, list[Widget]]:
    found: dict[str, list[Widget]] = {}
    for node in graph:
        plain = " ".join(node.title.casefold().split())
        roles = ("width", "height") if plain == "size" else (role_of(plain),)
        for role in roles:
            if role is not None:
                found.setdefault(role, []).extend(sampling.widgets(graph, node, role))
    return found


def _saver(graph: Graph) -> Node:
    savers = [node for node in graph if sampling.SAVED_AS in node.inputs]
    if not savers:
        raise WorkflowError(f"{graph.source}: no node saves the image; add a SaveImage node (a preview is not kept)")
    titled = [node for node in savers if node.title.strip().casefold() in _OUTPUT_TITLES]
    candidates = titled or savers
    before = {node.id: set(graph.upstream(node)) - {node} for node in candidates}
    samplers = {node.id: set(filter(sampling.is_sampler, before[node.id])) for node in candidates}
    for node in candidates:
        others = [other.id for other in candidates if other is not node]
        if all(
            samplers[node.id] > samplers[other]
            or (samplers[node.id] == samplers[other] and before[node.id] > before[other])
            for other in others
        ):
            return node
    raise _ambiguous(graph, "several images are saved", candidates, 'give the node that saves yours the title "output"')


class _Chain:
    """The samplers that lead to the saved image, first to last, and what hangs on them."""

    def __init__(self, graph: Graph, saver: Node) -> None:
        self._graph = graph
        before = [node for node in graph.upstream(saver) if sampling.is_sampler(node)] or [saver]
        reach = {node.id: {up.id for up in graph.upstream(node)} for node in before}
        titled = [node for node in before if node.title.strip().casefold() in _SAMPLER_TITLES]
        if len(titled) == 1:
            # The others count only where they go on from the one that was named, or feed it.
            before = [n for n in before if titled[0].id in reach[n.id] or n.id in reach[titled[0].id]]
        self._samplers = sorted(before, key=lambda node: sum(other.id in reach[node.id] for other in before))
        self._first = [n for n in before if not any(other is not n and other.id in reach[n.id] for other in before)]

    def widgets(self, role: str) -> Iterator[Widget]:
        """Yield the widgets that take `role`, the first sampler's first.

        Raises:
            WorkflowError: more than one thing fits.
        """
        if len({tuple(self._widgets_at(sampler, role)) for sampler in self._first}) > 1:
            decide = f'give the node that takes it the title "{_title(role)}", or write {{{{{role}}}}} into it'
            raise _ambiguous(
                self._graph, f"several samplers that do not build on each other could take {role}", self._first, decide
            )
        first = self._widgets_at(self._first[0], role)
        yield from first
        if role in ("width", "height"):
            return
        for sampler in self._samplers:
            further = [widget for widget in self._widgets_at(sampler, role) if widget not in first]
            if role in ("prompt", "negative_prompt", "seed") or self._alike(first, further):
                yield from further

    def roots(self, prompt: Bound) -> tuple[Link | None, Link | None]:
        """Return the outputs of the loaders that MODEL and CLIP come from, for LoRAs to be put behind."""
        model = next(filter(None, (sampling.model_root(self._graph, sampler) for sampler in self._first)), None)
        encoders = [widget.node for widget in prompt.widgets]
        encoders += [node for sampler in self._first for node in sampling.encoders(self._graph, sampler, "positive")]
        clip = next(filter(None, (self._graph.root_along(node, "clip") for node in encoders)), None)
        return model, clip

    def followers(self, bound: Mapping[str, Bound]) -> "sampling.Followers":
        """Return the widgets that must change along with size and steps."""
        return sampling.followers(
            self._graph,
            self._samplers,
            taken={widget for one in bound.values() for widget in one.widgets},
            width=_present(bound.get("width")),
            height=_present(bound.get("height")),
            steps=_present(bound.get("steps")),
        )

    def _widgets_at(self, sampler: Node, role: str) -> list[Widget]:
        found = sampling.inputs_of(self._graph, sampler, role)
        if role in ("prompt", "negative_prompt"):
            self._refuse_several_texts(sampler, role, found)
        return found

    def _refuse_several_texts(self, sampler: Node, role: str, found: Sequence[Widget]) -> None:
        """Several texts joined into one conditioning are one prompt only where they are the same."""
        per_node: dict[str, Node] = {node.id: node for node, _ in found}
        if len(per_node) > 1 and len({widget.value for widget in found}) > 1:
            side = "positive" if role == "prompt" else "negative"
            decide = f'give the node that takes it the title "{_title(role)}", or write {{{{{role}}}}} into it'
            raise _ambiguous(self._graph, f"the {side} side of {sampler} has several texts", per_node.values(), decide)

    @staticmethod
    def _alike(first: Sequence[Widget], further: Sequence[Widget]) -> bool:
        """A later sampler follows the first one only where it had the same value."""
        values = {repr(widget.value) for widget in (*first, *further)}
        return len(values) == 1


def _present(bound: Bound | None) -> object:
    """Return the value that stands in the workflow now."""
    return None if bound is None else bound.widgets[0].value


def _title(role: str) -> str:
    return _TITLE_OF.get(role, role)


def _ambiguous(graph: Graph, what: str, candidates: Iterable[Node], decide: str) -> WorkflowError:
    listed = "; ".join(map(str, candidates))
    return WorkflowError(f"{graph.source}: {what}: {listed}; {decide}")
