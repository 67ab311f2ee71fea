"""The names in a request, spelt as one ComfyUI spells them; what is written exactly is not asked for."""

from collections.abc import Awaitable, Callable, Collection
from pathlib import PurePosixPath

from pipeline.backends import samplers
from pipeline.backends.binding import PLACEHOLDER, Binding
from pipeline.backends.filling import Offered
from pipeline.backends.installed import CHECKPOINTS, LORAS, SAMPLERS, SCHEDULERS, Installed, missing, resolved
from pipeline.errors import InvalidRequest
from pipeline.model import Lora, Recipe, Request

Look = Callable[[str], Awaitable[Installed | None]]  # what is told of one node class; None: nothing is told there

_EXTENSIONS = frozenset({".safetensors", ".ckpt", ".pt", ".pth", ".sft", ".gguf", ".bin"})


async def spelt(
    request: Request, binding: Binding, look: Look, embeddings: Callable[[], Awaitable[Collection[str] | None]]
) -> tuple[Request, Offered]:
    """Return the request with its model, LoRAs and embedding as they are called there, and the samplers known there.

    Raises:
        InvalidRequest: something is not there, or its name may mean several things.
    """
    recipe = request.recipe
    loras = tuple([Lora(await _file("lora", lora.name, LORAS, look), lora.weight) for lora in recipe.loras])
    embedding = None if recipe.embedding is None else _embedding(recipe.embedding, await embeddings())
    named = recipe._replace(model=await _model(recipe.model, binding, look), loras=loras, embedding=embedding)
    return request._replace(recipe=named), await _offered(recipe, look)


async def _model(asked: str | None, binding: Binding, look: Look) -> str | None:
    bound = binding.bound.get("model")
    where = CHECKPOINTS if bound is None else (bound.widgets[0].node.kind, bound.widgets[0].input)
    if asked is not None:
        return await _file("model", asked, where, look)
    if bound is None or bound.how != PLACEHOLDER:
        return None  # the workflow names its own
    installed = await look(where[0])
    offered = installed.choices(*where) if installed is not None else None
    if offered is not None and len(offered) == 1:
        return offered[0]
    listed = f"installed there: {', '.join(offered)}" if offered else "none is installed there"
    raise InvalidRequest(f"set model in the job or its style ({listed})", code="missing_model")


async def _file(word: str, asked: str, where: tuple[str, str], look: Look) -> str:
    """Complete a name that was written without extension; others are ComfyUI's to judge."""
    if PurePosixPath(asked).suffix.lower() in _EXTENSIONS:
        return asked
    installed = await look(where[0])
    offered = installed.choices(*where) if installed is not None else None
    return asked if offered is None else resolved(word, asked, offered)


def _embedding(asked: str, offered: Collection[str] | None) -> str:
    """ComfyUI only logs a missing embedding and goes on without, so it has to be there before it is named, where that is told."""
    if offered is None:
        return asked
    path = PurePosixPath(asked)
    for name in (asked, str(path.with_suffix("")) if path.suffix.lower() in _EXTENSIONS else asked):
        if name in offered:
            return name
    raise missing("embedding", asked, sorted(offered), "it belongs into models/embeddings")


async def _offered(recipe: Recipe, look: Look) -> Offered:
    """Ask for custom nodes' samplers and schedulers only where a name is not one that everybody has."""
    try:
        samplers.for_comfyui(recipe.sampler_name, recipe.scheduler)
    except InvalidRequest:
        installed = await look(SAMPLERS[0])
        if installed is not None:
            return Offered(installed.choices(*SAMPLERS) or (), installed.choices(*SCHEDULERS) or ())
    return Offered()
