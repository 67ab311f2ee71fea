"""Giving drafts their names and moving their files: the renames, each of which a later pass can go on from."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.inbox.disk import EVERYWHERE, Disk, Folders, reject, set_aside
from pipeline.inbox.drafting import Draft, NoJob
from pipeline.inbox.looking import Arrival, place_of
from pipeline.inbox.names import split
from pipeline.inbox.reading import Stamp
from pipeline.model import Job


@dataclass(frozen=True, slots=True)
class Claim:
    """A job with its name, and its file; `move` is false where the file is not to be taken (a known id) or is already."""

    arrival: Arrival
    job: Job
    stamp: Stamp
    move: bool
    path: str  # where the file lies when this has been carried out

    @classmethod
    def of(cls, draft: Draft, job_id: str, folders: Folders) -> "Claim":
        """Take the file into `active/` under the job's name."""
        arrival = draft.arrival
        file = job_id + split(arrival.name)[1]
        moves = not (arrival.claimed and arrival.name == file)
        return cls(arrival, draft.job._replace(id=job_id, file=file), draft.stamp, moves, f"{folders.active}/{file}")

    @classmethod
    def in_place(cls, draft: Draft, folders: Folders) -> "Claim":
        """Leave the file where it is until the ledger has said what a second job of a known id is."""
        file = draft.job.id + split(draft.arrival.name)[1]
        place = place_of(draft.arrival, folders.jobs)
        return cls(draft.arrival, draft.job._replace(file=file), draft.stamp, False, place)


@dataclass(frozen=True, slots=True)
class Aside:
    """A file to be moved away: into `rejected/` with its reason, or, without one, into `duplicate/`."""

    arrival: Arrival
    path: str
    stamp: Stamp
    reason: str | None

    @classmethod
    def of(cls, no_job: NoJob, folders: Folders) -> "Aside":
        """Move away what was refused before it was taken."""
        return cls(no_job.arrival, place_of(no_job.arrival, folders.jobs), no_job.stamp, no_job.reason)


@dataclass(slots=True)
class Upshot:
    """What became of a batch at the file system."""

    claims: list[Claim] = field(default_factory=list)  # these may be accepted
    aside: list[tuple[Aside, Path]] = field(default_factory=list)  # moved away, and where to
    failed: list[tuple[Arrival, OSError]] = field(default_factory=list)  # stay where they are
    postponed: int = 0  # changed or vanished meanwhile, or their name is in use: the next pass looks again
    trouble: OSError | None = None  # the folder as a whole ails; what is not above was not tried


class Claimer:
    """Carries out what was decided; every step leaves the files so that a later pass can go on from there."""

    def __init__(self, folders: Folders, disk: Disk) -> None:
        self._folders = folders
        self._disk = disk

    def take(self, claims: list[Claim]) -> Upshot:
        """Rename the files into `active/`, then make all the new names durable at once.

        Only after that may the ledger hear of them: a rename that a power cut undoes would let the same file be
        taken a second time. So is a rename of an earlier pass, which may have come to grief just before it was flushed.
        """
        upshot = Upshot()
        try:
            for claim in claims:
                self._take_one(claim, upshot)
            if any(claim.move or claim.arrival.claimed for claim in upshot.claims):
                self._disk.flush(self._folders.active)
                self._disk.flush(self._folders.jobs)
        except OSError as error:
            # What was renamed lies in `active/`, unknown to the index, and is taken anew from there.
            return Upshot(failed=upshot.failed, postponed=upshot.postponed, trouble=error)
        return upshot

    def set_aside(self, files: list[Aside]) -> Upshot:
        """Move away what is no job, and what is one already."""
        upshot = Upshot()
        for file in files:
            if upshot.trouble is None:
                self._set_aside(file, upshot)
        return upshot

    def _take_one(self, claim: Claim, upshot: Upshot) -> None:
        if claim.move:
            try:
                self._disk.rename(place_of(claim.arrival, self._folders.jobs), claim.path)
            except OSError as error:
                self._not_taken(claim, error, upshot)
                return
        if _stamp(claim.path) == claim.stamp:
            upshot.claims.append(claim)
        else:
            upshot.postponed += 1

    def _not_taken(self, claim: Claim, error: OSError, upshot: Upshot) -> None:
        if isinstance(error, FileNotFoundError):
            if not self._folders.active.is_dir():
                raise error
            upshot.postponed += 1
        elif isinstance(error, FileExistsError) and not _never_taken(claim.path):
            upshot.postponed += 1  # a job file that the next pass takes anew, under a name of its own
        elif error.errno in EVERYWHERE:
            raise error
        else:
            upshot.failed.append((claim.arrival, error))

    def _set_aside(self, file: Aside, upshot: Upshot) -> None:
        name = file.arrival.name
        if _stamp(file.path) != file.stamp:
            upshot.postponed += 1
            return
        try:
            if file.reason is None:
                place = set_aside(self._disk, Path(file.path), self._folders.duplicate, name)
            else:
                place = reject(self._disk, Path(file.path), self._folders.rejected, name, file.reason)
        except OSError as error:
            if error.errno in EVERYWHERE or isinstance(error, FileNotFoundError):
                upshot.trouble = error
            else:
                upshot.failed.append((file.arrival, error))
        else:
            upshot.aside.append((file, place))


def _stamp(path: str) -> Stamp | None:
    try:
        return Stamp.of(os.lstat(path))
    except OSError:
        return None


def _never_taken(path: str) -> bool:
    """Whether what stands there is no regular file, which no pass will ever move out of the way."""
    try:
        return not stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False
