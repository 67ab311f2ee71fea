"""The job file that makes an image again: the prompt as it was sent, its seed, and all that went with it.

A style's template must not be applied a second time, and rules may have changed since. So nothing is assumed: each way
of saying it (the words of the job, the words inside the template, the words as sent; with the style or without) is
parsed and planned under the present rules, and the first that plans exactly this image is the answer.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.catalogue import Catalogue, GalleryRow
from pipeline.errors import SpecError, UserError
from pipeline.model import Job, Lora, PlannedImage, Recipe
from pipeline.plan import read_job
from pipeline.spec.keys import JobKeys, Rules

FILE = "again.yaml"
_SIMPLE = ("width", "height", "model", "steps", "cfg_scale", "sampler_name", "scheduler")


@dataclass(frozen=True, slots=True)
class Made:
    """An image as the index tells of it."""

    filename: str
    character_id: str
    character_embedding: str | None  # what jobs of this character use unless they say otherwise
    owner: str
    said: str  # the prompt of the job, before any template
    prompt: str  # as sent
    seed: int
    recipe: Recipe
    backend: str | None
    labels: tuple[str, ...] = ()


class _Plain(yaml.SafeDumper):
    """Writes no anchors: job files may not hold them."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401  # PyYAML's signature
        return True


def made_of(catalogue: Catalogue, row: GalleryRow) -> Made:
    """Read what was asked for when this image was made.

    Raises:
        UserError: no job asked for it.
    """
    job = catalogue.job(row.job_id) if row.job_id else None
    character = catalogue.character(row.character_id)
    recipe = catalogue.recipe(row.job_id) if row.job_id else None
    if job is None or recipe is None or character is None or row.prompt is None or row.seed is None:
        raise UserError(f"{row.filename} was adopted from the store: what made it is not known")
    prompts = (job.prompt,) if isinstance(job.prompt, str) else job.prompt
    place = (row.number - (job.first_number or row.number)) * len(prompts) // job.quantity
    loras = tuple(Lora(name, weight) for name, weight in recipe.pop("loras", ()))
    return Made(
        filename=row.filename,
        character_id=row.character_id,
        character_embedding=character.embedding,
        owner=character.owner,
        said=prompts[place],
        prompt=row.prompt,
        seed=row.seed,
        recipe=Recipe(**recipe, loras=loras),
        backend=row.backend,
        labels=row.labels,
    )


def job_again(made: Made, rules: Rules, *, quantity: int = 1) -> str:
    """Return the text of a job file: one image is this one again, several are new ones, with seeds still to be drawn.

    Raises:
        UserError: under the present rules no job file can ask for it.
    """
    for words in _ways(made, rules):
        job = _planned(_written(words), rules)
        if job is not None and _is_same(job, made):
            if quantity == 1:
                return f"# makes {made.filename} again\n{_written(words)}"
            return f"# {quantity} more like {made.filename}\n{_written(_several(words, quantity))}"
    style = f'style "{made.recipe.style or rules.default_style}"'
    raise UserError(
        f"{made.filename}: no job file can ask for it under the present configuration: {style} adds to every prompt, or "
        "sets what this image went without; change or remove it in pipeline.yaml, or set another default_style"
    )


def _ways(made: Made, rules: Rules) -> Iterator[dict[str, Any]]:
    sent = made.recipe.negative_prompt
    for style in dict.fromkeys((made.recipe.style, None)):
        frame = rules.styles.get(style or rules.default_style or "")
        fixed = _fixed(made, rules, frame)
        prompts = (made.said, _inside(frame, "prompt", made.prompt), made.prompt)
        negatives = (_inside(frame, "negative_prompt", sent), None, sent)
        for prompt in dict.fromkeys(text for text in prompts if text):
            for negative in dict.fromkeys(negatives):
                for embedding in _embeddings(made):
                    words = {"prompt": prompt, "negative_prompt": negative, "style": style}
                    said = {key: value for key, value in words.items() if value is not None}
                    yield {"character": fixed["character"], **said, **fixed, **embedding}


def _fixed(made: Made, rules: Rules, frame: JobKeys | None) -> dict[str, Any]:
    """What does not depend on words; what the style would bring and this image went without is said to be none."""
    recipe = made.recipe
    words: dict[str, Any] = {"character": {"id": made.character_id, "owner": made.owner}}
    words |= {key: getattr(recipe, key) for key in _SIMPLE if getattr(recipe, key) is not None}
    if frame is not None and frame.quantity > 1:
        words["quantity"] = 1
    words["seed"] = made.seed
    if recipe.loras or (frame is not None and frame.loras):
        words["loras"] = [{"name": lora.name, "weight": lora.weight} for lora in recipe.loras]
    if recipe.params or (frame is not None and frame.params):
        words["params"] = dict(recipe.params)
    if made.backend in rules.backends:
        words["backend"] = made.backend
    if made.labels:
        words["labels"] = list(made.labels)
    return words


def _embeddings(made: Made) -> list[dict[str, Any]]:
    """The character's own comes by itself, at present; none is said only where one would come."""
    if made.recipe.embedding is not None:
        return [{"embedding": made.recipe.embedding}]
    return [{"embedding": None}] if made.character_embedding else [{}, {"embedding": None}]


def _inside(style: JobKeys | None, name: str, sent: str | None) -> str | None:
    """Take a style's template off a text; None where the text does not look like it."""
    frame = getattr(style, name, None)
    if sent is None or not isinstance(frame, str) or frame.count(f"{{{name}}}") != 1:
        return None
    before, _, after = frame.partition(f"{{{name}}}")
    found = re.fullmatch(f"{re.escape(before)}(.*){re.escape(after)}", sent, re.DOTALL)
    return found[1] if found else None


def _several(words: dict[str, Any], quantity: int) -> dict[str, Any]:
    return {
        ("quantity" if key == "seed" else key): (quantity if key == "seed" else value) for key, value in words.items()
    }


def _written(words: dict[str, Any]) -> str:
    return yaml.dump(words, Dumper=_Plain, allow_unicode=True, sort_keys=False, width=2**20)


def _planned(text: str, rules: Rules) -> Job | None:
    try:
        return read_job(text.encode(), file=FILE, rules=rules, draw_seed=lambda: 0)
    except SpecError:
        return None


def _is_same(job: Job, made: Made) -> bool:
    recipe = job.recipe
    if not recipe.no_embedding and recipe.embedding is None:
        recipe = recipe._replace(embedding=made.character_embedding)
    asked = [PlannedImage(image.prompt.strip(), image.seed) for image in job.images]
    return asked == [PlannedImage(made.prompt.strip(), made.seed)] and _bare(recipe) == _bare(made.recipe)


def _bare(recipe: Recipe) -> Recipe:
    """What a back end is asked for: a style is only a name by then, blanks at the ends (a template's) say nothing."""
    negative = (recipe.negative_prompt or "").strip() or None
    return recipe._replace(style=None, no_embedding=False, negative_prompt=negative)
