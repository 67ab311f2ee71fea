"""Whose image starts next. Pure: no clock, no index, no waiting; `now` is any rising number of seconds.

A job that may start images stands in the line of its pool of back ends. The line is ordered by priority, then by who
has gone longest without a turn: a job takes one turn and goes to the end. So jobs alternate image by image, a new job
has to catch up with nobody, and a job that rested (stagger) gets its turn soon without gaining more than one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from pipeline.ledger import Turn

Pool = tuple[str, ...]


@dataclass(slots=True, eq=False)
class Waiting:
    """A job in its line; 100,000 of these must be cheap."""

    turn: Turn
    left: int  # images that have not started
    pool: Pool
    since: int  # its last turn, or its arrival
    not_before: float  # its own stagger
    line: "_Line | None" = None  # where it stands now; None while it has nothing to start
    noted: str | None = None  # the reason for waiting that the index was last told


class Turns:
    """All jobs with images that have not started, and the order in which lanes may start them."""

    def __init__(self) -> None:
        self._jobs: dict[str, Waiting] = {}
        self._lines: dict[Pool, _Line] = {}
        self._lines_of: dict[str, list[_Line]] = {}
        self._moments = count()

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def waiting(self) -> Iterator[Waiting]:
        """Go through the jobs that have images to start."""
        return (job for job in self._jobs.values() if job.left)

    def pools(self) -> list[Pool]:
        """The combinations of back ends that images wait for."""
        return [pool for pool, line in self._lines.items() if line.images]

    def images_for(self, lane: str) -> int:
        """Count the images that might start at a back end."""
        return sum(line.images for line in self._lines_of.get(lane, ()))

    def join(self, turn: Turn, not_before: float = float("-inf")) -> None:
        """Let a job stand in line, a new one from a moment on, or correct what is known of one that does."""
        job = self._jobs.get(turn.job_id)
        if job is None:
            job = Waiting(turn, turn.planned, turn.backends, next(self._moments), not_before)
            self._jobs[turn.job_id] = job
        else:
            self._step_out(job)
            job.turn, job.left, job.pool = turn, turn.planned, turn.backends
        self._stand(job)

    def leave(self, job_id: str) -> None:
        """Forget a job: it is done, paused or cancelled."""
        job = self._jobs.pop(job_id, None)
        if job is not None:
            self._step_out(job)
            job.left = 0

    def narrow(self, job_id: str, without: str) -> bool:
        """Let a job no longer start at one of its back ends; False where no other is left, and nothing changed."""
        job = self._jobs.get(job_id)
        if job is None:
            return True
        rest = tuple(name for name in job.pool if name != without)
        if rest:
            self._step_out(job)
            job.pool = rest
            self._stand(job)
        return bool(rest)

    def take(self, lane: str, now: float) -> Turn | None:
        """Give the next turn at a back end, and count it as used."""
        best: Waiting | None = None
        for line in self._lines_of.get(lane, ()):
            first = line.first(now)
            if first is not None and (best is None or _rank(first) < _rank(best)):
                best = first
        if best is None:
            return None
        self._step_out(best)
        best.left -= 1
        best.since = next(self._moments)
        best.not_before = now + best.turn.stagger if best.turn.stagger else best.not_before
        self._stand(best)
        return best.turn

    def accepted(self, job_id: str) -> None:
        """Take note that a back end took an image of a job: in the index it waits for nothing now."""
        job = self._jobs.get(job_id)
        if job is not None:
            job.noted = None

    def give_back(self, job_id: str) -> Pool | None:
        """Take note that an image of the job has to start after all, or once more.

        Returns:
            Where it stands in line; None where the job is not known.
        """
        job = self._jobs.get(job_id)
        if job is None:
            return None
        job.left += 1
        if job.line is None:
            self._stand(job)
        else:
            job.line.images += 1
        return job.pool

    def retire(self, job_id: str) -> None:
        """Forget a job if all its images have started."""
        job = self._jobs.get(job_id)
        if job is not None and not job.left:
            del self._jobs[job_id]

    def rest(self, lane: str, now: float) -> float:
        """Tell how many seconds it takes until a job's own stagger lets it start at this back end."""
        moments = [line.next_rested() for line in self._lines_of.get(lane, ())]
        return max(min(moments, default=float("inf")) - now, 0.0)

    def _stand(self, job: Waiting) -> None:
        if job.left > 0:
            line = self._lines.get(job.pool)
            if line is None:
                line = self._lines[job.pool] = _Line()
                for name in job.pool:
                    self._lines_of.setdefault(name, []).append(line)
            job.line = line
            line.enter(job)

    def _step_out(self, job: Waiting) -> None:
        if job.line is not None:
            job.line.exit(job)
            job.line = None


def _rank(job: Waiting) -> tuple[int, int]:
    return (-job.turn.priority, job.since)


_Ready = tuple[int, int, int, Waiting]
_Resting = tuple[float, int, Waiting]


class _Line:
    """The jobs of one pool. Whoever steps out leaves its entry behind; entries that no longer hold are skipped."""

    def __init__(self) -> None:
        self._ready: list[_Ready] = []
        self._resting: list[_Resting] = []
        self._entries = count()
        self._present = 0
        self.images = 0

    def enter(self, job: Waiting) -> None:
        self._present += 1
        self.images += job.left
        if job.not_before == float("-inf"):
            self._push(job)
        else:
            heappush(self._resting, (job.not_before, next(self._entries), job))

    def exit(self, job: Waiting) -> None:
        self._present -= 1
        self.images -= job.left
        if not self._present:
            self._ready.clear()
            self._resting.clear()

    def first(self, now: float) -> Waiting | None:
        while self._resting and self._resting[0][0] <= now:
            not_before, _, job = heappop(self._resting)
            if job.line is self and job.not_before == not_before:
                self._push(job)
        while self._ready:
            priority, since, _, job = self._ready[0]
            if job.line is self and (priority, since) == _rank(job):
                return job
            heappop(self._ready)
        return None

    def next_rested(self) -> float:
        while self._resting:
            not_before, _, job = self._resting[0]
            if job.line is self and job.not_before == not_before:
                return not_before
            heappop(self._resting)
        return float("inf")

    def _push(self, job: Waiting) -> None:
        heappush(self._ready, (*_rank(job), next(self._entries), job))
