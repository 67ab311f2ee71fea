"""`pipeline reindex`: a lost index made anew."""

from types import TracebackType
from typing import Self

import click
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from pipeline.cli.common import FAILED, as_json, configured, say_json
from pipeline.config import Config
from pipeline.errors import IndexTrouble, StoreError
from pipeline.reindexing import Progress as Step
from pipeline.reindexing import Report
from pipeline.reindexing import reindex as make_anew
from pipeline.stores.opening import open_store

STAGES = {"listing": "images listed", "waiting": "waiting for the store", "restoring": "characters restored"}


@click.command(short_help="Make a lost index anew from the store and the jobs folder.")
@as_json
@configured
def reindex(config: Config, *, as_json: bool) -> None:
    """Bring back characters, numbers, images and ended jobs; unfinished jobs are taken anew by the next `run`.

    Only where there is no index: one that exists has to be moved aside first. Interrupted, it goes on where it stopped
    when it is called again.

    \b
    Examples:
      pipeline reindex
      mkdir .pipeline/old && mv .pipeline/index.db* .pipeline/old/ && pipeline reindex
    """
    store = open_store(config.store, public_url=config.gallery.public_url)
    try:
        with Shown() as shown:
            report = trio.run(lambda: make_anew(config, store, told=shown.step))
    except (IndexTrouble, StoreError) as error:
        click.echo(f"{error}\nwhat was listed so far is kept; call `pipeline reindex` again", err=True)
        raise SystemExit(FAILED) from None
    except KeyboardInterrupt:
        click.echo("interrupted; what was listed so far is kept: call `pipeline reindex` again", err=True)
        raise SystemExit(FAILED) from None
    if as_json:
        say_json(_told(report))
    else:
        _say(report)


class Shown:
    """A bar in a terminal; elsewhere a line to stderr for each wait, which is what a log wants to tell."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bars: Progress | None = None
        self._stage = ""
        if console.is_terminal:
            self._bars = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), BarColumn(28), MofNCompleteColumn(), console=console
            )

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def step(self, step: Step) -> None:
        """Show how far it has come."""
        if self._bars is None:
            if step.note:
                click.echo(step.note, err=True)
            return
        if step.stage != self._stage:
            self._stage = step.stage
            self._bars.add_task(STAGES[step.stage], total=step.total)
        self._bars.update(self._bars.task_ids[-1], completed=step.done, total=step.total)
        if step.note:
            self._bars.console.print(step.note)


def _told(report: Report) -> dict[str, object]:
    pieced = report.pieced
    return {
        "owners": len(pieced.owners), "characters": pieced.characters, "images": dict(pieced.images), "jobs": pieced.jobs,
        "takenAnew": pieced.taken_anew, "notes": report.notes, "aside": str(report.aside) if report.aside else None,
    }  # fmt: skip


def _say(report: Report) -> None:
    pieced = report.pieced
    images = ", ".join(f"{n} {status}" for status, n in sorted(pieced.images.items())) or "none"
    click.echo(f"owners {len(pieced.owners)}  characters {pieced.characters}  jobs {pieced.jobs}  images: {images}")
    if pieced.taken_anew:
        click.echo(
            f"{len(pieced.taken_anew)} unfinished in jobs/active: the next `pipeline run` takes them anew, under new numbers"
        )
    if report.aside is not None:
        click.echo(f"what was left of the old index, and pictures that only it could name, lie in {report.aside}")
    for note in report.notes:
        click.echo(f"note: {note}")
    click.echo("next: pipeline verify")
