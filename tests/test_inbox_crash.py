"""The world ends between any two steps of a pass; whatever is left, the next start takes every file exactly once."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copy

import pytest

from pipeline.inbox.disk import Disk
from tests.support.door import open_stand, spec

BAD = "character: Mary\nprompt: x\nquantty: 3\n"
FILES = {
    "a.yaml": spec("a"),
    "b.yaml": spec("b", id="own"),
    "c.yaml": BAD,
    "d.yaml": spec("b", id="own"),
    "e.yaml": spec("other", id="own"),
    "20250728-120000-f-ab12.yaml": spec("f"),
    "g.yaml": "",
    "h.yaml": "character: {id: mary, owner: thief}\nprompt: stolen\n",
}


@pytest.fixture
async def index(tmp_path):
    """An empty index: making it anew for every crash would cost more than the crash."""
    async with open_stand(tmp_path) as stand:
        return stand.index


class TheEnd(BaseException):
    """Nothing catches this, as nothing catches `kill -9`."""


@dataclass
class World:
    """Counts steps that leave a trace, and ends before one of them (which is: after the one before)."""

    end: int = 10**9
    steps: int = 0
    unflushed: list[tuple[Path, Path, set[Path]]] = field(default_factory=list)

    def step(self, call: Callable, *args):
        self.steps += 1
        if self.steps == self.end:
            raise TheEnd
        return call(*args)

    def disk(self) -> Disk:
        real = Disk()
        return Disk(
            make_folder=real.make_folder,
            rename=lambda *args: self.step(self._rename, *args),
            flush=lambda *args: self.step(self._flush, *args),
            write=lambda *args: self.step(real.write, *args),
            leases=True,
        )

    def lose_power(self) -> None:
        """Undo the renames whose folders were not flushed, latest first."""
        for source, target, _ in reversed(self.unflushed):
            target.rename(source)

    def _rename(self, source: str, target: str) -> None:
        Disk().rename(source, target)
        moved = Path(source), Path(target)
        self.unflushed.append((*moved, {path.parent for path in moved}))

    def _flush(self, folder: Path) -> None:
        for _, _, dirty in self.unflushed:
            dirty.discard(folder)
        self.unflushed = [rename for rename in self.unflushed if rename[2]]

    def register(self, ledger):
        return Register(self, ledger)


class Register:
    """The real ledger; its commit is a step like the others."""

    def __init__(self, world: World, ledger) -> None:
        self._world = world
        self._ledger = ledger
        self.known_among = ledger.known_among

    async def accept(self, jobs):
        self._world.step(lambda: None)
        verdicts = await self._ledger.accept(jobs)
        self._world.step(lambda: None)
        return verdicts


async def pass_until_the_end(folder: Path, world: World) -> bool:
    """Make passes; true where the world outlived them."""
    try:
        async with open_stand(folder, disk=world.disk(), register=world.register) as stand:
            await stand.inbox.drain(patience=5)
    except TheEnd:
        return False
    return True


def drop_all(jobs: Path) -> None:
    jobs.mkdir(parents=True)
    for n, (name, text) in enumerate(FILES.items()):
        (jobs / name).write_text(text)
        os.utime(jobs / name, (n, n))


async def assert_all_taken_once(folder: Path) -> None:
    async with open_stand(folder) as stand:
        result = await stand.inbox.drain(patience=5)
        assert (result.left, result.stuck, result.trouble) == (0, 0, None)
        assert sorted(stand.prompts()) == ["a", "b", "f"]
        assert stand.waiting() == []
        active = stand.lies_in("active")
        assert len(active) == 3
        assert {"own.yaml", "20250728-120000-f-ab12.yaml"} < set(active)
        assert [name[:-5] for name in active] == sorted(stand.ids())
        aside = [name for name in stand.lies_in("rejected") if not name.endswith(".error.txt")]
        assert {(stand.jobs / "rejected" / name).read_text() for name in aside} == {
            FILES[name] for name in ("c.yaml", "e.yaml", "g.yaml", "h.yaml")
        }
        assert {name.removesuffix(".yaml") + ".error.txt" for name in aside} <= set(stand.lies_in("rejected"))
        assert stand.lies_in("duplicate") == ["d.yaml"]
        assert not list((stand.jobs / "rejected").glob(".*"))


async def count_steps(folder: Path) -> int:
    drop_all(folder / "jobs")
    world = World()
    assert await pass_until_the_end(folder, world)
    await assert_all_taken_once(folder)
    return world.steps


@pytest.mark.parametrize("power", ["kept", "lost"])
async def test_a_crash_at_any_step_neither_loses_nor_doubles_a_file(autojump_clock, tmp_path, index, power):
    (tmp_path / "whole").mkdir()
    steps = await count_steps(tmp_path / "whole")
    assert steps > 20
    for end in range(1, steps + 1):
        folder = tmp_path / str(end)
        drop_all(folder / "jobs")
        copy(index, folder)
        world = World(end)
        assert not await pass_until_the_end(folder, world)
        if power == "lost":
            world.lose_power()
        await assert_all_taken_once(folder)


async def crash_twice(tmp_path, index, firsts, seconds):
    for first in firsts:
        for second in seconds:
            folder = tmp_path / f"{first}-{second}"
            drop_all(folder / "jobs")
            copy(index, folder)
            killed = World(first)
            await pass_until_the_end(folder, killed)
            world = World(second, unflushed=killed.unflushed)
            await pass_until_the_end(folder, world)
            world.lose_power()
            await assert_all_taken_once(folder)


async def test_a_crash_during_recovery_from_a_crash_is_recovered_too(autojump_clock, tmp_path, index):
    await crash_twice(tmp_path, index, range(2, 40, 6), range(1, 30, 4))


@pytest.mark.torture
@pytest.mark.parametrize("part", range(4))
async def test_a_crash_at_any_step_of_the_recovery_from_one_is_recovered_too(autojump_clock, tmp_path, index, part):
    await crash_twice(tmp_path, index, range(1 + part, 40, 4), range(1, 30))
