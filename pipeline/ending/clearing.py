"""`keep_done`: files of jobs that ended long ago are cleared from `jobs/done`; the index goes on telling of them.

Only what the pipeline itself put there goes: the job file and the result of a job that the index knows, with nothing left
to do. Everything else in that folder is somebody's own.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog
import trio

from pipeline.ending.filing import RESULT, tells_of
from pipeline.errors import IndexTrouble
from pipeline.inbox.names import is_job_file, split
from pipeline.ledger import Ledger
from pipeline.tools.clock import Clock, now
from pipeline.tools.threads import RunSync

log = structlog.get_logger(__name__)

EVERY = 3600.0  # seconds
_BATCH = 100


class Clearing:
    """The stage: looks once an hour.

    Args:
        keep: seconds that files stay after their job has ended, or its result was last rewritten.
    """

    def __init__(
        self,
        ledger: Ledger,
        jobs: Path,
        keep: float,
        *,
        clock: Clock = now,
        run_sync: RunSync = trio.to_thread.run_sync,
    ) -> None:
        self._ledger = ledger
        self._done = jobs / "done"
        self._keep_ms = round(keep * 1000)
        self._clock = clock
        self._run_sync = run_sync

    async def run(self) -> None:
        """Clear what is old enough, now and every hour, for ever."""
        while True:
            try:
                cleared = await self.clear()
            except (OSError, IndexTrouble) as error:
                log.warning("clearing_stuck", folder=str(self._done), reason=str(error))
            else:
                if cleared:
                    log.info("done_cleared", files=cleared)
            await trio.sleep(EVERY)

    async def clear(self) -> int:
        """Clear once, and return how many files went.

        Raises:
            OSError: the folder cannot be read, or a file not removed.
            IndexTrouble: nothing can be known.
        """
        before = self._clock() - self._keep_ms
        job_ids: list[str] = await self._run_sync(_job_ids, self._done)
        cleared = 0
        for at in range(0, len(job_ids), _BATCH):
            old = list(self._old(job_ids[at : at + _BATCH], before))
            cleared += await self._run_sync(_remove, self._done, old, before)
        return cleared

    def _old(self, job_ids: Sequence[str], before: int) -> Iterator[tuple[str, str]]:
        for job_id in job_ids:
            ended = self._ledger.ended_at(job_id)
            if ended is not None and ended[1] <= before:
                yield job_id, ended[0]


def _job_ids(done: Path) -> list[str]:
    """What the files there may be of, going by their names."""
    try:
        names = sorted(path.name for path in done.iterdir())
    except FileNotFoundError:
        return []
    stems = [
        name.removesuffix(RESULT) if name.endswith(RESULT) else split(name)[0] for name in names if is_job_file(name)
    ]
    return list(dict.fromkeys(stems))


def _remove(done: Path, jobs: Sequence[tuple[str, str]], before: int) -> int:
    """The result goes last, so that a job file is never left without what tells of its age."""
    removed = 0
    for job_id, file in jobs:
        result = done / (job_id + RESULT)
        ours = tells_of(result, job_id)
        if ours and result.stat().st_mtime_ns // 1_000_000 > before:
            continue
        for path, ours_too in ((done / file, _is_file(done / file)), (result, ours)):
            if ours_too:
                path.unlink(missing_ok=True)
                removed += 1
    return removed


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
