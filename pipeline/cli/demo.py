"""`pipeline demo`: the whole way on this machine, in under twenty seconds."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import trio

from pipeline import daemon
from pipeline.catalogue import Catalogue
from pipeline.cli.common import FAILED, complaints
from pipeline.cli.progress import JobBars
from pipeline.config import Config
from pipeline.demo import FOLDER, OWNER, DemoJob, drop_jobs, prepare
from pipeline.errors import IndexTrouble, UserError
from pipeline.gallery.tokens import Tokens
from pipeline.tools.log import set_up_logging

LOOKS = 0.1  # seconds between two looks at the index
KEPT = 24 * 3600.0  # seconds that the token in the curl line opens the gallery


@click.command(short_help="Show the whole thing on this machine: no account, no GPU.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=FOLDER)
def demo(folder: Path) -> None:
    """Make three characters' images in FOLDER (default ./pipeline-demo) and serve them until Ctrl-C.

    Where stdout is no terminal it ends by itself when the images are made.
    """
    set_up_logging(level=logging.ERROR)
    click.echo('Drawn on this machine by "sketch": no account, no GPU.')
    click.echo(f"Workspace ./{folder}\n" if not folder.is_absolute() else f"Workspace {folder}\n")
    with complaints():
        config = prepare(folder)
        jobs = drop_jobs(config)
        raise SystemExit(trio.run(_show, config, folder, jobs))


async def _show(config: Config, folder: Path, jobs: Mapping[str, DemoJob]) -> int:
    stop = trio.Event()
    code: int | None = None

    async def watch(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        nonlocal code
        task_status.started()
        began = trio.current_time()
        catalogue = Catalogue(config.index)
        with JobBars() as bars:
            while not _all_filed(catalogue, jobs, bars):  # noqa: ASYNC110  # the index rings no bell in this task
                await trio.sleep(LOOKS)
        code = _summary(config, catalogue, folder, jobs, trio.current_time() - began)
        if not sys.stdout.isatty():
            stop.set()

    trouble: list[BaseException] = []
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch)
            await daemon.run(config, stop=stop)
            nursery.cancel_scope.cancel()
    except* UserError as group:  # the nursery wraps what the daemon says, the user gets the sentence
        trouble += group.exceptions
    if trouble:
        raise trouble[0]
    if code is None:
        click.echo("Ended before all images were made; the folder stays.")
    return code or 0


def _all_filed(catalogue: Catalogue, jobs: Mapping[str, DemoJob], bars: JobBars) -> bool:
    try:
        rows = {job_id: catalogue.job(job_id) for job_id in jobs}
    except IndexTrouble:  # the daemon is about to make it
        return False
    for job_id, row in rows.items():
        if row is not None:
            bars.show(job_id, jobs[job_id].title, row.counts, row.quantity)
    return all(row is not None and row.status == "done" for row in rows.values())


def _summary(config: Config, catalogue: Catalogue, folder: Path, jobs: Mapping[str, DemoJob], seconds: float) -> int:
    images = [image for job_id in jobs if (row := catalogue.job(job_id)) for image in catalogue.images_of(row)]
    placeholders = [image.filename for image in images if image.status == "placeholder"]
    token = Tokens(config.state / "tokens").create(OWNER, seconds=KEPT, name="demo")
    address = config.gallery.public_url
    stands = ", ".join(placeholders)
    click.echo(f"\n{len(images)} images in {seconds:.0f} s. {stands} is a placeholder, on purpose.")
    click.echo(f"Look   {address}/#t={token}")
    click.echo(f"Files  {folder}/images")
    click.echo(f'Ask    curl -H "Authorization: Bearer {token}" {address}/api/image-generation/character/mary')
    click.echo(f"Next   cp jobs/examples/portrait.yaml {folder}/jobs/")
    if sys.stdout.isatty():
        click.echo("Ctrl-C ends it; the folder stays.")
    else:
        click.echo(f"The folder stays; pipeline --config {folder}/pipeline.yaml run serves it again.")
    return 0 if len(placeholders) == 1 and all(image.status in {"done", "placeholder"} for image in images) else FAILED
