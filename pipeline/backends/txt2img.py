"""The body of A1111's `/sdapi/v1/txt2img`, which worker-a1111 takes as its input too."""

from collections.abc import Mapping
from typing import Any

from pipeline.backends.samplers import Sampling
from pipeline.errors import InvalidRequest
from pipeline.model import Lora, Request

_OURS = frozenset(
    {
        *(
            "prompt",
            "negative_prompt",
            "seed",
            "steps",
            "cfg_scale",
            "width",
            "height",
            "sampler_name",
            "sampler_index",
        ),
        *("scheduler", "batch_size", "n_iter", "force_task_id", "send_images"),
    }
)
_MODEL = "sd_model_checkpoint"


def txt2img_body(request: Request, sampling: Sampling, *, embedding: str | None) -> dict[str, Any]:
    """Write the body for one image; `embedding` where its name is to stand in the prompt.

    Raises:
        InvalidRequest: `params` sets what a key of the job sets, or a LoRA's name cannot stand in a prompt.
    """
    recipe = request.recipe
    settings = recipe.params.get("override_settings", {})
    taken = sorted(_OURS & recipe.params.keys())
    if isinstance(settings, Mapping) and _MODEL in settings:
        taken.append(f"override_settings.{_MODEL}")
    if taken:
        raise InvalidRequest(
            f"params may not set {', '.join(taken)}: the job has keys of its own for that", code="collision"
        )
    body: dict[str, Any] = {
        **recipe.params,
        "prompt": prompt_text(request.prompt, recipe.loras, embedding),
        "negative_prompt": recipe.negative_prompt,
        "seed": request.seed,
        "steps": recipe.steps,
        "cfg_scale": recipe.cfg_scale,
        "width": recipe.width,
        "height": recipe.height,
        "sampler_name": sampling.sampler,
        "scheduler": sampling.scheduler,
        "batch_size": 1,
        "n_iter": 1,
        "send_images": True,
        "force_task_id": request.ticket,
    }
    if recipe.model is not None:
        body["override_settings"] = {**settings, _MODEL: recipe.model}
        # Put back after each image, the former model would be loaded twice for every one of ours.
        body.setdefault("override_settings_restore_afterwards", False)
    return {key: value for key, value in body.items() if value is not None}


def prompt_text(prompt: str, loras: tuple[Lora, ...], embedding: str | None) -> str:
    """Add an embedding's name and `<lora:name:weight>` to a prompt.

    Raises:
        InvalidRequest: a LoRA's name has a character that ends such a mark.
    """
    parts = [prompt] if prompt.strip() else []
    if embedding is not None and embedding not in prompt:
        parts.append(embedding)
    for lora in loras:
        name = lora.name.removesuffix(".safetensors")
        if any(mark in name for mark in "<>:"):
            raise InvalidRequest(
                f'the lora "{lora.name}" cannot be named in a prompt: it has one of < > :', code="bad_lora"
            )
        parts.append(f"<lora:{name}:{lora.weight:g}>")
    return ", ".join(parts)
