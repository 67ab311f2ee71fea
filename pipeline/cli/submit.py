"""`pipeline submit`: the old POST request, as a file in the folder."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from pipeline.cli.common import DURATION, configured, refuse, say_json
from pipeline.cli.waiting import follow
from pipeline.config import Config
from pipeline.naming import EXTENSIONS
from pipeline.plan import read_job
from pipeline.submit import drop

# click option -> key of a job file
KEYS = {
    "quantity": "quantity", "owner": "owner", "negative_prompt": "negative_prompt", "style": "style", "model": "model",
    "width": "width", "height": "height", "steps": "steps", "cfg_scale": "cfg_scale", "sampler_name": "sampler_name",
    "scheduler": "scheduler", "seed": "seed", "embedding": "embedding", "stagger": "stagger", "priority": "priority",
    "on_failure": "on_failure", "job_id": "id", "notify": "notify",
}  # fmt: skip
LISTS = {"prompt": "prompt", "backend": "backend", "label": "labels"}


@click.command(short_help="Drop a job into the folder, from a file or from options.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--character", help="The character's name.")
@click.option("--character-id", help="The character's id, exactly.")
@click.option("--prompt", multiple=True, help="What to draw; several times for several prompts.")
@click.option("-n", "--quantity", type=int, help="Images of each prompt.")
@click.option("--owner", help="Whose character it is.")
@click.option("--negative-prompt", help="What not to draw.")
@click.option("--style", help="A style of the configuration.")
@click.option("--backend", multiple=True, help="Where to draw; several times for a pool.")
@click.option("--model", help="The checkpoint.")
@click.option("--width", type=int)
@click.option("--height", type=int)
@click.option("--steps", type=int)
@click.option("--cfg-scale", type=float)
@click.option("--sampler-name")
@click.option("--scheduler")
@click.option("--seed", type=int)
@click.option("--embedding", help="A textual inversion, for this job.")
@click.option("--stagger", type=DURATION, help="Seconds between two starts of this job.")
@click.option("--priority", type=int, help="-100 to 100, higher first.")
@click.option("--on-failure", type=click.Choice(["placeholder", "fail"]))
@click.option("--label", multiple=True, help="A word to find its images by; several times for several.")
@click.option("--id", "job_id", help="The job's own id: a second time makes nothing again.")
@click.option("--notify", help="An address that is told when the job has ended.")
@click.option("--wait", is_flag=True, help="Show progress and end with the job.")
@click.option(
    "--patience", type=DURATION, default=300.0, show_default="5m", help="With --wait: how long it may stand still."
)
@click.option("--json", "as_json", is_flag=True, help="With --wait: print the result; else the ids.")
@configured
def submit(
    config: Config,
    files: tuple[Path, ...],
    *,
    character: str | None,
    character_id: str | None,
    wait: bool,
    patience: float,
    as_json: bool,
    **options: Any,  # noqa: ANN401  # one for each key of a job file, see KEYS
) -> None:
    """Write job FILEs, or a job made of options, into the folder, and print their ids.

    \b
    Examples:
      pipeline submit mary.yaml
      pipeline submit --character Mary --prompt "a portrait in a garden" -n 5 --wait
      echo '{"characterId": "123", "prompt": "at sea", "numImages": 2}' | pipeline submit -
      pipeline submit --id nightly-$(date +%F) --character Mary --prompt "today's picture"
    """
    said = _spec(character, character_id, options)
    if bool(files) == bool(said):
        refuse("name job files, or describe one job: pipeline submit --character Mary --prompt 'in a garden' -n 5")
    rules = config.rules()
    try:
        name = _file_name(f"{character or character_id or 'job'}.json")
        texts = [_read(file) for file in files] or [(name, json.dumps(said, ensure_ascii=False).encode())]
        for name, data in texts:
            read_job(data, file=name, rules=rules)  # what the daemon is certain to reject is told here
        dropped = [drop(config.jobs, data, name) for name, data in texts]
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}; the job was not submitted")
    ids = [one.job_id for one in dropped]
    if wait:
        raise SystemExit(follow(config, dropped, patience=patience, as_json=as_json))
    if as_json:
        say_json(ids)
    else:
        click.echo("\n".join(ids))


def _spec(character: str | None, character_id: str | None, options: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {key: options[option] for option, key in KEYS.items() if options[option] is not None}
    for option, key in LISTS.items():
        if values := options[option]:
            said[key] = values[0] if len(values) == 1 and key != "labels" else list(values)
    if character_id is not None:
        said["character"] = {"id": character_id} | ({"name": character} if character else {})
    elif character is not None:
        said["character"] = character
    return said


def _read(file: Path) -> tuple[str, bytes]:
    """Return the name a file is dropped under, and its bytes."""
    if str(file) == "-":
        return "stdin.yaml", sys.stdin.buffer.read()
    name = file.name if file.suffix in EXTENSIONS else f"{file.name}.yaml"
    return name, file.read_bytes()


def _file_name(name: str) -> str:
    return name.replace("/", "-").replace("\0", "-")
