"""The roof: the one place that sees the whole configuration. It opens everything and closes it in the right order.

From the outside in: locks, index, gallery, stages, intake. At the end the intake stops first, then the starts, then the
uploads; what is not finished by then is found again at the next start.
"""

import gc
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage

import structlog
import trio

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.gallery.addresses import listening_at
from pipeline.gallery.tokens import Tokens
from pipeline.inbox.counts import Pass
from pipeline.inbox.disk import Folders
from pipeline.inbox.door import Inbox
from pipeline.inbox.intake import Outside
from pipeline.model import Pulse, State, Trouble
from pipeline.opening import Openers, opened
from pipeline.orders.desk import Desk
from pipeline.orders.stage import Orders
from pipeline.orders.steward import Steward
from pipeline.stages import Parts, Stages
from pipeline.tools.files import sweep_drafts
from pipeline.tools.locks import Plate, hold
from pipeline.tools.log import tell_what_was_held_back
from pipeline.tools.readiness import READY, STOPPING, tell
from pipeline.tools.room import return_large_blocks
from pipeline.tools.state_folder import prepare_state

log = structlog.get_logger(__name__)

COMMANDS = 30.0  # seconds that a start waits for a command that is at work here
LOOKS = 0.1  # seconds between two looks whether all is worked off


@dataclass(frozen=True, slots=True)
class Started:
    """What is known once everything is up: where the gallery listens, and who may look."""

    port: int | None
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    ended: Mapping[State, int] = field(default_factory=dict)  # images, by how they ended during the run
    rejected: int = 0  # files
    waiting: bool = False  # something is left to do

    @property
    def exit_code(self) -> int:
        """What `run --once` leaves with: 1 where anybody should look."""
        spoilt = self.ended.get(State.PLACEHOLDER, 0) + self.ended.get(State.FAILED, 0)
        return 1 if spoilt or self.rejected or self.waiting else 0


async def run(
    config: Config,
    *,
    once: bool = False,
    patience: float = 300.0,
    started: Callable[[Started], None] = lambda _: None,
    stop: trio.Event | None = None,
    openers: Openers | None = None,
) -> Outcome:
    """Work until SIGTERM, Ctrl-C or `stop`; with `once` until what is there is worked off.

    Args:
        config: what `pipeline.yaml` and the environment say.
        once: end when nothing is left to do, or all that is left has waited `patience` seconds for something down.
        patience: seconds.
        started: told when everything is up.
        stop: set by a caller in the same process to end in an orderly way.
        openers: what a test replaces.

    Raises:
        UserError: another daemon holds a folder, the port is taken, the configuration cannot be used.
        IndexTrouble, SpoolTrouble: the index or the spool cannot be used.
    """
    return_large_blocks()
    gc.freeze()  # what was imported stays: no collection need look at it again
    prepare_state(config.state)
    config = config if once else listening_at(config)
    try:
        with hold(config.state, patience=COMMANDS) as plate, hold(config.jobs):
            await trio.to_thread.run_sync(_sweep, config.jobs)
            async with opened(config, openers or Openers()) as parts:
                roof = _Roof(config, parts, trio.Event() if stop is None else stop)
                roof.say_on(plate)
                return await roof.work(once=once, patience=patience, started=started)
    except BaseExceptionGroup as group:
        raise _the_one(group) or group from None


def _sweep(jobs: Path) -> None:
    """Remove what a crash left half-written; where that cannot be done, the stages will say what is wrong there."""
    for name in ("done", "rejected"):
        with suppress(OSError):
            sweep_drafts(jobs / name)


class _Roof:
    """One run of the daemon."""

    def __init__(self, config: Config, parts: Parts, stop: trio.Event) -> None:
        self._config = config
        self._catalogue = parts.catalogue
        self._stop = stop
        self._stages = Stages(parts)
        self._orders = Orders(Desk(config.state), Steward(parts, self._stages).carry_out)
        outside = Outside(Folders(config.jobs), parts.ledger, self._stages.accepted, parts.clock)
        self._inbox = Inbox(outside, rules=config.rules(), settle=config.settle, scan_interval=config.scan_interval)
        self._stages.board.watch(self._intake_trouble)
        self._stages.board.watch(self._stuck_files)
        self._stages.board.watch(self._deafness)

    def say_on(self, plate: Plate) -> None:
        """Keep the lock's plate true: `status` reads it where the index can say nothing, its disk being full."""
        self._stages.board.told = lambda troubles: plate.say("; ".join(f"{one.what}: {one.reason}" for one in troubles))

    async def work(self, *, once: bool, patience: float, started: Callable[[Started], None]) -> Outcome:
        tokens = Tokens(self._config.state / "tokens")
        outcome = Outcome(waiting=True)  # so it stays where a second signal cuts the end short
        async with trio.open_nursery() as outer:
            outer.start_soon(tell_what_was_held_back)
            await outer.start(self._heed_signals, outer.cancel_scope)
            port = await outer.start(self._serve, tokens) if self._config.gallery.enabled and not once else None
            await self._stages.weather.first_look()
            async with trio.open_nursery() as inner:
                await inner.start(self._stages.run, self._stop)
                started(Started(port, tokens))
                tell(READY, os.environ)
                log.info("started", jobs=str(self._config.jobs), port=port)
                async with trio.open_nursery() as desk:
                    await desk.start(self._orders.run)
                    dropped = await self._work_off(patience) if once else await self._take_files()
                    desk.cancel_scope.cancel()
                self._stop.set()
                tell(STOPPING, os.environ)
            left = bool(dropped.left or dropped.stuck or dropped.trouble) or not self._stages.settled()
            outcome = Outcome(dict(self._stages.ended), self._inbox.totals.rejected, waiting=left)
            outer.cancel_scope.cancel()
        log.info("ended", waiting=outcome.waiting)
        return outcome

    async def _take_files(self) -> Pass:
        async with trio.open_nursery() as intake:
            intake.start_soon(self._inbox.run)
            await self._cut_short(intake.cancel_scope)
        return Pass()

    async def _work_off(self, patience: float) -> Pass:
        """Return when nothing is left, or all that is left has waited for `patience` seconds."""
        dropped = await self._drain(patience)
        moved_at = trio.current_time()
        while not self._stop.is_set() and not self._stages.settled():
            if not self._stages.stuck():
                moved_at = trio.current_time()
            elif trio.current_time() - moved_at >= patience:
                log.warning("what is left goes on at the next start", waits_for=self._stages.hindrances())
                break
            with trio.move_on_after(LOOKS):
                await self._stop.wait()
        with trio.move_on_after(patience):
            await self._let_notify()
        return dropped

    async def _drain(self, patience: float) -> Pass:
        """Take what is there, unless the end comes first: trouble in the folder must not hold it up."""
        dropped = Pass(trouble="ended before all files were looked at")
        async with trio.open_nursery() as intake:
            intake.start_soon(self._cut_short, intake.cancel_scope)
            dropped = await self._inbox.drain(patience=patience)
            intake.cancel_scope.cancel()
        return dropped

    async def _cut_short(self, scope: trio.CancelScope) -> None:
        await self._stop.wait()
        scope.cancel()

    async def _let_notify(self) -> None:
        """Return once everybody who is due to be told has been tried; what failed is left for the next start."""
        while not self._stop.is_set() and not self._stages.notifying.at_rest():
            with trio.move_on_after(LOOKS):
                await self._stop.wait()

    def _intake_trouble(self) -> Trouble | None:
        reason = self._inbox.hindrance
        return None if reason is None else Trouble("intake", reason)

    def _stuck_files(self) -> Trouble | None:
        reason = self._inbox.stuck
        return None if reason is None else Trouble("files", reason)

    def _deafness(self) -> Trouble | None:
        reason = self._inbox.deaf
        return None if reason is None else Trouble("notification", reason)

    def _pulse(self) -> Pulse:
        totals = self._inbox.totals
        return Pulse(
            intake=self._inbox.hindrance,
            disk=self._stages.brake.held_by("disk"),
            deaf=self._inbox.deaf,
            taken=totals.taken,
            rejected=totals.rejected,
            duplicates=totals.duplicates,
            lag=totals.lag,
            passed_at=totals.passed_at,
            free_bytes=disk_usage(self._config.state).free,
        )

    async def _serve(self, tokens: Tokens, *, task_status: trio.TaskStatus[int]) -> None:
        # A fifth of a start's time, which --once and a daemon without a gallery do without.
        from pipeline.gallery.apart import serve_apart  # noqa: PLC0415
        from pipeline.gallery.opening import open_gallery  # noqa: PLC0415

        app = open_gallery(self._config, self._catalogue, tokens, pulse=self._pulse)
        gallery = self._config.gallery
        leaving = self._catalogue.close
        await serve_apart(app, gallery.host, gallery.port, stop=self._stop, leaving=leaving, task_status=task_status)

    async def _heed_signals(self, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
        """End in an orderly way at the first SIGTERM or Ctrl-C, and at once at the second."""
        if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
            task_status.started()
            return
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                log.info("ending", signal=signal.Signals(number).name)
                if self._stop.is_set():
                    self._stages.worker.hurry(0)
                    everything.cancel()
                self._stop.set()


def _the_one(group: BaseExceptionGroup[BaseException]) -> PipelineError | None:
    """Return the error of ours that a nursery has wrapped, where it holds nothing else."""
    first: PipelineError | None = None
    for error in group.exceptions:
        one = _the_one(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(one, PipelineError):
            return None
        first = first or one
    return first
