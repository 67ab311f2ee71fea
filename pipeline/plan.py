"""From a job file, under the rules of the configuration, to the job that acceptance records. Pure."""

import hashlib
import random
import re
from collections.abc import Callable, Iterator

import orjson

from pipeline.errors import SpecError
from pipeline.model import Job, Lora, PlannedImage, Recipe
from pipeline.spec.complaint import Complaint, listed, meant
from pipeline.spec.job import JobSpec, character_ref, parse_job, too_much
from pipeline.spec.keys import JobKeys, Rules
from pipeline.spec.types import LARGEST_SEED

_TEMPLATE_NAME = re.compile(r"\{(prompt|negative_prompt)\}")


def any_seed() -> int:
    """Draw one of all seeds there are."""
    return random.getrandbits(LARGEST_SEED.bit_length())


def read_job(data: bytes, *, file: str, rules: Rules, draw_seed: Callable[[], int] = any_seed) -> Job:
    """Parse a job file and make its job.

    Raises:
        SpecError: the daemon would reject it.
    """
    return make_job(parse_job(data, file=file), file=file, rules=rules, draw_seed=draw_seed)


def make_job(spec: JobSpec, *, file: str, rules: Rules, draw_seed: Callable[[], int] = any_seed) -> Job:
    """Apply styles and defaults, and lay out the images with their prompts and seeds; `id` is empty where there is none.

    `draw_seed` is asked once where the job names no seed; its images count on from there, or
    from the last seed that leaves one for each.

    Raises:
        SpecError: an unknown style or back end, a missing character or prompt, too many images or too large a seed.
    """
    style_name = spec.style or rules.default_style
    style = rules.styles.get(style_name) if style_name else None
    keys = _with_style(spec, style)
    pool = keys.backend or rules.default_backend or rules.backends
    complaints = list(_complaints(spec, keys, style_name, pool, rules=rules, file=file))
    if complaints:
        raise SpecError(complaints)
    assert keys.character is not None
    assert keys.prompt is not None
    return Job(
        id=spec.id or "",
        own_id=spec.id is not None,
        character=character_ref(keys.character),
        owner=keys.owner,
        default_owner=rules.default_owner,
        prompt=keys.prompt,
        images=_images(spec, keys, style, draw_seed),
        recipe=_recipe(keys, style_name, _negative(spec, keys, style)),
        backends=pool,
        stagger=keys.stagger,
        priority=keys.priority,
        on_failure=keys.on_failure,
        notify=keys.notify or rules.notify,
        labels=keys.labels,
        digest=digest(spec),
        file=file,
    )


def digest(spec: JobSpec) -> str:
    """Return a word that is equal for two specs that say the same, in whatever order and spelling.

    The index keeps it: worked out in another way, a job from before an update would be refused when it comes again.
    """
    said = spec.model_dump(mode="json", exclude={"owner"})
    said["owner"] = spec.said().get("owner")
    if said["character"] is not None:
        del said["character"]["owner"]
    said["no_embedding"] = spec.embedding is None and "embedding" in spec.model_fields_set
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _with_style(spec: JobSpec, style: JobKeys | None) -> JobKeys:
    """Return what the job says over what its style says; prompts as the job said them, templates still to be filled."""
    own = spec.said()
    if style is None and own.get("owner") == spec.owner:
        return spec
    defaults = style.said() if style is not None else {}
    if _frame("prompt", style) is not None:
        defaults["prompt"] = None  # a frame round the job's prompt, none of its own
    values = {name: value for name, value in {**defaults, **own}.items() if name in JobKeys.model_fields}
    return (style or spec).model_copy(update=values)


def _complaints(
    spec: JobSpec, keys: JobKeys, style: str | None, pool: tuple[str, ...], *, rules: Rules, file: str
) -> Iterator[Complaint]:
    if keys.character is None or (keys.character.id is None and keys.character.name is None):
        what = "`character` is missing" if keys.character is None else "`character` has neither `id` nor `name`"
        yield spec.complaint("character", message=what, expected="a name, or `{id, name}`", file=file)
    if keys.prompt is None:
        yield spec.complaint(message="`prompt` is missing", expected="a text, or a list of texts", file=file)
    if style and rules.styles and style not in rules.styles:
        message = f'unknown style "{style}"{meant(style, rules.styles)}'
        yield spec.complaint("style", message=message, expected=f"one of {listed(list(rules.styles))}", file=file)
    for index, name in enumerate(pool):
        if name not in rules.backends:
            message = f'unknown back end "{name}"{meant(name, rules.backends)}'
            yield spec.complaint(
                "backend", index, message=message, expected=f"one of {listed(rules.backends)}", file=file
            )
    yield from too_much(keys, spec)


def _images(
    spec: JobSpec, keys: JobKeys, style: JobKeys | None, draw_seed: Callable[[], int]
) -> tuple[PlannedImage, ...]:
    prompts = keys.prompt if isinstance(keys.prompt, tuple) else (keys.prompt or "",)
    frame = _frame("prompt", style)
    if frame is not None:
        prompts = tuple(_filled(frame, prompt, spec.negative_prompt) for prompt in prompts)
    last = LARGEST_SEED + 1 - keys.quantity * len(prompts)
    base = keys.seed if keys.seed >= 0 else min(draw_seed(), last)
    wanted = (prompt for prompt in prompts for _ in range(keys.quantity))
    return tuple(PlannedImage(prompt, base + i) for i, prompt in enumerate(wanted))


def _negative(spec: JobSpec, keys: JobKeys, style: JobKeys | None) -> str | None:
    frame = _frame("negative_prompt", style)
    if frame is None:
        return keys.negative_prompt
    prompt = keys.prompt if isinstance(keys.prompt, str) else ", ".join(keys.prompt or ())
    return _filled(frame, prompt, spec.negative_prompt)


def _frame(name: str, style: JobKeys | None) -> str | None:
    """Return the style's text where it is a frame for the job's own; without its name in braces it is only a default."""
    text = getattr(style, name, None)
    return text if isinstance(text, str) and f"{{{name}}}" in text else None


def _filled(template: str, prompt: str, negative: str | None) -> str:
    """Replace the two names and nothing else; what is put in is not looked at again."""
    words = {"prompt": prompt, "negative_prompt": negative or ""}
    return _TEMPLATE_NAME.sub(lambda name: words[name[1]], template)


def _recipe(keys: JobKeys, style: str | None, negative: str | None) -> Recipe:
    return Recipe(
        width=keys.width,
        height=keys.height,
        negative_prompt=negative,
        style=style,
        model=keys.model,
        steps=keys.steps,
        cfg_scale=keys.cfg_scale,
        sampler_name=keys.sampler_name,
        scheduler=keys.scheduler,
        embedding=keys.embedding,
        no_embedding=keys.embedding is None and "embedding" in keys.model_fields_set,
        loras=tuple(Lora(lora.name, lora.weight) for lora in keys.loras),
        params=keys.params,
    )
