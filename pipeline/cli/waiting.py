"""Following jobs in the index until they have ended, for `submit --wait`."""

import time
from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.catalogue import Catalogue, success
from pipeline.cli.common import FAILED, say_json
from pipeline.cli.progress import JobBars
from pipeline.config import Config
from pipeline.errors import IndexTrouble
from pipeline.submit import Dropped

LOOKS = 0.2  # seconds between two looks at the index
COARSE = 100  # milliseconds that a file's date may be behind the clock
BAD_ENDS = ("placeholder", "failed", "cancelled")


class _Followed:
    """One job, and since when nothing has happened to it."""

    def __init__(self, dropped: Dropped, now: float) -> None:
        self.dropped = dropped
        self.version = -1
        self.stirred_at = now
        self.outcome: str | None = None  # a sentence where it ended badly, "" where all is well
        self.code = ""  # of the answer, where there is no job to tell of


def follow(config: Config, dropped: Sequence[Dropped], *, patience: float, as_json: bool) -> int:
    """Show progress until every job has ended, was rejected, or has stood still for `patience` seconds, or until Ctrl-C.

    Returns:
        The exit code: 1 if any image has no picture, any job still waits, or a file was rejected.
    """
    catalogue = Catalogue(config.index, images=config.images)
    jobs = [_Followed(one, time.monotonic()) for one in dropped]
    try:
        with JobBars() as bars:
            while waiting := [job for job in jobs if job.outcome is None]:
                for job in waiting:
                    _look(catalogue, config.jobs, job, None if as_json else bars, patience)
                if any(job.outcome is None for job in jobs):
                    time.sleep(LOOKS)
    except KeyboardInterrupt:
        for job in jobs:
            if job.outcome is None:
                job_id = job.dropped.job_id
                job.outcome = (
                    f"{job_id}: not waited for any longer; it goes on, and `pipeline status {job_id}` shows how"
                )
    results = [_result(catalogue, job) for job in jobs]
    if as_json:
        say_json(results[0] if len(results) == 1 else results)
    for job in jobs:
        if job.outcome:
            click.echo(job.outcome, err=True)
    return FAILED if any(job.outcome for job in jobs) else 0


def _look(catalogue: Catalogue, folder: Path, job: _Followed, bars: JobBars | None, patience: float) -> None:
    job_id, now = job.dropped.job_id, time.monotonic()
    try:
        row = catalogue.job(job_id)
    except IndexTrouble:  # no daemon has made one yet
        row = None
    untouched = job.dropped.path.exists()  # so a job of that id is an earlier one
    if not untouched and (reason := _rejection(folder, job.dropped)) is not None:
        job.outcome, job.code = reason, "rejected"
        return
    if row is None or untouched:
        if now - job.stirred_at > patience:
            job.outcome = f"{job_id}: nobody has taken {job.dropped.path}; is `pipeline run` running for this folder?"
            job.code = "not_taken"
        return
    if row.version != job.version:
        job.version, job.stirred_at = row.version, now
    if bars is not None:
        bars.show(job_id, job_id, row.counts, row.quantity)
    if row.status in {"done", "cancelled"}:
        bad = [f"{row.counts[kind]} {kind}" for kind in BAD_ENDS if row.counts[kind]]
        job.outcome = f"{job_id}: {', '.join(bad)}" if bad else ""
    elif row.counts["running"] == 0 and now - job.stirred_at > patience:
        job.outcome = f"{job_id}: still waits ({row.reason or 'no reason noted'}); it goes on when that is over"


def _rejection(folder: Path, dropped: Dropped) -> str | None:
    """Return the reason beside this drop's file in `rejected`; None while it is not there."""
    for text in sorted((folder / "rejected").glob(f"{dropped.path.stem}*.error.txt"), reverse=True):
        spec = next(iter(text.parent.glob(text.name.removesuffix(".error.txt") + ".[yj]*")), None)
        fresh = spec is not None and spec.stat().st_mtime * 1000 > dropped.at - COARSE
        if spec is not None and fresh and dropped.job_id in spec.read_text(errors="replace"):
            return f"rejected: {text.read_text().strip()}"
    return None


def _result(catalogue: Catalogue, job: _Followed) -> dict[str, object]:
    try:
        data = catalogue.result(job.dropped.job_id)
    except IndexTrouble:
        data = None
    if job.code or data is None:
        return {"success": False, "error": job.outcome, "code": job.code or "unknown"}
    return {"success": success(data), "data": data}
