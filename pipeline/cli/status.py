"""`pipeline status`: what is running, waiting and failing, read from the index alone."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.catalogue import Catalogue, JobRow, Lane, Notice, Summary
from pipeline.cli.common import as_json, configured, refuse, say_json
from pipeline.cli.words import ago, span
from pipeline.clock import now, rfc3339
from pipeline.config import Config
from pipeline.errors import IndexTrouble
from pipeline.locks import Holder, holder

MOST_JOBS = 10
REDRAWN = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that one status shows, of one moment."""

    workspace: str
    at: int
    holder: Holder | None
    summary: Summary
    jobs: list[JobRow]
    lanes: list[Lane]
    rejected: list[Path]
    prices: dict[str, float]


@click.command(short_help="What is running, waiting and failing; one job in detail.")
@click.argument("job", required=False)
@click.option("--watch", is_flag=True, help="Go on showing it until Ctrl-C.")
@click.option("--label", help="Only jobs with this label.")
@as_json
@configured
def status(config: Config, job: str | None, *, watch: bool, label: str | None, as_json: bool) -> None:
    """Show what is going on, or one JOB with its images.

    \b
    Examples:
      pipeline status --watch
      pipeline status nightly-2025-07-28
      pipeline status --json
    """
    catalogue = Catalogue(config.state / "index.db")
    try:
        if job is not None:
            _one_job(catalogue, job, as_json=as_json)
        elif as_json:
            say_json(_told(_picture(config, catalogue, label)))
        elif watch:
            _watch(config, catalogue, label)
        else:
            Console().print(_drawn(_picture(config, catalogue, label)))
    except IndexTrouble as error:
        refuse(str(error))
    except KeyboardInterrupt:
        return


def _picture(config: Config, catalogue: Catalogue, label: str | None) -> Picture:
    at = now()
    jobs = [job for job in catalogue.unfinished(1_000 if label else MOST_JOBS + 1) if label in {None, *job.labels}]
    rejected = sorted((config.jobs / "rejected").glob("*.error.txt"), key=lambda file: file.stat().st_mtime)
    prices = {name: one.price_per_hour for name, one in config.backends.items() if one.price_per_hour is not None}
    return Picture(
        config.root.name, at, holder(config.state), catalogue.summary(now=at), jobs, catalogue.lanes(), rejected, prices
    )


# -- drawn for a terminal


def _drawn(picture: Picture) -> RenderableType:
    summary = picture.summary
    head = Text(f"{picture.workspace} · {_daemon(picture)}", style="bold")
    jobs = Text(f"JOBS {summary.jobs_running} running, {summary.jobs_queued} waiting")
    return Group(
        head, Text(), jobs, *_job_lines(picture), Text(), _lanes(picture), Text(), Text(_today(picture)), _foot(picture)
    )


def _daemon(picture: Picture) -> str:
    if picture.holder is None:
        return "not running"
    return f"running {ago(picture.holder.since, picture.at)}".rstrip()


def _job_lines(picture: Picture) -> Iterator[RenderableType]:
    table = Table.grid(padding=(0, 2))
    for job in picture.jobs[:MOST_JOBS]:
        ended = job.quantity - job.counts["queued"] - job.counts["running"]
        troubles = [f"{job.counts[kind]} {kind}" for kind in ("placeholder", "failed", "cancelled") if job.counts[kind]]
        table.add_row(
            Text(job.id, overflow="ellipsis", no_wrap=True),
            ProgressBar(total=job.quantity, completed=ended, width=24),
            f"{ended}/{job.quantity}",
            Text(", ".join(troubles), style="yellow"),
            Text(job.reason or _remaining(job, picture)),
        )
    yield table
    waiting = picture.summary.jobs_running + picture.summary.jobs_queued
    if waiting > MOST_JOBS:
        yield Text(f"and {waiting - MOST_JOBS} more")


def _remaining(job: JobRow, picture: Picture) -> str:
    """Estimate from the typical durations of the job's back ends, as far as they have learned them."""
    left = job.counts["queued"] + job.counts["running"]
    pool = [lane for lane in picture.lanes if lane.name in job.backends and lane.typical and lane.state == "ready"]
    rate = sum(lane.slots / lane.typical for lane in pool if lane.typical)
    sharing = max(1, sum(1 for other in picture.jobs if set(other.backends) & set(job.backends)))
    return span(left * sharing / rate) if rate and left else ""


def _lanes(picture: Picture) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_row("BACK ENDS", "", "slots", "typical", "waiting", "")
    for lane in picture.lanes:
        soon = lane.next_try is not None and lane.next_try > picture.at
        next_try = f" next try {span((lane.next_try - picture.at) / 1000)}" if soon and lane.next_try else ""
        table.add_row(
            lane.name,
            Text(lane.state, style="red" if lane.state == "down" else ""),
            f"{lane.busy}/{lane.slots}",
            span(lane.typical) if lane.typical else "-",
            str(lane.waiting),
            f"{lane.reason or ''}{next_try}",
        )
    return table


def _today(picture: Picture) -> str:
    days = picture.summary.today
    done, placeholders = sum(day.done for day in days), sum(day.placeholder for day in days)
    parts = [f"Today {done:,} done", f"{placeholders} {'placeholder' if placeholders == 1 else 'placeholders'}"]
    gpu = sum(day.gpu_seconds for day in days)
    if gpu:
        parts.append(f"{gpu / 3600:.1f} GPU h")
    if picture.prices:
        cost = sum(day.gpu_seconds / 3600 * picture.prices.get(day.backend, 0) for day in days)
        parts.append(f"${cost:.2f}")
    return " · ".join(parts)


def _foot(picture: Picture) -> Text:
    summary = picture.summary
    spool = (
        f"{summary.to_store} waiting for the store ({summary.spool_bytes / 1e6:.1f} MB)"
        if summary.to_store
        else "spool empty"
    )
    parts = [spool]
    if picture.rejected:
        last = picture.rejected[-1].read_text(errors="replace").splitlines()
        parts.append(f"{len(picture.rejected)} rejected: {last[0] if last else picture.rejected[-1].name}")
    return Text(" · ".join(parts))


def _watch(config: Config, catalogue: Catalogue, label: str | None) -> None:
    console = Console()
    if not console.is_terminal:
        _tell_changes(config, catalogue, label)
        return
    with Live(console=console, screen=False, auto_refresh=False) as live:
        while True:
            live.update(_drawn(_picture(config, catalogue, label)), refresh=True)
            time.sleep(REDRAWN)


def _tell_changes(config: Config, catalogue: Catalogue, label: str | None) -> None:
    """One plain line for each change: what a log or a pipe can use."""
    told: dict[str, str] = {}
    while True:
        picture = _picture(config, catalogue, label)
        lines = {job.id: _plain(job) for job in picture.jobs}
        lines |= {f"back end {lane.name}": f"{lane.state} {lane.reason or ''}".rstrip() for lane in picture.lanes}
        for ended in told.keys() - lines.keys():
            row = catalogue.job(ended)
            if row is not None:
                click.echo(f"{ended}  {_plain(row)}")
        for name, line in lines.items():
            if told.get(name) != line:
                click.echo(f"{name}  {line}")
        told = lines
        time.sleep(REDRAWN)


def _plain(job: JobRow) -> str:
    ended = job.quantity - job.counts["queued"] - job.counts["running"]
    return f"{job.status} {ended}/{job.quantity} {job.reason or ''}".rstrip()


# -- told to programs


def _told(picture: Picture) -> dict[str, Any]:
    summary = picture.summary
    return {
        "workspace": picture.workspace,
        "at": rfc3339(picture.at),
        "daemon": {"pid": picture.holder.pid, "since": picture.holder.since} if picture.holder else None,
        "jobs": {"running": summary.jobs_running, "queued": summary.jobs_queued},
        "images": dict(summary.images),
        "retrying": summary.retrying,
        "spool": {"images": summary.to_store, "bytes": summary.spool_bytes},
        "unfinished": [
            {"jobId": job.id, "status": job.status, "reason": job.reason, "requestedCount": job.quantity, "counts": dict(job.counts)}
            for job in picture.jobs
        ],
        "backends": [
            {
                "name": lane.name, "state": lane.state, "slots": lane.slots, "busy": lane.busy, "waiting": lane.waiting,
                "typicalSeconds": lane.typical, "reason": lane.reason, "nextTry": rfc3339(lane.next_try) if lane.next_try else None,
            }
            for lane in picture.lanes
        ],
        "today": [
            {
                "backend": day.backend, "done": day.done, "placeholder": day.placeholder, "failed": day.failed,
                "gpuSeconds": round(day.gpu_seconds, 3),
            }
            for day in summary.today
        ],
        "rejected": [file.name.removesuffix(".error.txt") for file in picture.rejected],
    }  # fmt: skip


def _notified(notice: Notice) -> str:
    if notice.delivered_at is not None:
        return f"notified {notice.receiver} {rfc3339(notice.delivered_at)}"
    why = f": {notice.trouble}" if notice.trouble else ""
    if notice.next_at is None:
        return f"not notified {notice.receiver}: given up{why}"
    return f"not yet notified {notice.receiver}: next try {rfc3339(notice.next_at)}{why}"


def _one_job(catalogue: Catalogue, job_id: str, *, as_json: bool) -> None:
    row, data = catalogue.job(job_id), catalogue.result(job_id)
    if row is None or data is None:
        refuse(f'no job has the id "{job_id}"; `pipeline status` shows what is unfinished')
    if as_json:
        say_json({"success": data["generatedCount"] > 0 or data["status"] not in {"done", "cancelled"}, "data": data})
        return
    click.echo(f"{row.id}  {_plain(row)}  {row.character_name}")
    click.echo(
        f"accepted {data['createdAt']}  started {data['startedAt'] or '-'}  finished {data['finishedAt'] or '-'}"
    )
    for notice in catalogue.notices(row.id):
        click.echo(_notified(notice))
    for image in catalogue.images_of(row):
        where = (image.stored.path or image.stored.url) if image.stored else ""
        fault = f"{image.fault.code}: {image.fault.message}" if image.fault else where
        click.echo(
            f"{image.filename}  {image.status}{' (retrying)' if image.retrying else ''}  {image.backend or '-'}  {fault}".rstrip()
        )
        for step in catalogue.history(image.row):
            at = datetime.fromtimestamp(step.at / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
            detail = " ".join(f"{key}={value}" for key, value in step.detail.items())
            click.echo(f"    {at}  {step.event}  {detail}".rstrip())
