"""`pipeline validate`: what a job file would do, without doing it."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from pipeline import naming
from pipeline.backends.binding import bind
from pipeline.backends.filling import notes, objections
from pipeline.backends.graph import read_workflow
from pipeline.catalogue import Catalogue
from pipeline.cli.common import INVALID, as_json, configured, say_json
from pipeline.config import ComfyuiConfig, Config, RunpodConfig
from pipeline.errors import BackendError, IndexTrouble, InvalidRequest, UserError
from pipeline.model import LARGEST_FILE, Job
from pipeline.plan import read_job


@click.command(short_help="Check job files without running them.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--plan", is_flag=True, help="Print the images that would be made, and how workflows are bound.")
@as_json
@configured
def validate(config: Config, files: tuple[Path, ...], *, plan: bool, as_json: bool) -> None:
    """Check job FILEs against the configuration; exit code 2 if one would be rejected.

    \b
    Examples:
      pipeline validate jobs/examples/*.yaml
      pipeline validate mary.yaml --plan
      pipeline gallery mary 5 --as-job | pipeline validate - --plan
    """
    answers = []
    for path in files:
        file = "stdin.yaml" if str(path) == "-" else str(path)
        try:
            job = _job(config, path, file)
            bindings = _bindings(config, job) if plan else {}
        except (UserError, BackendError) as error:
            answers.append({"file": file, "valid": False, "error": str(error)})
            if not as_json:
                click.echo(str(error), err=True)
            continue
        answers.append({"file": file, "valid": True} | (_planned(config, job, bindings) if plan else {}))
        if not as_json:
            click.echo(f"{file}: {len(job.images)} {'image' if len(job.images) == 1 else 'images'} of {_name(job)}")
            if plan:
                _print_plan(config, job, bindings)
    if as_json:
        say_json(answers)
    if not all(answer["valid"] for answer in answers):
        raise SystemExit(INVALID)


def _job(config: Config, path: Path, file: str) -> Job:
    try:
        with click.open_file(os.fspath(path), "rb") as opened:
            data = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    return read_job(data, file=file, rules=config.rules())


def _name(job: Job) -> str:
    return job.character.name or job.character.id or "?"


def _first_number(config: Config, job: Job) -> tuple[str, int]:
    """The slug and the number that the job would begin at if it were taken now."""
    try:
        return Catalogue(config.index).outlook(job)
    except IndexTrouble:  # nothing was ever taken here
        return naming.slugify(_name(job)), 1


def _planned(config: Config, job: Job, bindings: Mapping[str, list[str]]) -> dict[str, object]:
    slug, first = _first_number(config, job)
    return {
        "images": [
            {"filename": naming.filename(slug, first + i), "prompt": image.prompt, "seed": image.seed}
            for i, image in enumerate(job.images)
        ],
        "backends": list(job.backends),
        "workflows": bindings,
    }


def _print_plan(config: Config, job: Job, bindings: Mapping[str, list[str]]) -> None:
    slug, first = _first_number(config, job)
    recipe = job.recipe
    click.echo(f"  {recipe.width} x {recipe.height}, at {' or '.join(job.backends)}, style {recipe.style or '-'}")
    for i, image in enumerate(job.images):
        click.echo(f"  {naming.filename(slug, first + i)}  seed {image.seed}  {image.prompt}")
    for name, lines in bindings.items():
        click.echo(f"  workflow of {name}:")
        for line in lines:
            click.echo(f"    {line}")


def _bindings(config: Config, job: Job) -> dict[str, list[str]]:
    """Tell how the job is bound to each workflow; one that cannot make it is left out as long as there is another back end.

    Raises:
        UserError, BackendError: a workflow cannot be used, or no back end can make the job.
    """
    told: dict[str, list[str]] = {}
    refused: list[InvalidRequest] = []
    for name in job.backends:
        settings = config.backends[name]
        if not isinstance(settings, ComfyuiConfig | RunpodConfig) or settings.workflow is None:
            continue
        binding = bind(read_workflow(_workflow(name, settings.workflow), source=settings.workflow.name))
        objection = next(objections(binding, job.recipe, len(job.images)), None)
        if objection is None:
            lines = [f"{one.key} -> {one.node} {one.kind}.{one.input} ({one.how})" for one in binding.describe()]
            told[name] = lines + notes(binding, job.recipe)
        else:
            told[name] = [f"left out for this job: {objection}"]
            refused.append(objection)
    if len(refused) == len(job.backends):
        raise refused[0]
    return told


def _workflow(name: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: the workflow of {name} cannot be read ({error.strerror})") from error
