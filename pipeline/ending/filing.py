"""Ended jobs are filed: the job file goes to `done/`, then its result appears beside it.

Each step may be done a second time, so a crash between two of them costs nothing. The result comes last: who sees it
finds everything else in place.
"""

from collections.abc import Callable
from pathlib import Path

import orjson
import structlog
import trio

from pipeline.catalogue import Catalogue, success
from pipeline.errors import IndexTrouble
from pipeline.ledger import Ledger
from pipeline.naming import with_suffix
from pipeline.tools.brake import Bell
from pipeline.tools.files import make_folder, rename_exclusive, write_durably
from pipeline.tools.pauses import Pauses
from pipeline.tools.threads import RunSync

log = structlog.get_logger(__name__)

BATCH = 100
RESULT = ".result.json"


class Filing:
    """The stage: asks the index which results are due, and writes them.

    Args:
        jobs: the watched folder.
        filed: told of each job after the index knows that it is filed.
    """

    def __init__(
        self,
        ledger: Ledger,
        catalogue: Catalogue,
        jobs: Path,
        *,
        filed: Callable[[str], None] = lambda _: None,
        run_sync: RunSync = trio.to_thread.run_sync,
    ) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._active = jobs / "active"
        self._done = jobs / "done"
        self._filed = filed
        self._run_sync = run_sync
        self.trouble: str | None = None  # what keeps results from being written
        self.bell = Bell()

    async def run(self) -> None:
        """File what is due, for ever."""
        pauses = Pauses(longest=30.0)
        while True:
            try:
                due = self._ledger.to_file(BATCH)
                failed = [job for job in due if not await self._try(job)]
            except IndexTrouble as error:
                self._say(str(error))
                due, failed = [], ["all that could not be read"]
            if failed:
                await trio.sleep(pauses.next())
            elif due:
                pauses.reset()
                self._say(None)
            else:
                await self.bell.wait()

    async def _try(self, job_id: str) -> bool:
        try:
            await self.file(job_id)
        except OSError as error:
            self._say(f"{self._done}: a result could not be written ({error.strerror}); make room, it is tried again")
            return False
        self._filed(job_id)
        return True

    async def file(self, job_id: str) -> None:
        """File one job; what happens to its images meanwhile makes it due again.

        Raises:
            OSError: disk full, folder read-only; the job is still due.
            IndexTrouble: likewise.
        """
        version = self._ledger.result_version(job_id)
        data = self._catalogue.result(job_id)
        if data is None:
            raise IndexTrouble(f"the index has no job {job_id} any more; see `pipeline verify`")
        text = orjson.dumps({"success": success(data), "data": data}, option=orjson.OPT_INDENT_2) + b"\n"
        await self._run_sync(self._put_away, job_id, self._catalogue.file(job_id), text)
        await self._ledger.filed(job_id, version)
        log.info("job_filed", job=job_id, status=data["status"])

    def _put_away(self, job_id: str, file: str, text: bytes) -> None:
        make_folder(self._done)
        self._move(file)
        n = 1
        while not self._write(job_id, with_suffix(job_id, n, length=240), text):
            n += 1

    def _move(self, file: str) -> None:
        """Move the job file; one that is gone was moved before a crash, or removed by a person."""
        source = self._active / file
        stem, dot, extension = file.rpartition(".")
        n = 1
        while source.is_symlink() or source.exists():
            try:
                rename_exclusive(source, self._done / (with_suffix(stem, n, length=240) + dot + extension))
            except FileExistsError:
                n += 1
            except FileNotFoundError:
                return

    def _write(self, job_id: str, stem: str, text: bytes) -> bool:
        """Write the result, over an earlier one of this job; False where the name is somebody else's."""
        path = self._done / (stem + RESULT)
        if path.is_symlink() or path.exists():
            if not tells_of(path, job_id):
                return False
            write_durably(path, text, replace=True)
            return True
        try:
            write_durably(path, text, replace=False)
        except FileExistsError:
            return False
        return True

    def _say(self, trouble: str | None) -> None:
        """Say once what is wrong, and once that it is over."""
        if trouble is not None and self.trouble is None:
            log.warning("filing_stuck", reason=trouble)
        elif trouble is None and self.trouble is not None:
            log.info("filing_goes_on")
        self.trouble = trouble


def tells_of(path: Path, job_id: str) -> bool:
    """Tell whether a file is the result of that job."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        told = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        return False
    data = told.get("data") if isinstance(told, dict) else None
    return isinstance(data, dict) and data.get("jobId") == job_id
