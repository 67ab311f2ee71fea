"""The same files opened again: after a crash at every recorded step, and with the world changed meanwhile."""

import pytest
import trio

from pipeline.errors import AttemptFailed, InvalidRequest
from pipeline.model import State
from tests.support.index import images_of
from tests.support.scripted import ScriptedBackend, ScriptedStore, house, job


def world(**settings):
    return Picky(**settings), ScriptedStore(takes=1.0)


class Picky(ScriptedBackend):
    """Refuses one seed for good, and fails the first attempt at another, whatever was asked before."""

    def __init__(self, **settings):
        super().__init__(takes=2.0, **settings)
        self.failed = False

    async def submit(self, request):
        if request.seed == 2:
            await trio.lowlevel.checkpoint()
            raise InvalidRequest("no such sampler", code="invalid")
        return await super().submit(request)

    async def collect(self, request, submission):
        made = await super().collect(request, submission)
        if request.seed == 1 and not self.failed:
            self.failed = True
            raise AttemptFailed("out of memory", code="failed")
        return made


async def run_once(folder, pod, store, *, crash_after=None, first):
    async with house(folder, {"pod": pod}, store, crash_after=crash_after) as home:
        if first:
            await home.accept(job(images=3))
        await home.settled()
        return images_of(home.ledger, "j1"), home.spool.total, getattr(home.ledger, "recorded", None)


@pytest.mark.parametrize(
    "settings", [{}, {"at_once": True, "blind": True}, {"blind": True}], ids=["tells", "answers at once", "cannot tell"]
)
async def test_a_crash_after_any_recorded_step_loses_and_doubles_nothing(tmp_path, autojump_clock, settings):
    pod, store = world(**settings)
    *_, steps = await run_once(tmp_path / "whole", pod, store, crash_after=10_000, first=True)
    assert len(steps) >= 10
    for n in range(1, len(steps) + 1):
        pod, store = world(**settings)
        folder = tmp_path / str(n)
        assert await run_once(folder, pod, store, crash_after=n, first=True) is None
        await trio.sleep(5)
        images, spooled, _ = await run_once(folder, pod, store, first=False)
        told = [(image.number, image.state) for image in images]
        assert told == [(1, State.DONE), (2, State.PLACEHOLDER), (3, State.DONE)], (n, steps[n - 1])
        doubtful = sum(image.doubtful for image in images)
        assert doubtful <= (2 if settings else 0), (n, steps[n - 1])
        paid = len(pod.starts)
        assert paid <= 2 + 1 + doubtful, (n, steps[n - 1])
        assert spooled == 0
        assert len(store.items) == 3
        done = folder / "jobs/done"
        assert sorted(path.name for path in done.iterdir()) == ["j1.result.json", "j1.yaml"]
