"""One plain line for each change: what a log, or a pipe, can use."""

from collections.abc import Callable, Mapping

import click

from pipeline.catalogue import Catalogue, JobRow
from pipeline.cli.view.overview import Overview, ended
from pipeline.cli.words import spoilt

MOST_NEW = 50
LastWords = Callable[[str], str | None]  # about what -> what is to be said when it is told of no more


class News:
    """Says what is new since the last time."""

    def __init__(self, last_words: LastWords) -> None:
        self._last_words = last_words
        self._told: dict[str, str] = {}

    def tell(self, lines: Mapping[str, str]) -> None:
        """Say every line that is new or has changed, by what it is about, and the last words of what is gone."""
        for about in self._told.keys() - lines.keys():
            line = self._last_words(about)
            if line is not None and line != self._told[about]:
                click.echo(f"{about}  {line}")
        for about, line in lines.items():
            if self._told.get(about) != line:
                click.echo(f"{about}  {line}")
        self._told = dict(lines)


class Newcomers:
    """Jobs accepted between two looks: one may have ended by the second, and would never have been told of."""

    def __init__(self, catalogue: Catalogue, label: str | None) -> None:
        self._catalogue = catalogue
        self._label = label
        self._newest: int | None = None  # none was looked at yet

    def lines(self) -> dict[str, str]:
        """Those since the last look, at most `MOST_NEW`, as `lines_of` tells of jobs."""
        jobs = self._catalogue.jobs(None, label=self._label, limit=MOST_NEW).rows
        before, self._newest = self._newest, jobs[0].seq if jobs else self._newest or 0
        return {job.id: plain(job) for job in reversed(jobs) if before is not None and job.seq > before}


def plain(job: JobRow) -> str:
    """A job in one line."""
    parts = (job.status, f"{ended(job)}/{job.quantity}", ", ".join(spoilt(job.counts)), job.reason)
    return "  ".join(part for part in parts if part)


def lines_of(overview: Overview, label: str | None) -> dict[str, str]:
    """The lines of an overview, by what each is about."""
    lines = {"daemon": "not running" if overview.holder is None else "running"}
    if overview.all_paused:
        lines["daemon"] += ", paused"
    for lane in overview.lanes:
        lines[f"back end {lane.name}"] = f"{lane.state}  {lane.reason or ''}".rstrip()
    troubles = {trouble.what: trouble.reason for trouble in overview.troubles}
    lines["store"] = troubles.pop("store", "fine")
    lines |= troubles
    lines |= {job.id: plain(job) for job in overview.sharing if label in {None, *job.labels}}
    return lines | {f"rejected {file.name}": file.reason for file in overview.rejected}


def last_words(catalogue: Catalogue) -> LastWords:
    """Say how a job has ended that is no longer among the unfinished ones."""

    def said(about: str) -> str | None:
        job = catalogue.job(about)
        return None if job is None else plain(job)

    return said
