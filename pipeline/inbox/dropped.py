"""Finding a job among the files that were dropped and not taken yet, for whoever asks for it by its id."""

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SpecError
from pipeline.inbox.looking import list_names
from pipeline.inbox.names import has_job_shape, split
from pipeline.inbox.reading import Reading, read
from pipeline.spec.job import parse_job


@dataclass(frozen=True, slots=True)
class Untaken:
    """A file that will be taken as the job that was asked for."""

    path: Path
    data: bytes

    @property
    def reason(self) -> str:
        """What it waits for, in words."""
        return f"lies in {self.path} and was not taken yet; `pipeline run` takes it"


def untaken(jobs: Path, job_id: str) -> Untaken | None:
    """Look through the folder for the file that carries a job's id, by its key `id` or, like a job's, by its name."""
    try:
        names = sorted(list_names(jobs))
    except OSError:
        return None
    for name in names:
        try:
            found = read(os.fspath(jobs / name), leases=False)
        except OSError:
            continue
        if isinstance(found, Reading) and _is_meant(name, found.data, job_id):
            return Untaken(jobs / name, found.data)
    return None


def _is_meant(name: str, data: bytes, job_id: str) -> bool:
    stem = split(name)[0]
    if job_id.encode() not in data and stem != job_id:
        return False
    try:
        own = parse_job(data, file=name).id
    except SpecError:
        return False
    return own == job_id if own is not None else stem == job_id and has_job_shape(stem)
