"""`pipeline gallery CHARACTER NUMBER --as-job`: an image written back as the job file that asks for it."""

import click

from pipeline.again import Made, job_again
from pipeline.catalogue import Catalogue, GalleryRow
from pipeline.cli.common import refuse
from pipeline.config import Config
from pipeline.model import Lora, Recipe


def print_job(config: Config, catalogue: Catalogue, row: GalleryRow) -> None:
    """Print the job file, checked against the present configuration."""
    job = catalogue.job(row.job_id) if row.job_id else None
    character = catalogue.character(row.character_id)
    recipe = catalogue.recipe(row.job_id) if row.job_id else None
    if job is None or recipe is None or character is None or row.prompt is None or row.seed is None:
        refuse(f"{row.filename} was adopted from the store: what made it is not known")
    prompts = (job.prompt,) if isinstance(job.prompt, str) else job.prompt
    place = (row.number - (job.first_number or row.number)) * len(prompts) // job.quantity
    loras = tuple(Lora(name, weight) for name, weight in recipe.pop("loras", ()))
    made = Made(
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
    click.echo(job_again(made, config.rules()), nl=False)
