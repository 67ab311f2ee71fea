"""The loop that makes passes at the right moments: on hearing of a file, when one has settled, and regularly."""

from pathlib import Path

import structlog
import trio

from pipeline.errors import IndexTrouble
from pipeline.inbox.counts import Pass, Totals
from pipeline.inbox.drafting import Drafter
from pipeline.inbox.intake import Intake, Outside
from pipeline.inbox.telling import Telling
from pipeline.inbox.watching import Ears
from pipeline.spec.keys import Rules
from pipeline.tools.mounts import mount_of

_log = structlog.get_logger("pipeline.inbox")

EARS_TRIED_AGAIN = 30.0  # seconds after which notification is asked for again where it could not be had
STILL = 60.0  # seconds without any progress after which a pass is taken to hang
MANY = 200  # files taken in one pass from which on more are expected to follow
_SHORTEST_PAUSE = 0.02  # seconds between two passes of `drain`, however short the settle time is


class Inbox:
    """The folder that people drop job files into.

    Args:
        outside: with the folders, made where they are missing; their lock is the caller's.
        rules: what a job's style, back end and owner may be.
        settle: seconds that a file must stand still where nothing else tells that its writer is done.
        scan_interval: seconds between passes over the whole folder.
    """

    def __init__(self, outside: Outside, *, rules: Rules, settle: float = 0.5, scan_interval: float = 2.0) -> None:
        jobs, disk = outside.folders.jobs, outside.disk
        telling = Telling()
        leases = disk.leases if disk.leases is not None else not _on_shared_mount(jobs)
        self._drafter = Drafter(jobs, rules, settle=settle, leases=leases, telling=telling)
        self._intake = Intake(outside, self._drafter, telling)
        self._settle = settle
        self._scan_interval = scan_interval
        self._jobs = jobs
        self._observer = disk.observer
        self._ears: Ears | None = None
        self._ears_asked = 0.0
        self._turn = trio.Lock()
        self._moment = trio.lowlevel.current_clock().current_time  # the gallery's thread asks for `hindrance` too
        self.trouble: str | None = None  # why the last pass ended early; files wait where they are

    @property
    def totals(self) -> Totals:
        """Counts since the start."""
        return self._intake.totals

    @property
    def watching(self) -> bool:
        """Whether dropped files are heard of at once; the regular scan finds them in either case."""
        return self._ears is not None and self._ears.listening

    @property
    def deaf(self) -> str | None:
        """Why new files are found by scanning alone, in words; None while they are heard of, or are meant to be."""
        return None if self._ears is None else self._ears.reason

    @property
    def hindrance(self) -> str | None:
        """Why no files are taken now, in words; None while they are."""
        if self.trouble is not None or self._intake.stirred_at is None:
            return self.trouble
        still = self._moment() - self._intake.stirred_at
        if still > max(STILL, 3 * self._scan_interval):
            return f"{self._jobs}: nothing has been heard of it for {still:.0f} s; its file system may hang"
        return None

    @property
    def stuck(self) -> str | None:
        """Which single files cannot be taken, and why, in words; None where there are none."""
        return self._drafter.stuck.told

    async def scan(self) -> Pass:
        """Make one pass over the whole folder; trouble is in the answer, never raised."""
        return await self._pass(None)

    async def drain(self, *, patience: float) -> Pass:
        """Make passes until nothing is left that waiting would bring; for `run --once`.

        Files that are still settling, or being written, are waited for; so is trouble with the disk or the index;
        each of these for at most `patience` seconds in all.
        """
        until = trio.current_time() + patience
        total = await self.scan()
        while (total.left or total.trouble) and trio.current_time() < until:
            await trio.sleep(max(_SHORTEST_PAUSE, min(self._settle, self._scan_interval)))
            total = total.then(await self.scan())
        return total

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take files until cancelled.

        While many come, nothing is listened to: every rename of ours would be heard too, which costs as much as taking
        the file. So a pass that took many is followed by another one, and listening begins after the last.
        """
        ears = self._ears = Ears(self._jobs, self._observer)
        task_status.started()
        try:
            while True:
                result = await self.scan()
                if result.taken >= MANY:
                    ears.close()
                elif not self._begins_to_listen(ears):  # else: what came before we listened is still to be found
                    await self._until_next_scan(ears)
        finally:
            ears.close()

    def _begins_to_listen(self, ears: Ears) -> bool:
        """See that new files are heard of; true where that was not so until now."""
        now = trio.current_time()
        if ears.deaf() and (ears.reason is None or now >= self._ears_asked):
            self._ears_asked = now + EARS_TRIED_AGAIN
            ears.open()
            return ears.listening
        return False

    async def _until_next_scan(self, ears: Ears) -> None:
        """Deal with single files as they are heard of, or settle, until it is time to look at everything."""
        deadline = trio.current_time() + self._scan_interval
        stillness = self._drafter.stillness
        while self.trouble is None:
            due = stillness.next_due()
            with trio.move_on_at(deadline if due is None else min(due, deadline)):
                await ears.wait()
            heard = ears.take()
            now = trio.current_time()
            if now >= deadline or heard.flood:
                return
            await self._pass((heard.names.union(stillness.due(now)), heard.finished))
        await trio.sleep_until(deadline)

    async def _pass(self, some: tuple[set[str], set[str]] | None) -> Pass:
        result = Pass()
        async with self._turn:
            try:
                if some is None:
                    await self._intake.all(result)
                else:
                    await self._intake.some(*some, result)
            except OSError as error:
                result.trouble = f"{error.filename2 or error.filename or self._jobs}: {error.strerror}"
            except IndexTrouble as error:
                result.trouble = str(error)
            self._tell(result.trouble)
        return result

    def _tell(self, trouble: str | None) -> None:
        if trouble is not None and trouble != self.trouble:
            _log.error("no job files are taken until this is mended; they stay where they are", reason=trouble)
        elif trouble is None and self.trouble is not None:
            _log.info("job files are taken again")
        self.trouble = trouble


def _on_shared_mount(folder: Path) -> bool:
    mount = mount_of(folder)
    return mount is not None and mount.shared
