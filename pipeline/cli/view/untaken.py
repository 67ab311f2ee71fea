"""A job that was dropped and not taken yet: told as one that was taken and waits."""

from typing import Any

import click

from pipeline.catalogue import success
from pipeline.cli.common import say_json
from pipeline.config import Config
from pipeline.inbox.dropped import untaken
from pipeline.model import Job
from pipeline.plan import read_job


def tell_untaken(config: Config, job_id: str, *, as_json: bool) -> bool:
    """Tell of the job with this id that lies in the folder still; False: there is none."""
    dropped = untaken(config.jobs, job_id)
    if dropped is None:
        return False
    job = read_job(dropped.data, file=dropped.path.name, rules=config.rules())
    data = _told(job, job_id, dropped.reason)
    if as_json:
        say_json({"success": success(data), "data": data})
    else:
        click.echo(f"{job_id}  queued  0/{data['requestedCount']}  {dropped.reason}")
    return True


def _told(job: Job, job_id: str, reason: str) -> dict[str, Any]:
    """Return its result in the shape of any other."""
    count = len(job.images)
    none = ("generated", "placeholder", "failed", "cancelled", "running")
    return {
        "jobId": job_id, "status": "queued", "reason": reason, "characterId": job.character.id,
        "imageUrl": None, "imageUrls": [],
        "requestedCount": count, **{f"{word}Count": 0 for word in none}, "queuedCount": count,
        "maybePaidTwice": 0, "gpuSeconds": 0.0, "usedEmbedding": False,
        "prompt": job.prompt if isinstance(job.prompt, str) else list(job.prompt),
        "style": job.recipe.style, "labels": list(job.labels),
        "createdAt": None, "startedAt": None, "finishedAt": None, "images": [],
    }  # fmt: skip
