"""A bound workflow plus one request: the graph that is sent. The exported file stays as it is."""

import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pipeline.backends import samplers, sampling, template
from pipeline.backends.binding import PLACEHOLDER, ROLES, Binding, role_of
from pipeline.backends.graph import Link, Widget, as_link
from pipeline.errors import InvalidRequest
from pipeline.model import Lora, Recipe, Request

FOLDER = "pipeline"  # below ComfyUI's output folder
_USUAL = Recipe()
_GRAIN = 8  # pixels: latents are eight times smaller than their images

RawGraph = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offered:
    """Sampler and scheduler names a service has beyond those everybody has."""

    samplers: Collection[str] = ()
    schedulers: Collection[str] = ()


def prefix_of(ticket: str) -> str:
    """Name the files of one submission, so that they are found again after ComfyUI has forgotten it."""
    return f"{FOLDER}/{ticket}"


def fill(binding: Binding, request: Request, *, offered: Offered = Offered()) -> RawGraph:
    """Return the graph for one image.

    Raises:
        InvalidRequest: the job sets something the workflow has no input for, or leaves out what it asks for.
    """
    refusal = next(objections(binding, request.recipe, request.images_in_job), None)
    if refusal is not None:
        raise refusal
    return _Filling(binding, request, offered).graph()


def objections(binding: Binding, recipe: Recipe, images: int) -> Iterator[InvalidRequest]:
    """Yield what keeps a job of `images` images from running on this workflow."""
    source = binding.graph.source
    if images > 1 and not binding.has_seed:
        yield InvalidRequest(
            f"{source} has no seed input, so all {images} images would be the same; give the node that holds it "
            'the title "seed", or ask for one image',
            code="no_seed",
        )
    for role in ROLES:
        value = getattr(recipe, role, None)
        unset = value is None or value == ""
        if unset or role in binding.bound or (role in ("width", "height") and value == getattr(_USUAL, role)):
            continue
        why = binding.unclear.get(role) or (
            f"{source} has no input for {role}, which the job or its style sets; leave it out, or give the node "
            f'that takes it the title "{role}"'
        )
        yield InvalidRequest(why, code="no_input")
    if recipe.loras and binding.model_root is None:
        yield InvalidRequest(f"{source} has no model loader that LoRAs could be put behind", code="no_input")


def notes(binding: Binding, recipe: Recipe) -> list[str]:
    """Say what a person should know of a workflow though it is no fault."""
    said = []
    if "width" not in binding.bound or "height" not in binding.bound:
        said.append("the size comes from the workflow: it has no input for width and height")
    if not binding.has_seed:
        said.append("the workflow has no seed input: one image per job")
    if any(isinstance(widget.value, int) and widget.value > 1 for widget in binding.followers.batches):
        said.append("its batch_size is set to 1: each image is asked for on its own")
    if recipe.negative_prompt is None and "negative_prompt" in binding.bound:
        said.append("the negative prompt is the workflow's own: the job sets none")
    return said


class _Filling:
    def __init__(self, binding: Binding, request: Request, offered: Offered) -> None:
        self._binding = binding
        self._request = request
        recipe = request.recipe
        named = samplers.for_comfyui(
            recipe.sampler_name, recipe.scheduler, samplers=offered.samplers, schedulers=offered.schedulers
        )
        self._values: dict[str, Any] = {
            "prompt": _with_embedding(request.prompt, recipe.embedding),
            "negative_prompt": recipe.negative_prompt,
            "seed": request.seed,
            "width": recipe.width,
            "height": recipe.height,
            "model": recipe.model,
            "steps": recipe.steps,
            "cfg_scale": recipe.cfg_scale,
            "sampler_name": named.sampler,
            "scheduler": named.scheduler,
        }
        self._raw: RawGraph = copy.deepcopy(dict(binding.graph.raw))

    def graph(self) -> RawGraph:
        for node in self._raw.values():
            node["inputs"] = template.filled(node["inputs"], self._value_of)
        for role, bound in self._binding.bound.items():
            if bound.how != PLACEHOLDER and self._values[role] is not None:
                for widget in bound.widgets:
                    self._set(widget, self._values[role])
        self._let_follow()
        for key, value in self._request.recipe.params.items():
            if key not in self._binding.placeholders:
                self._set(self._addressed(key), value)
        self._put_in_loras()
        self._set(Widget(self._binding.saver, sampling.SAVED_AS), prefix_of(self._request.ticket))
        return self._raw

    def _set(self, widget: Widget, value: object) -> None:
        self._raw[widget.node.id]["inputs"][widget.input] = value

    def _value_of(self, name: str) -> object:
        role = role_of(name)
        if role is None:
            params = self._request.recipe.params
            if name in params:
                return params[name]
            near = get_close_matches(name, [*ROLES, *params], n=1)
            hint = f"; did you mean {{{{{near[0]}}}}}?" if near else ""
            raise self._invalid(f"holds {{{{{name}}}}}, which is no key of a job and not in params{hint}")
        value = "" if role == "negative_prompt" and self._values[role] is None else self._values[role]
        if value is None:
            raise self._invalid(f"takes {{{{{name}}}}} from the job: set {role} in the job or its style")
        return value

    def _let_follow(self) -> None:
        follow, recipe = self._binding.followers, self._request.recipe
        for widget in follow.batches:
            self._set(widget, 1)
        for same, scaled, old, new in (
            (follow.widths, follow.scaled_widths, follow.width, recipe.width),
            (follow.heights, follow.scaled_heights, follow.height, recipe.height),
        ):
            for widget in same:
                self._set(widget, new)
            for widget in scaled:
                self._set(widget, max(_GRAIN, _number(widget, new / old / _GRAIN) * _GRAIN))
        if recipe.steps is not None:
            for widget in follow.step_marks:
                self._set(widget, _number(widget, recipe.steps / follow.steps))

    def _addressed(self, key: str) -> Widget:
        """Find the widget that a key of `params` names: `input`, or `node.input` with the node's id, title or class."""
        place, _, name = key.rpartition(".")
        graph = self._binding.graph
        having = [node for node in graph if name in node.inputs and name not in node.links]
        if place:
            called = [
                [node for node in having if node.id == place],
                [node for node in having if node.title.casefold() == place.casefold()],
                [node for node in having if node.kind == place],
            ]
            having = next(filter(None, called), [])
        if not having:
            known = sorted({name for node in graph for name in node.inputs if name not in node.links})
            raise self._invalid(f'has no input for params "{key}"; it has {", ".join(known)}')
        if len(having) > 1:
            listed = "; ".join(map(str, having))
            raise self._invalid(f'has several inputs for params "{key}": {listed}; write "{having[0].id}.{name}"')
        widget = Widget(having[0], name)
        for role, bound in self._binding.bound.items():
            if widget in bound.widgets:
                raise self._invalid(f'gets params "{key}" already from {role}: use that key')
        if widget == Widget(self._binding.saver, sampling.SAVED_AS):
            raise self._invalid("saves under a name of ours, by which the image is found again: params cannot set it")
        return widget

    def _put_in_loras(self) -> None:
        new = [lora for lora in self._request.recipe.loras if not self._adjusted(lora)]
        model, clip = self._binding.model_root, self._binding.clip_root
        if not new or model is None:
            return
        chain: RawGraph = {}
        last_model, last_clip = model, clip
        fresh = 1 + max((int(key) for key in self._raw if key.isdecimal()), default=0)
        for node_id, lora in enumerate(new, fresh):
            chain[str(node_id)] = _lora_node(lora, last_model, last_clip)
            last_model = (str(node_id), 0)
            last_clip = None if last_clip is None else (str(node_id), 1)
        moved = {model: last_model} | ({} if clip is None or last_clip is None else {clip: last_clip})
        for node in self._raw.values():
            for name, value in node["inputs"].items():
                link = as_link(value)
                if link in moved:
                    node["inputs"][name] = list(moved[link])
        self._raw |= chain

    def _adjusted(self, lora: Lora) -> bool:
        """A LoRA that the workflow already loads gets the job's weight, not a second helping."""
        there = [
            node["inputs"]
            for node in self._raw.values()
            if "strength_model" in node["inputs"] and node["inputs"].get("lora_name") == lora.name
        ]
        for inputs in there:
            inputs |= {key: lora.weight for key in ("strength_model", "strength_clip") if key in inputs}
        return bool(there)

    def _invalid(self, what: str) -> InvalidRequest:
        return InvalidRequest(f"{self._binding.graph.source} {what}", code="invalid_workflow")


def _number(widget: Widget, factor: float) -> int:
    value = widget.value
    assert isinstance(value, int)  # what follows was chosen for being a number
    return round(value * factor)


def _with_embedding(prompt: str, embedding: str | None) -> str:
    if embedding is None or f"embedding:{embedding}" in prompt:
        return prompt
    return f"{prompt}, embedding:{embedding}" if prompt.strip() else f"embedding:{embedding}"


def _lora_node(lora: Lora, model: Link, clip: Link | None) -> RawGraph:
    inputs: RawGraph = {"lora_name": lora.name, "strength_model": lora.weight, "model": list(model)}
    if clip is None:
        return {"class_type": "LoraLoaderModelOnly", "inputs": inputs, "_meta": {"title": f"LoRA {lora.name}"}}
    inputs |= {"strength_clip": lora.weight, "clip": list(clip)}
    return {"class_type": "LoraLoader", "inputs": inputs, "_meta": {"title": f"LoRA {lora.name}"}}
