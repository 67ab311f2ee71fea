"""`pipeline status`: what is running, waiting and failing, read from the index alone."""

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import click
from rich.console import Console, RenderableType
from rich.live import Live

from pipeline.catalogue import Catalogue, success
from pipeline.cli.common import as_json, configured, refuse, say_json
from pipeline.cli.view.drawn import WIDEST, drawn
from pipeline.cli.view.lines import Newcomers, News, last_words, lines_of
from pipeline.cli.view.one_job import OneJob
from pipeline.cli.view.overview import Overview, overview, prices
from pipeline.cli.view.told import told
from pipeline.config import Config
from pipeline.errors import IndexTrouble, NoSuchJob

REDRAWN = 0.5  # seconds

T = TypeVar("T", Overview, OneJob)


@click.command(short_help="What is running, waiting and failing; one job in detail.")
@click.argument("job", required=False)
@click.option("--watch", is_flag=True, help="Go on showing it until Ctrl-C; one JOB until it has ended.")
@click.option("--label", help="Only jobs with this label.")
@as_json
@configured
def status(config: Config, job: str | None, *, watch: bool, label: str | None, as_json: bool) -> None:
    """Show what is going on, or one JOB with its images and what has happened to each.

    Where stdout is no terminal, --watch prints a line for each change.

    \b
    Examples:
      pipeline status --watch
      pipeline status nightly-2025-07-28
      pipeline status --json
    """
    if watch and as_json:
        refuse("--json tells of one moment: leave out --watch, or ask again when you want to know")
    if job is not None and label is not None:
        refuse("name a job or a label, not both")
    catalogue = Catalogue(config.index, images=config.images)
    try:
        if job is not None:
            _one(config, catalogue, job, watch=watch, as_json=as_json)
        else:
            _all(config, catalogue, label, watch=watch, as_json=as_json)
    except KeyboardInterrupt:
        return


def _all(config: Config, catalogue: Catalogue, label: str | None, *, watch: bool, as_json: bool) -> None:
    look = partial(overview, config, catalogue, label)
    if as_json:
        say_json(told(look()))
    elif watch:
        news = News(last_words(catalogue))
        newcomers = Newcomers(catalogue, label)
        _watch(look, drawn, lambda seen: news.tell(newcomers.lines() | lines_of(seen, label)), over=lambda _: False)
    else:
        _console().print(drawn(look()))


def _one(config: Config, catalogue: Catalogue, job_id: str, *, watch: bool, as_json: bool) -> None:
    def look() -> OneJob:
        return OneJob(catalogue, job_id, prices(config))

    try:
        seen = look()
    except (KeyError, IndexTrouble) as error:
        from pipeline.cli.view.untaken import tell_untaken  # noqa: PLC0415  # what reads a job file takes a while to load

        if tell_untaken(config, job_id, as_json=as_json):
            return
        if isinstance(error, IndexTrouble):
            raise
        raise NoSuchJob(job_id) from None
    if as_json:
        data = catalogue.result(job_id)
        assert data is not None
        say_json({"success": success(data), "data": data})
    elif watch:
        news = News(lambda _: None)
        _watch(look, OneJob.live, lambda seen: news.tell(seen.lines()), over=lambda seen: seen.over)
    else:
        Console(soft_wrap=True, highlight=False).print(seen.whole())


def _watch(
    look: Callable[[], T], draw: Callable[[T], RenderableType], say: Callable[[T], None], *, over: Callable[[T], bool]
) -> None:
    """Look twice a second, and draw what is seen or, outside of a terminal, say what has changed."""
    console = _console()
    if not console.is_terminal:
        while True:
            say(seen := look())
            if over(seen):
                return
            time.sleep(REDRAWN)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(draw(seen := look()), refresh=True)
            if over(seen):
                return
            time.sleep(REDRAWN)


def _console() -> Console:
    console = Console(highlight=False)
    console.width = min(console.width, WIDEST)
    return console
