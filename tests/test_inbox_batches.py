"""Many files at once go in batches."""

import errno
import os

import pytest

from pipeline.errors import IndexTrouble
from pipeline.inbox.drafting import FILES_AT_ONCE
from tests.support.door import open_stand, spec

LARGE = "# " + "x" * 700_000 + "\n"  # a comment: three such files fill a batch


def put_two_batches(stand):
    for n in range(5):
        os.utime(stand.put(f"{n}.yaml", spec(f"p{n}") + LARGE), (1, 1))


def registered(accept):
    """Put `accept(ledger, jobs)` in the place of the ledger's own."""

    class Register:
        def __init__(self, ledger):
            self._ledger = ledger
            self.known_among = ledger.known_among

        async def accept(self, jobs):
            return await accept(self._ledger, jobs)

    return Register


async def test_many_files_go_in_batches_and_keep_their_order(autojump_clock, tmp_path):
    async with open_stand(tmp_path) as stand:
        wanted = [f"{n:04}" for n in range(FILES_AT_ONCE + 20)]
        for name in wanted:
            os.utime(stand.put(f"{name}.yaml", spec(f"p{name}")), (1, 1))
        assert (await stand.inbox.scan()).taken == len(wanted)
        assert stand.prompts() == [f"p{name}" for name in wanted]
        assert stand.accepted == stand.ids()


async def test_a_batch_ends_with_large_jobs_so_that_memory_stays_bounded(autojump_clock, tmp_path):
    sizes = []

    async def accept(ledger, jobs):
        sizes.append(len(jobs))
        return await ledger.accept(jobs)

    async with open_stand(tmp_path, register=registered(accept)) as stand:
        for n in range(5):
            stand.put(f"{n}.yaml", spec(quantity=9_000))
        assert (await stand.inbox.scan()).taken == 5
    assert sizes == [3, 2]


@pytest.mark.parametrize("ill", ["index", "folder"])
async def test_trouble_in_the_second_batch_loses_nothing(autojump_clock, tmp_path, ill):
    troubles = [ill]
    done = []

    async def run(call, *args):
        if call.__name__ == "draft" and done and troubles == ["folder"]:
            raise OSError(errno.EIO, "the disk is broken", "jobs")
        return call(*args)

    async def accept(ledger, jobs):
        if done and troubles == ["index"]:
            raise IndexTrouble("the index is full")
        done.append(len(jobs))
        return await ledger.accept(jobs)

    async with open_stand(tmp_path, run_sync=run, register=registered(accept)) as stand:
        put_two_batches(stand)
        result = await stand.inbox.scan()
        assert result.trouble == {"index": "the index is full", "folder": "jobs: the disk is broken"}[ill]
        assert result.taken == done[0] == 3
        troubles.clear()
        assert (await stand.inbox.scan()).taken == 2
        assert stand.prompts() == ["p0", "p1", "p2", "p3", "p4"]
