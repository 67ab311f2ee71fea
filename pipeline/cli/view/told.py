"""The overview for programs."""

from typing import Any

from pipeline.cli.view.overview import Overview
from pipeline.tools.clock import rfc3339, when
from pipeline.tools.locks import Holder


def _daemon(holder: Holder) -> dict[str, Any]:
    return {"pid": holder.pid, "since": holder.since, "trouble": holder.trouble or None}


def told(overview: Overview) -> dict[str, Any]:
    """Return it as JSON values."""
    summary = overview.summary
    return {
        "workspace": overview.workspace,
        "at": rfc3339(overview.at),
        "daemon": _daemon(overview.holder) if overview.holder else None,
        "paused": overview.all_paused,
        "jobs": {"running": overview.running, "queued": overview.waiting},
        "notTaken": overview.dropped,
        "imagesPerMinute": round(overview.rate * 60, 2),
        "images": dict(summary.images),
        "retrying": summary.retrying,
        "spool": {"images": summary.to_store, "bytes": summary.spool_bytes},
        "unfinished": [
            {
                "jobId": job.id, "status": job.status, "reason": overview.waits_for(job), "requestedCount": job.quantity,
                "counts": dict(job.counts), "remainingSeconds": _rounded(overview.remaining(job)),
            }
            for job in overview.jobs
        ],
        "backends": [
            {
                "name": lane.name, "state": lane.state, "slots": lane.slots, "busy": lane.busy, "waiting": lane.waiting,
                "typicalSeconds": lane.typical, "reason": lane.reason, "nextTry": when(lane.next_try),
            }
            for lane in overview.lanes
        ],
        "troubles": [
            {
                "what": trouble.what, "reason": trouble.reason, "since": rfc3339(trouble.since),
                "nextTry": when(trouble.next_try),
            }
            for trouble in overview.troubles
        ],
        "today": [
            {
                "backend": day.backend, "done": day.done, "placeholder": day.placeholder, "failed": day.failed,
                "gpuSeconds": round(day.gpu_seconds, 3), "cost": _rounded(overview.cost([day])),
            }
            for day in summary.today
        ],
        "rejected": [file.name for file in overview.rejected],
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
