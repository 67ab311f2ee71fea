"""Everything that one status shows, of one moment, and what follows from it."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pipeline.catalogue import Catalogue, Day, JobRow, Summary, TroubleRow
from pipeline.config import Config
from pipeline.inbox.looking import list_names
from pipeline.inbox.names import readable
from pipeline.model import LaneState
from pipeline.naming import EXTENSIONS
from pipeline.tools.clock import now
from pipeline.tools.locks import Holder, holder

EVERYTHING = "*"  # no job's id
MOST_JOBS = 10  # are shown one by one
MOST_WEIGHED = 200  # are looked at for what the shown ones share their back ends with


class RejectedFile(NamedTuple):
    """A file that was never accepted, by its name as it can be shown, and the first line of the reason."""

    name: str
    reason: str


class Overview(NamedTuple):
    """The workspace as it is."""

    workspace: str
    at: int
    holder: Holder | None  # the daemon, or the command, that holds the state folder
    summary: Summary
    running: int  # jobs, of the label asked for
    waiting: int
    dropped: int  # files in the folder that nobody has taken yet
    jobs: Sequence[JobRow]  # running ones first, each kind in arrival order; of the label asked for
    sharing: Sequence[JobRow]  # the same, of all labels
    lanes: Sequence[LaneState]
    troubles: Sequence[TroubleRow]
    rejected: Sequence[RejectedFile]  # the latest last
    paused: frozenset[str]  # jobs that people have paused; `EVERYTHING` stands for all of them
    prices: Mapping[str, float]  # of an hour, by back end

    @property
    def more(self) -> int:
        """Unfinished jobs that are not shown one by one."""
        return self.running + self.waiting - len(self.jobs)

    @property
    def all_paused(self) -> bool:
        """Whether nothing new starts anywhere."""
        return EVERYTHING in self.paused

    def waits_for(self, job: JobRow) -> str | None:
        """Why nothing more of a job starts, in words; None where something may."""
        return job.reason or ("paused" if {EVERYTHING, job.id} & self.paused else None)

    @property
    def rate(self) -> float:
        """Images a second, from what is busy and what one image has taken there of late."""
        return sum(lane.busy / lane.typical for lane in self.lanes if lane.typical and lane.state == "ready")

    def remaining(self, job: JobRow) -> float | None:
        """Seconds until a job has ended, as far as its back ends have learned what an image takes; None: not known.

        Jobs take turns image by image: until a job of n images ends, each other one has had at most n turns.
        """
        left = _left(job)
        pool = [lane for lane in self.lanes if lane.name in job.backends and lane.typical and lane.state == "ready"]
        rate = sum(lane.slots / lane.typical for lane in pool if lane.typical)
        if self.holder is None or not rate or not left or self.waits_for(job) == "paused":
            return None
        rivals = [other for other in self.sharing if other.id != job.id and set(other.backends) & set(job.backends)]
        before = sum(
            _left(other) if other.priority > job.priority else min(_left(other), left)
            for other in rivals
            if other.priority >= job.priority
        )
        return (left + before) / rate

    def cost(self, days: Sequence[Day]) -> float | None:
        """What GPU time has cost; None where no price is known or nothing was used."""
        paid = [day for day in days if day.backend in self.prices and day.gpu_seconds]
        return sum(day.gpu_seconds / 3600 * self.prices[day.backend] for day in paid) if paid else None


def overview(config: Config, catalogue: Catalogue, label: str | None) -> Overview:
    """Look at everything once.

    Raises:
        IndexTrouble: there is no index, or it cannot be read.
    """
    at, held_by = now(), holder(config.state)
    sharing = catalogue.unfinished(MOST_WEIGHED)
    unfinished = catalogue.unfinished_counts(label)
    return Overview(
        workspace=config.root.name,
        at=at,
        holder=held_by,
        summary=catalogue.summary(now=at),
        running=unfinished.get("running", 0),
        waiting=unfinished.get("queued", 0),
        dropped=_dropped(config.jobs),
        jobs=sharing[:MOST_JOBS] if label is None else catalogue.unfinished(MOST_JOBS, label),
        sharing=sharing,
        lanes=[lane if held_by else _stopped(lane) for lane in catalogue.lanes()],
        troubles=catalogue.troubles() if held_by else [],
        rejected=_rejected(config.jobs / "rejected"),
        paused=frozenset(what.name or EVERYTHING for what in catalogue.pauses() if what.kind != "backend"),
        prices=prices(config),
    )


def prices(config: Config) -> dict[str, float]:
    """What an hour costs, for the back ends that say so."""
    return {name: one.price_per_hour for name, one in config.backends.items() if one.price_per_hour is not None}


def ended(job: JobRow) -> int:
    """How many of a job's images have ended."""
    return job.quantity - _left(job)


def _stopped(lane: LaneState) -> LaneState:
    """A back end while no daemon runs: what was noted of it last is over, unless people paused it."""
    if lane.state == "paused":
        return lane._replace(busy=0)
    return lane._replace(state="stopped", busy=0, reason=None, next_try=None)


def _left(job: JobRow) -> int:
    return job.counts["queued"] + job.counts["running"]


def _dropped(folder: Path) -> int:
    try:
        return len(list_names(folder))
    except OSError:
        return 0


def _rejected(folder: Path) -> list[RejectedFile]:
    """Look for reasons with their job file beside them still: one that was mended and moved leaves its own behind."""
    found = []
    for file in folder.glob("*.error.txt"):
        name = file.name.removesuffix(".error.txt")
        if not any((folder / f"{name}{extension}").exists() for extension in EXTENSIONS):
            continue
        try:  # its owner may mend and move it while we look
            moment = file.stat().st_mtime_ns
            found.append((moment, RejectedFile(readable(name), _first_line(file, moment) or readable(name))))
        except OSError:
            continue
    return [rejected for _, rejected in sorted(found, key=lambda one: (one[0], one[1].name))]


@lru_cache(maxsize=10_000)
def _first_line(file: Path, _written_at: int) -> str:
    """Read a reason once as long as it is the same: thousands may lie there, and the live view looks twice a second."""
    with file.open(errors="replace") as text:
        return text.readline().rstrip()
