"""The `input` that each kind of RunPod worker wants for one image.

| worker    | what it is                                                                       |
|-----------|----------------------------------------------------------------------------------|
| `comfyui` | worker-comfyui: the graph under `workflow`                                       |
| `a1111`   | worker-a1111: the body of A1111's txt2img                                        |
| `sdxl`    | worker-sdxl: the parameters of its schema, and not one key more                  |
| `custom`  | any other: a template with `{{prompt}}`-style values, which keep their type      |
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from pipeline.backends.samplers import for_a1111, for_comfyui
from pipeline.backends.template import filled, names_in
from pipeline.backends.txt2img import txt2img_body
from pipeline.errors import ConfigError, InvalidRequest
from pipeline.model import Recipe, Request

Build = Callable[[Request], dict[str, Any]]
Graph = Callable[[Request], Mapping[str, Any]]

WORKERS = ("sdxl", "a1111", "comfyui", "custom")

_SDXL_FURTHER = frozenset({"refiner_inference_steps", "strength", "image_url", "high_noise_frac"})
_SDXL_SCHEDULERS = {
    "ddim": "DDIM",
    "euler": "K_EULER",
    "lms": "KLMS",
    "dpmpp_2m": "DPMSolverMultistep",
    "plms": "PNDM",
}


def input_builder(worker: str, *, graph: Graph | None = None, template: Mapping[str, Any] | None = None) -> Build:
    """Return what builds the input for a kind of worker.

    `graph` makes the ComfyUI graph of a request (needed for `comfyui`; `{{workflow}}` in a template); `template` is
    the configuration's `input:` (needed for `custom`).

    Raises:
        ConfigError: something needed is not there.
    """
    match worker:
        case "sdxl":
            return sdxl_input
        case "a1111":
            return a1111_input
        case "comfyui" if graph is not None:
            return lambda request: {"workflow": dict(graph(request))}
        case "custom" if template:
            if graph is None and "workflow" in names_in(dict(template)):
                raise ConfigError("the input template names {{workflow}}, but the back end has no `workflow:` file")
            return _Custom(dict(template), graph)
        case "custom":
            raise ConfigError('a runpod back end with "worker: custom" needs an `input:` template')
        case _:
            raise ConfigError(f'no way to build the input for "worker: {worker}"; choose one of {", ".join(WORKERS)}')


def a1111_input(request: Request) -> dict[str, Any]:
    """Build the input of worker-a1111; the embedding's name goes into the prompt, where A1111 ignores an unknown one."""
    recipe = request.recipe
    return txt2img_body(request, for_a1111(recipe.sampler_name, recipe.scheduler), embedding=recipe.embedding)


def sdxl_input(request: Request) -> dict[str, Any]:
    """Build the input of worker-sdxl. Its model is part of the endpoint, so `model` is not sent.

    Raises:
        InvalidRequest: LoRAs, a sampler or a parameter that this worker does not have.
    """
    recipe = request.recipe
    if recipe.loras:
        raise InvalidRequest(
            "worker-sdxl takes no LoRAs: use a comfyui or a1111 worker for this job", code="unsupported"
        )
    further = dict(recipe.params)
    if unknown := sorted(further.keys() - _SDXL_FURTHER):
        raise InvalidRequest(
            f"worker-sdxl refuses keys it does not know: params may hold {', '.join(sorted(_SDXL_FURTHER))}, "
            f"not {', '.join(unknown)}",
            code="collision" if unknown[0] in _sdxl_own(request) else "unsupported",
        )
    own = _sdxl_own(request)
    return {key: value for key, value in {**further, **own}.items() if value is not None}


def _sdxl_own(request: Request) -> dict[str, Any]:
    recipe = request.recipe
    return {
        "prompt": request.prompt,
        "negative_prompt": recipe.negative_prompt,
        "width": recipe.width,
        "height": recipe.height,
        "seed": request.seed,
        "scheduler": _sdxl_scheduler(recipe),
        "num_inference_steps": recipe.steps,
        "guidance_scale": None if recipe.cfg_scale is None else float(recipe.cfg_scale),  # it refuses an integer
        "num_images": 1,
    }


def _sdxl_scheduler(recipe: Recipe) -> str | None:
    """Translate the sampler; what diffusers calls a scheduler may also be named as it is, under either key."""
    for asked in (recipe.sampler_name, recipe.scheduler):
        if asked in _SDXL_SCHEDULERS.values():
            return asked
    if recipe.sampler_name is None:
        return None
    plain = recipe.sampler_name.lower()
    name = plain if plain in _SDXL_SCHEDULERS else for_comfyui(recipe.sampler_name, None).sampler
    if name not in _SDXL_SCHEDULERS:
        raise InvalidRequest(
            f'worker-sdxl has no sampler "{recipe.sampler_name}"; it has {", ".join(_SDXL_SCHEDULERS)}',
            code="unknown_sampler",
        )
    return _SDXL_SCHEDULERS[name]


class _Absent:
    """Stands for a value that the job does not set: its key is left out, in a text it is nothing."""

    def __str__(self) -> str:
        return ""


_ABSENT = _Absent()


class _Custom:
    def __init__(self, template: Mapping[str, Any], graph: Graph | None) -> None:
        self._template = template
        self._graph = graph
        self._named = frozenset(names_in(dict(template)))

    def __call__(self, request: Request) -> dict[str, Any]:
        values = self._values(request)
        params = request.recipe.params

        def lookup(name: str) -> Any:  # noqa: ANN401 - a value of whatever type the job gives it
            if name in values:
                return _ABSENT if values[name] is None else values[name]
            if name in params:
                return params[name]
            near = get_close_matches(name, values, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise InvalidRequest(
                f"the back end's input template names {{{{{name}}}}}, which is no key of a job and not in its params{hint}",
                code="no_value",
            )

        made: dict[str, Any] = _pruned(filled(dict(self._template), lookup))
        if self._named & {"workflow", "txt2img"}:
            return made  # these have taken the params in
        further = {key: value for key, value in params.items() if key not in self._named}
        if taken := sorted(made.keys() & further.keys()):
            raise InvalidRequest(
                f"params may not set {', '.join(taken)}: the input sets that already", code="collision"
            )
        return {**made, **further}

    def _values(self, request: Request) -> dict[str, Any]:
        recipe = request.recipe
        values: dict[str, Any] = {
            "prompt": request.prompt,
            "seed": request.seed,
            "embedding": recipe.embedding,
            "ticket": request.ticket,
            "loras": [{"name": lora.name, "weight": lora.weight} for lora in recipe.loras] or None,
            **{
                name: getattr(recipe, name)
                for name in ("negative_prompt", "width", "height", "steps", "cfg_scale", "sampler_name", "scheduler")
            },
            "model": recipe.model,
            "style": recipe.style,
        }
        if "workflow" in self._named and self._graph is not None:
            values["workflow"] = self._graph(request)
        if "txt2img" in self._named:
            values["txt2img"] = a1111_input(request)
        return values


def _pruned(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _pruned(inner) for key, inner in value.items() if inner is not _ABSENT}
    if isinstance(value, list):
        return [_pruned(inner) for inner in value if inner is not _ABSENT]
    return value
