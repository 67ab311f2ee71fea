"""From files to drafts: read what is ready, parse it, and say of the rest why it waits. Runs in a worker thread."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from pipeline.errors import SpecError
from pipeline.inbox.disk import EVERYWHERE
from pipeline.inbox.looking import Arrival, place_of
from pipeline.inbox.names import readable
from pipeline.inbox.reading import Left, Reading, Stamp, read
from pipeline.inbox.settling import Stillness
from pipeline.inbox.stuck import Stuck
from pipeline.inbox.telling import Telling
from pipeline.model import Job
from pipeline.plan import read_job
from pipeline.spec.keys import Rules

_log = structlog.get_logger("pipeline.inbox")

# One batch is one transaction: large enough to share its flush, small enough for memory and for the first one's wait.
FILES_AT_ONCE = 1_000
_IMAGES_AT_ONCE = 20_000
_BYTES_AT_ONCE = 2 << 20


@dataclass(frozen=True, slots=True)
class Draft:
    """A file that is a job, before it has its name; `job.id` is the spec's own id or empty."""

    arrival: Arrival
    job: Job
    stamp: Stamp  # how the file looked when it was read


@dataclass(frozen=True, slots=True)
class NoJob:
    """A file that is no job, and why."""

    arrival: Arrival
    reason: str
    stamp: Stamp


@dataclass(slots=True)
class Batch:
    """What one turn in the worker thread brought."""

    drafts: list[Draft] = field(default_factory=list)
    no_jobs: list[NoJob] = field(default_factory=list)
    written: int = 0  # files that a process has open for writing
    images: int = 0
    bytes: int = 0

    @property
    def keys(self) -> list[str]:
        """Name the files that were decided about."""
        return [draft.arrival.key for draft in self.drafts] + [no_job.arrival.key for no_job in self.no_jobs]

    @property
    def full(self) -> bool:
        """Whether the rest has to wait for the next one."""
        files = len(self.drafts) + len(self.no_jobs)
        return files >= FILES_AT_ONCE or self.images >= _IMAGES_AT_ONCE or self.bytes >= _BYTES_AT_ONCE


class Drafter:
    """Reads and parses; remembers only how long files have stood still and which of them cannot be read."""

    def __init__(self, jobs: Path, rules: Rules, *, settle: float, leases: bool, telling: Telling) -> None:
        self.stillness = Stillness(settle)
        self.stuck = Stuck(telling)
        self._jobs = jobs
        self._rules = rules
        self._leases = leases

    def draft(self, arrivals: deque[Arrival], told: Collection[str], now: float) -> Batch:
        """Work off arrivals from the left until a batch is full.

        Args:
            arrivals: in the order in which they are to be taken.
            told: names whose writers have closed them, or that were renamed into the folder.
            now: monotonic seconds.

        Raises:
            OSError: one of `EVERYWHERE`; the file stands first in `arrivals` again.
        """
        batch = Batch()
        while arrivals and not batch.full:
            arrival = arrivals.popleft()
            if self.stuck.holds(arrival, now):
                continue
            try:
                found = read(place_of(arrival, self._jobs), leases=self._leases)
            except OSError as error:
                if error.errno in EVERYWHERE:
                    arrivals.appendleft(arrival)
                    raise
                self.stuck.note(arrival, error, now)
                continue
            if found is Left.OPEN:
                self.stillness.opened(arrival.key)
                batch.written += 1
            elif found is Left.GONE:
                self.stillness.forget(arrival.key)
            else:
                self._weigh(arrival, found, batch, done=found.sure or arrival.name in told, now=now)
        return batch

    def _weigh(self, arrival: Arrival, found: Reading, batch: Batch, *, done: bool, now: float) -> None:
        """Decide about a file that could be read: a job, no job, or not to be judged yet.

        A writer may close a file and open it again for the next line. So what was seen to grow so has to stand still
        before it is taken, and what is no job before it is refused, even where nobody has it open.
        """
        still = self.stillness.settled(arrival.key, found.stamp, now)
        if not (still or (done and not self.stillness.piecemeal(arrival.key))):
            return
        batch.bytes += len(found.data)
        parsed = self._parse(arrival, found.data)
        if isinstance(parsed, Job):
            batch.drafts.append(Draft(arrival, parsed, found.stamp))
            batch.images += len(parsed.images)
        elif still:
            batch.no_jobs.append(NoJob(arrival, parsed, found.stamp))

    def _parse(self, arrival: Arrival, data: bytes) -> Job | str:
        file = readable(arrival.name)
        try:
            return read_job(data, file=file, rules=self._rules)
        except SpecError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  # one odd file must not stop the others; the log has the traceback
            _log.exception("a job file broke the parser, which is a defect of this program", file=file)
            return f"{file}: this program broke on it ({type(error).__name__}); please report it with the file"
