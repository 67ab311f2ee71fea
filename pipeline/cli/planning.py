"""A job file as the daemon would read it, so that what it is certain to reject is told at the command."""

import random

from pipeline.config import Config
from pipeline.model import Job
from pipeline.plan import make_job
from pipeline.spec.job import parse_job


def planned(config: Config, data: bytes, *, file: str) -> Job:
    """Parse a job and apply the configuration's styles and defaults.

    Raises:
        SpecError: the daemon would reject it.
    """
    spec = parse_job(data, file=file)
    return make_job(
        spec,
        job_id=spec.id or "",
        own_id=spec.id is not None,
        file=file,
        rules=config.rules(),
        draw_seed=lambda: random.randrange(2**32),
    )
