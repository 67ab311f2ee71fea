"""One pass over the folder, from names to accepted jobs; batch by batch, the file work in a worker thread."""

import random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import structlog
import trio

from pipeline.inbox.claiming import Aside, Claim, Claimer, Upshot
from pipeline.inbox.counts import Pass, Totals
from pipeline.inbox.disk import Disk, Folders
from pipeline.inbox.drafting import Batch, Draft, Drafter
from pipeline.inbox.looking import Arrival, list_names, look_at
from pipeline.inbox.names import has_job_shape, new_job_id, readable, split
from pipeline.inbox.telling import Telling
from pipeline.ledger import Declined, Ledger, Taken, Verdict
from pipeline.tools.clock import Clock, now
from pipeline.tools.threads import RunSync

_log = structlog.get_logger("pipeline.inbox")

_ASKED_AT_ONCE = 500  # names in one question to the index; between two questions others have a chance


@dataclass(frozen=True, slots=True)
class Outside:
    """What the inbox needs of the world."""

    folders: Folders
    ledger: Ledger  # where jobs are accepted
    on_accepted: Callable[[Sequence[str]], None] = lambda _: None  # told their ids, in their order; must not wait
    clock: Clock = now  # names jobs
    run_sync: RunSync = trio.to_thread.run_sync  # runs the file work; tests under a virtual clock pass an inline one
    disk: Disk = field(default_factory=Disk)


class Intake:
    """Makes passes, one at a time; remembers which names in `active/` the index is known to know."""

    def __init__(self, outside: Outside, drafter: Drafter, telling: Telling) -> None:
        self.totals = Totals()
        self.stirred_at: float | None = None  # when a batch, or a pass, was last through (trio's clock)
        self._outside = outside
        self._folders = outside.folders
        self._drafter = drafter
        self._claimer = Claimer(outside.folders, outside.disk)
        self._telling = telling
        self._draw = random.Random()
        self._known: set[str] = set()

    async def all(self, result: Pass) -> None:
        """Look at everything in `jobs/`, and at what `active/` holds that the index does not know.

        Raises:
            OSError: the folder, or the disk, is in trouble; what was not taken is still there.
            IndexTrouble: likewise, of the index.
        """
        names, arrivals = await self._outside.run_sync(self._list)
        arrivals += await self._unknown(names)
        keys = {arrival.key for arrival in arrivals}
        self._drafter.stillness.keep_only(keys)
        self._drafter.stuck.keep_only(keys)
        await self._work_off(arrivals, (), result)
        self.totals.passed_at = self._outside.clock()

    async def some(self, keys: Collection[str], told: Collection[str], result: Pass) -> None:
        """Look at a few files; `told` names those whose writers are known to be done.

        Raises:
            OSError, IndexTrouble: as from `all`.
        """
        await self._work_off(await self._outside.run_sync(self._look, keys), told, result)

    def _list(self) -> tuple[list[str], list[Arrival]]:
        if self._folders.make(self._outside.disk):
            _log.warning("the jobs folder was missing and has been made", folder=str(self._folders.jobs))
        active = list_names(self._folders.active)
        self._known.intersection_update(active)
        arrivals = list(look_at(self._folders.jobs, list_names(self._folders.jobs), claimed=False))
        return [name for name in active if name not in self._known], arrivals

    def _look(self, keys: Collection[str]) -> list[Arrival]:
        active = [key.removeprefix("active/") for key in keys if key.startswith("active/")]
        waiting = [key for key in keys if not key.startswith("active/")]
        return [
            *look_at(self._folders.active, active, claimed=True),
            *look_at(self._folders.jobs, waiting, claimed=False),
        ]

    async def _unknown(self, names: Sequence[str]) -> list[Arrival]:
        """Find what a crash between renaming and accepting has left in `active/`."""
        for start in range(0, len(names), _ASKED_AT_ONCE):
            ids = {name: split(name)[0] for name in names[start : start + _ASKED_AT_ONCE]}
            known = self._outside.ledger.known_among(ids.values())
            self._known.update(name for name, job_id in ids.items() if job_id in known)
            await trio.lowlevel.checkpoint()
        unknown = [name for name in names if name not in self._known]
        return list(look_at(self._folders.active, unknown, claimed=True))

    async def _work_off(self, arrivals: list[Arrival], told: Collection[str], result: Pass) -> None:
        arrivals.sort()
        waiting = deque(arrivals)
        again: list[Draft] = []
        try:
            while waiting or again:
                batch: Batch = await self._outside.run_sync(self._drafter.draft, waiting, told, trio.current_time())
                result.written += batch.written
                batch.drafts[:0] = again
                again = await self._take(batch, result)
                self.stirred_at = trio.current_time()
        finally:
            result.settling += len(self._drafter.stillness)
            result.stuck = len(self._drafter.stuck)
            self._telling.end()
            self.totals.add(result)
            self.stirred_at = trio.current_time()

    async def _take(self, batch: Batch, result: Pass) -> list[Draft]:
        """Take a batch; return the drafts that have to wait for its end, their id being in it already."""
        claims, again = self._name(batch.drafts)
        aside = [Aside.of(no_job, self._folders) for no_job in batch.no_jobs]
        if claims:
            upshot: Upshot = await self._outside.run_sync(self._claimer.take, claims)
            self._note(upshot, result)
            verdicts = await self._outside.ledger.accept([claim.job for claim in upshot.claims])
            aside += self._sort_out(upshot.claims, verdicts, result)
        if aside:
            self._note(await self._outside.run_sync(self._claimer.set_aside, aside), result)
        self._drafter.stillness.forget(*batch.keys)  # not before: after trouble they need not settle once more
        return again

    def _name(self, drafts: Sequence[Draft]) -> tuple[list[Claim], list[Draft]]:
        claims: list[Claim] = []
        again: list[Draft] = []
        used: set[str] = set()
        wishes = [draft.job.id or self._wish(draft) for draft in drafts]
        known = self._outside.ledger.known_among(wishes)
        for draft, wish in zip(drafts, wishes, strict=True):
            if draft.job.own_id and wish in used:
                again.append(draft)
            elif draft.job.own_id and wish in known:
                claims.append(Claim.in_place(draft, self._folders))
            else:
                job_id = wish if wish not in used and wish not in known else self._other_id(draft, used)
                used.add(job_id)
                claims.append(Claim.of(draft, job_id, self._folders))
        return claims, again

    def _wish(self, draft: Draft) -> str:
        stem = split(draft.arrival.name)[0]
        return stem if has_job_shape(stem) else self._new_id(stem)

    def _other_id(self, draft: Draft, used: Collection[str]) -> str:
        stem = split(draft.arrival.name)[0]
        job_id = self._new_id(stem)
        while job_id in used or self._outside.ledger.known_among([job_id]):
            job_id = self._new_id(stem)
        return job_id

    def _new_id(self, stem: str) -> str:
        return new_job_id(stem, now=self._outside.clock(), draw=self._draw)

    def _sort_out(self, claims: Sequence[Claim], verdicts: Sequence[Verdict], result: Pass) -> list[Aside]:
        """Tell the runner what was accepted; return what is to be moved away."""
        accepted: list[str] = []
        aside: list[Aside] = []
        latest = 0  # the date of the last of them, in nanoseconds
        for claim, verdict in zip(claims, verdicts, strict=True):
            if isinstance(verdict, Taken):
                accepted.append(verdict.job_id)
                latest = claim.arrival.ctime_ns
                self._known.add(claim.job.file)
                self._drafter.stuck.forget(claim.arrival)
            else:
                file = readable(claim.arrival.name)
                reason = f"{file}: {verdict.reason}" if isinstance(verdict, Declined) else None
                aside.append(Aside(claim.arrival, claim.path, claim.stamp, reason))
        if accepted:
            result.taken += len(accepted)
            self.totals.lag = max(0.0, self._outside.clock() / 1e3 - latest / 1e9)
            _log.info("accepted", jobs=len(accepted), first=accepted[0])
            self._outside.on_accepted(accepted)
        return aside

    def _note(self, upshot: Upshot, result: Pass) -> None:
        result.settling += upshot.postponed
        now = trio.current_time()
        for arrival, error in upshot.failed:
            self._drafter.stuck.note(arrival, error, now)
        for moved, place in upshot.aside:
            self._drafter.stuck.forget(moved.arrival)
            if moved.reason is None:
                result.duplicates += 1
                self._telling.say("known already", file=readable(moved.arrival.name), moved_to=str(place))
            else:
                result.rejected += 1
                self._telling.say("rejected", file=readable(moved.arrival.name), moved_to=readable(str(place)))
        if upshot.trouble is not None:
            raise upshot.trouble
