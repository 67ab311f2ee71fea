"""Progress of jobs: bars in a terminal, one plain line for each job that ended otherwise."""

import sys
from collections.abc import Mapping
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from pipeline.cli.words import spoilt

LONGEST_TITLE, LONGEST_BAR = 40, 28  # in a terminal that is wide enough


class JobBars:
    """Shows how far jobs have come; `with JobBars() as bars: bars.show(...)`."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._longest = LONGEST_TITLE
        self._tasks: dict[str, TaskID] = {}
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            console = Console()
            self._longest = min(LONGEST_TITLE, console.width * 2 // 5)
            columns = TextColumn("{task.description}"), BarColumn(min(LONGEST_BAR, console.width // 4))
            self._progress = Progress(
                *columns, MofNCompleteColumn(), TextColumn("{task.fields[note]}"), console=console
            )
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, job_id: str, title: str, counts: Mapping[str, int], total: int) -> None:
        """Show a job as it is now; in no terminal it is told once, when all its images have ended."""
        ended = total - counts["queued"] - counts["running"]
        note = ", ".join(spoilt(counts))
        title = title if len(title) <= self._longest else f"{title[: self._longest - 1]}…"
        if self._progress is not None:
            if job_id not in self._tasks:
                self._tasks[job_id] = self._progress.add_task(title, total=total, note=note)
            self._progress.update(self._tasks[job_id], completed=ended, note=note)
        elif ended == total and job_id not in self._told:
            self._told.add(job_id)
            click.echo(f"{title}  {ended}/{total}  {note}".rstrip())
