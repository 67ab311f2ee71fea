"""Whatever people and programs do to the folder, in whatever order: each finished file is taken exactly once."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.inbox.disk import Disk
from tests.support.door import FOLDERS, open_stand, spec

NAMES = ("a.yaml", "c.json", "20250728-120000-d-ab12.yaml")
SETTLE = 0.5

NAME = st.sampled_from(NAMES)
ACTIONS = st.one_of(
    *(st.tuples(st.just(action), NAME) for action in ("drop", "begin", "write on", "finish", "touch", "delete", "bad")),
    st.tuples(st.just("rename"), NAME, NAME),
    st.tuples(st.just("crash"), st.integers(1, 6)),
)
PAUSES = st.sampled_from([None, 0, 0, 0.1, SETTLE, SETTLE])  # seconds before the next look; None: no look


class TheEnd(BaseException):
    """Nothing catches this, as nothing catches `kill -9`."""


class People:
    """Acts on the folder, and remembers what must and what may have been taken."""

    def __init__(self, jobs: Path) -> None:
        self.jobs = jobs
        self.complete: set[str] = set()  # must be taken, once
        self.gone: set[str] = set()  # may have been taken before they were replaced or deleted, at most once
        self.bad = 0
        self._open: dict[str, tuple[int, int, bytes]] = {}
        self._n = 0

    def act(self, action: str, name: str, other: str = "") -> None:
        {
            "drop": self.drop,
            "begin": self.begin,
            "write on": self.write_on,
            "finish": self.finish,
            "touch": self.touch,
            "delete": self.delete,
            "bad": self.drop_bad,
        }[action](name)

    def new_text(self, name: str) -> tuple[str, bytes]:
        self._n += 1
        token = f"p{self._n}-complete"
        if name.endswith(".json"):
            return token, f'{{"character": "Mary", "prompt": "{token}"}}'.encode()
        return token, spec(token).encode()

    def drop(self, name: str) -> None:
        if name in self._open:
            return
        self.replaced(name)
        token, text = self.new_text(name)
        (self.jobs / ".draft").write_bytes(text)
        (self.jobs / ".draft").rename(self.jobs / name)
        self.complete.add(token)

    def drop_bad(self, name: str) -> None:
        """Not of the shape of a job at all, in either language."""
        if name not in self._open and not (self.jobs / name).exists():
            (self.jobs / name).write_bytes(b"[1, 2")
            self.bad += 1

    def begin(self, name: str) -> None:
        if name in self._open or (self.jobs / name).exists():
            return
        token, text = self.new_text(name)
        file = os.open(self.jobs / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(file, text[: len(text) // 2])
        self._open[name] = (file, len(text) // 2, text)
        self.complete.add(token)

    def write_on(self, name: str) -> None:
        if name in self._open:
            file, done, text = self._open[name]
            more = min(done + 3, len(text) - 1)
            os.write(file, text[done:more])
            self._open[name] = (file, more, text)

    def finish(self, name: str) -> None:
        if name in self._open:
            file, done, text = self._open.pop(name)
            os.write(file, text[done:])
            os.close(file)

    def delete(self, name: str) -> None:
        if name not in self._open:
            self.replaced(name)
            (self.jobs / name).unlink(missing_ok=True)

    def rename(self, name: str, other: str) -> None:
        """Within the folder, open or not: the writer goes on under the new name."""
        ending = (".json" in name) == (".json" in other)
        if name != other and other not in self._open and (self.jobs / name).exists() and ending:
            self.replaced(other)
            (self.jobs / name).rename(self.jobs / other)
            if name in self._open:
                self._open[other] = self._open.pop(name)

    def replaced(self, name: str) -> None:
        path = self.jobs / name
        if not path.exists():
            return
        text = path.read_text()
        self.bad -= text == "[1, 2"
        for token in [token for token in self.complete if token in text]:
            self.complete.discard(token)
            self.gone.add(token)

    def stop(self) -> None:
        for name in list(self._open):
            self.finish(name)

    def touch(self, name: str) -> None:
        if (self.jobs / name).exists():
            os.utime(self.jobs / name)


def dying_after(steps: int) -> Disk:
    """A world that ends at the n-th operation."""
    left = [steps]

    def counted(call):
        def step(*args):
            left[0] -= 1
            if left[0] <= 0:
                raise TheEnd
            call(*args)

        return step

    real = Disk()
    return Disk(rename=counted(real.rename), flush=counted(real.flush), write=counted(real.write), leases=True)


async def play(folder: Path, actions: list[tuple]) -> None:
    (folder / "jobs").mkdir()
    people = People(folder / "jobs")
    disk = Disk(leases=True)
    left = list(actions)
    try:
        while left:
            try:
                async with open_stand(folder, disk=disk, settle=SETTLE) as stand:
                    disk = await go_on(stand, people, left)
            except TheEnd:
                disk = Disk(leases=True)
        people.stop()
        await settle_accounts(folder, people)
    finally:
        people.stop()


async def go_on(stand, people: People, left: list[tuple]) -> Disk:
    """Act until nothing is left to do, or the next world is one that ends."""
    while left:
        (action, *values), pause = left.pop(0)
        if action == "crash":
            return dying_after(*values)
        if action == "rename":
            people.rename(*values)
        else:
            people.act(action, *values)
        if pause is not None:
            await trio.sleep(pause)
            await stand.inbox.scan()
    return Disk(leases=True)


async def settle_accounts(folder: Path, people: People) -> None:
    async with open_stand(folder, settle=SETTLE) as stand:
        result = await stand.inbox.drain(patience=30)
        assert (result.left, result.stuck, result.trouble) == (0, 0, None)
        prompts = stand.prompts()
        assert len(prompts) == len(set(prompts))
        assert people.complete <= set(prompts) <= people.complete | people.gone
        assert stand.waiting() == []
        assert sorted(name.rpartition(".")[0] for name in stand.lies_in("active")) == sorted(stand.ids())
        rejected = [name for name in stand.lies_in("rejected") if not name.endswith(".error.txt")]
        assert [(stand.jobs / "rejected" / name).read_bytes() for name in rejected] == [b"[1, 2"] * len(rejected)
        assert len(rejected) >= people.bad
        assert {path.name for path in stand.jobs.iterdir() if path.is_dir()} == set(FOLDERS)


@pytest.fixture(scope="module")
def index():
    """An empty index: making it anew for every example would cost more than the example."""
    with tempfile.TemporaryDirectory() as folder:

        async def make():
            async with open_stand(Path(folder)):
                pass

        trio.run(make)
        yield Path(folder) / "index.db"


def play_many(index, stories, **more):
    @settings(max_examples=stories, deadline=None, **more)
    @given(actions=st.lists(st.tuples(ACTIONS, PAUSES), min_size=8, max_size=40))
    def played(actions):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(index, folder)
            trio.run(play, Path(folder), actions, clock=trio.testing.MockClock(autojump_threshold=0))

    played()


@pytest.mark.long
def test_each_finished_file_is_taken_exactly_once(index):
    play_many(index, 40)


@pytest.mark.torture
def test_each_finished_file_is_taken_exactly_once_in_many_stories(index):
    play_many(index, 500, derandomize=False, print_blob=True)
